/* What a matrix should be, to put out what the float model does from the inputs that the quantized
 * one has. */
#ifndef ENGINE_FIT_TARGET_H
#define ENGINE_FIT_TARGET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "engine/fit/moments.h"

struct threads;

/* Moments over pairs of inputs of one product, x of the float model and y of the quantized one. */
struct target {
    size_t n;
    double *c; /* owned: (n, n) sums of x y^T; NULL: none is gathered */
};

/** target_begin() - inputs of n numbers. 0 or -ENOMEM; target_deinit() either way */
MUST_USE int target_begin(struct target *t, size_t n);
void target_deinit(struct target *t);

/** target_add() - n_rows pairs; x without gaps, y `stride` floats apart */
void target_add(struct target *t, struct threads *threads, const float *x, const float *y,
                size_t stride, size_t n_rows);

/**
 * target_move() - rows of weights to those whose products with y come nearest to the products of
 * the rows as they were with x, by least squares
 * @m:   H of y, factored; what is added to its diagonal holds the rows where they were
 * @w:   (n_rows, n)
 * @ret: (n_rows, n) written
 *
 * w' = (w C + damp w) H^-1, with C = mean(x y^T). That a matrix may mend what those before it have
 * lost is the idea of quantization error propagation, arXiv 2504.09629.
 * Return: 0 or -ENOMEM.
 */
MUST_USE int target_move(const struct target *t, const struct moments *m, struct threads *threads,
                         const float *w, size_t n_rows, float *ret);

#endif
