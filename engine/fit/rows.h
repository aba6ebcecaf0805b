/* The rows of one matrix in a grid's format, fitted to the inputs that it will get. */
#ifndef ENGINE_FIT_ROWS_H
#define ENGINE_FIT_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/fit/grid.h"
#include "engine/fit/moments.h"

struct threads;

/* Sums of squares over a matrix. */
struct fit_loss {
    double power, lost, rounded;             /* of weights, of what they lose, and by rounding */
    double out_power, out_lost, out_rounded; /* the same of the outputs, a mean over the inputs;
                                              * out_power < 0: nobody knows */
};

struct fit_job {
    struct grid grid;
    const struct moments *moments; /* closed; with `propagate` factored, too. Borrowed. */
    const float *w;                /* (n_rows, moments->n) borrowed */
    const float *aim; /* the same for what is best of all without quantizing: target_move(); NULL:
                       * w. Borrowed. */
    size_t n_rows;
    bool propagate; /* pass each weight's error on to those after it in its row */
    bool polish;    /* then change codes and scales as long as the outputs' error shrinks */
    uint8_t *rows;  /* (n_rows) of format_row_bytes(), written */
};

/**
 * fit_rows() - encode a matrix
 *
 * Of each row the best counts, by its outputs' distance under H from those of the aim: rounding,
 * refinement with the diagonal of H for weights, and what propagation and polishing make of it. So
 * no row is worse than its rounding. Rows do not depend on each other, nor on the number of
 * threads.
 *
 * Propagation is GPTQ (arXiv 2210.17323, equations 2 and 3 with the Cholesky form of section 3.3;
 * the idea is Optimal Brain Surgeon's): column by column, a weight w is replaced by its code's q,
 * and (w - q) / V[j][j] times row j of V is taken from the weights that follow. A block's scale is
 * chosen when its first column is reached, from the weights as they are by then, each error counted
 * 1 / V[j][j]^2, which is what it costs when the weights behind it may still answer to it.
 *
 * Polishing is coordinate descent on e^T H e with e = w - d c, and r = H e kept up to date: a code
 * that changes the weight by t changes the error by t^2 H[j][j] - 2 t r[j], and a block's best
 * change of scale is (c r) / (c H c) over its columns.
 *
 * Memory: about 50 bytes a column for each of eight rows and each thread.
 * Return: 0 or -ENOMEM.
 */
MUST_USE int fit_rows(struct threads *t, const struct fit_job *job, struct fit_loss *ret);

#endif
