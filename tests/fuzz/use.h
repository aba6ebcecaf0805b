/* What fuzz targets do with a thing that opened: everything its users may do. Abort on an id or a
 * choice out of range; what reads out of bounds is the sanitizers' to find. */
#ifndef TESTS_FUZZ_USE_H
#define TESTS_FUZZ_USE_H

#include <stddef.h>
#include <stdint.h>

struct model;
struct vocab;

/** use_model() - read its facts and, unless it is large, generate a few tokens */
void use_model(const struct model *model);

/** use_vocab() - text to ids and back, whole and streaming. The text is the tail of the n bytes. */
void use_vocab(const struct vocab *v, const uint8_t *data, size_t n);

#endif
