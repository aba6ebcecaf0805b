/* The weight formats a second time, one weight at a time, as their authors' descriptions read: what
 * the engine's decoders, packers and kernels are held to where no reference data is at hand. */
#ifndef TESTS_SUPPORT_LAYOUTS_H
#define TESTS_SUPPORT_LAYOUTS_H

#include <stddef.h>
#include <stdint.h>

/**
 * layout_weight() - weight i of a GGUF row
 * @name:  of a format that packs its weights: "Q8_0", "TQ1_0", "I2_S" ...
 * @row:   the row's bytes
 * @scale: of the tensor, for I2_S
 * @ret:   written; products are rounded to float in the order of the formula
 *
 * Return: 0, or -1 for a name that it does not know.
 */
int layout_weight(const char *name, const uint8_t *row, float scale, size_t i, float *ret);

#endif
