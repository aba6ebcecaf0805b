/* How much to scale the columns of the matrices that share an input: what AWQ searches. */
#ifndef ENGINE_FIT_SCALING_H
#define ENGINE_FIT_SCALING_H

#include <stddef.h>

#include "base/compiler.h"
#include "engine/format.h"

struct engine;

#define SCALING_MATRICES_MAX 3u

struct scaling_matrix {
    const float *w; /* (n_rows, n_cols) borrowed */
    size_t n_rows;
    enum format format;
};

struct scaling {
    struct engine *engine; /* borrowed */
    struct scaling_matrix matrices[SCALING_MATRICES_MAX];
    size_t n_matrices, n_cols;
    const float *x; /* (n_x, n_cols) some inputs; borrowed */
    size_t n_x;
    const double *size; /* (n_cols) mean of |x| over all inputs; borrowed */
};

/* Squared differences of the matrices' outputs from those in floats, on the inputs x. */
struct scaling_loss {
    double power, plain, scaled;
};

/**
 * scaling_search() - columns times s and inputs divided by it
 * @s:   (n_cols) written: all 1 where no scaling is better than none
 *
 * AWQ (arXiv 2306.00978, section 3.2 and equation 5): s = size^a, brought around 1, with the a of
 * 0, 1/20 .. 1 whose quantized outputs are nearest to the float ones. Both sides of the product are
 * quantized here as they will be when it is computed, the inputs to int8 in blocks of 32, so that
 * large inputs that would cost their neighbours digits count as well.
 * Return: 0 or -ENOMEM.
 */
MUST_USE int scaling_search(const struct scaling *p, float *s, struct scaling_loss *ret);

#endif
