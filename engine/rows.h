/* Work on the rows (tokens) of a step that both halves of a layer share: handing it out, norms, and
 * quantizing what goes into a product. */
#ifndef ENGINE_ROWS_H
#define ENGINE_ROWS_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/step.h"
#include "engine/threads.h"

#define ALONE_FLOATS ((size_t)16 << 10) /* work on fewer floats than this stays with the caller */

/** rows_share() - call fn for every item, on the pool unless there is too little to do (`alone`) */
void rows_share(struct stepper *st, threads_fn *fn, void *ctx, size_t n_items, bool alone);

/** rms_scale() - 1 / sqrt(mean(x^2) + eps), what RMS norm multiplies x by (arXiv 1910.07467) */
float rms_scale(const struct kernels *k, const float *x, size_t n, float eps);

/** rms_norm() - x * rms_scale() * w; ret may be x */
void rms_norm(const struct kernels *k, const float *x, const float *w, size_t n, float eps,
              float *ret);

/* What matrices want of the input they share. */
struct wanted {
    unsigned kinds;         /* bits of act_wanted() */
    const float *threshold; /* of signs; else NULL */
};

/**
 * rows_quantize() - columns [first, first + n) of one row's input, as they are wanted; for kinds
 * with one scale a token, the columns are all there are
 * @x: the row, which kinds that are widened are left in
 */
void rows_quantize(const struct stepper *st, float *x, size_t row, size_t first, size_t n,
                   struct wanted wanted);

/**
 * rows_expect() - n floats will be read soon: a norm's weights, which nobody has read since the
 * last step, come from memory while a product or attention runs
 * @x: may be NULL
 */
void rows_expect(const float *x, size_t n);

/** rows_input() - the input of a product: floats with this stride, and what rows_quantize() made of
 * them */
struct input rows_input(const struct stepper *st, const float *x, size_t stride);

#endif
