/* Second moments of a product's inputs, H = mean(x x^T): what an error e in a row of the matrix
 * costs its output is e^T H e. */
#ifndef ENGINE_FIT_MOMENTS_H
#define ENGINE_FIT_MOMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

struct threads;

/* 12 n^2 bytes, of which moments_begin() takes all. Results do not depend on the number of
 * threads: each number is summed by one of them, in one order. */
struct moments {
    size_t n;
    double *v;       /* owned: (n, n) sums below the diagonal and on it, later the factor above */
    float *h;        /* owned: (n, n) H, symmetric, with `damp` on its diagonal */
    double *scratch; /* owned: (n) */
    double damp;
    uint64_t count; /* inputs */
};

/** moments_begin() - of inputs of n numbers; none yet. 0 or -ENOMEM; moments_deinit() either way */
MUST_USE int moments_begin(struct moments *m, size_t n);
void moments_deinit(struct moments *m);

/** moments_add() - n_rows inputs, `stride` floats apart */
void moments_add(struct moments *m, struct threads *t, const float *x, size_t stride,
                 size_t n_rows);

/**
 * moments_close() - H of what was added; no more can be
 *
 * A hundredth of the mean of the diagonal is added to it (arXiv 2210.17323, section 3.3): with
 * fewer inputs than n there are directions that none of them has, and the error in these would cost
 * nothing.
 * Return: false when an input was not finite, or all are zero.
 */
MUST_USE bool moments_close(struct moments *m);

/**
 * moments_factor() - V in m->v, on the diagonal and above: the inverse of H is V^T V
 *
 * Return: false when H is not positive definite, even with more added to its diagonal.
 */
MUST_USE bool moments_factor(struct moments *m, struct threads *t);

/** moments_apply() - ret = H e for several e at a time; (n_rows, n) both */
void moments_apply(const struct moments *m, const float *e, size_t n_rows, double *ret);

#endif
