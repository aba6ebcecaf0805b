/* Formats as grids: a block of weights is a scale times whole numbers, and both can be chosen. */
#ifndef ENGINE_FIT_GRID_H
#define ENGINE_FIT_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/format.h"

struct grid {
    enum format format;
    size_t block; /* weights of one scale */
    int lo, hi;   /* codes; all between them, but */
    bool no_zero; /* Q1_0 has no 0 */
};

/** grid_of() - false for formats that are none: floats, and those with one scale for a whole row or
 * tensor, which are made for weights that are ternary already */
MUST_USE bool grid_of(enum format f, struct grid *ret);

/** grid_code() - the code whose product with d comes nearest to x; inv is grid_inverse(d) */
int grid_code(const struct grid *g, double inv, double x);
/** grid_inverse() - 1 / d, or 0 where there is none */
double grid_inverse(float d);

/**
 * grid_scale() - a scale for one block, by alternating refinement
 * @x: (block) the weights
 * @a: (block) what the square of each one's error counts, >= 0; NULL: 1
 *
 * Given the scale, each code is the nearest; given the codes, the scale is that of least squares,
 * sum(a x c) / sum(a c c). Both are done in turn until nothing changes, from several scales, since
 * where it ends depends on where it began; the best end counts. The scale of the usual encoder is
 * one of those that are compared, so that what comes out is never worse than rounding. For Q1_0 the
 * codes are the signs and one step is enough: the scale is the weighted mean of |x|.
 *
 * Return: a float that an f16 holds; infinite where the weights are too large.
 */
float grid_scale(const struct grid *g, const double *x, const double *a);

/**
 * grid_store() - scales and codes to a GGUF row
 * @values: (n_cols) scratch
 * @ret:    format_row_bytes()
 */
void grid_store(const struct grid *g, const float *scales, const int8_t *codes, size_t n_cols,
                float *values, uint8_t *ret);

/**
 * grid_refine_row() - a row encoded with grid_scale() and the nearest codes
 * @a: (n_cols) or NULL
 * @scales, @codes: (n_cols / block), (n_cols) written
 */
void grid_refine_row(const struct grid *g, const float *x, const double *a, size_t n_cols,
                     float *scales, int8_t *codes);

#endif
