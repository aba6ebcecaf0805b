/* How likely a model in the engine holds given answers: the other half of greedy.h. */
#ifndef TRAIN_LOOP_LIKELIHOOD_H
#define TRAIN_LOOP_LIKELIHOOD_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/engine.h"

struct likelihood {
    double sum;      /* of -log p, nats */
    size_t n_tokens; /* those foretold */
    size_t n_rows, n_skipped;
};

/** Gives row i as ids, room for n_max: of its prompt and of the answer behind it, with its end.
 * PROMPT_OK, another PROMPT_* (the row is skipped), or a negative errno. */
typedef int likelihood_row_fn(void *arg, size_t i, int32_t *ids, size_t n_max, size_t *ret_prompt,
                              size_t *ret_n);

/**
 * likelihood_run() - -log p of each answer's tokens, each after those before it in its row
 * @model: its weights in memory
 * @n_threads: of the engine; the sums do not depend on it
 *
 * Rows go one by one. Return: 0; -EDOM: logits that are no numbers; another negative errno.
 */
MUST_USE int likelihood_run(const struct model *model, enum kv_type kv, unsigned n_threads,
                            size_t n, likelihood_row_fn *row, void *arg, struct likelihood *ret);

#endif
