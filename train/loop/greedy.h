/* Greedy answers of a model in the engine, to many prompts at once: as the daemon would give them
 * with temperature 0. */
#ifndef TRAIN_LOOP_GREEDY_H
#define TRAIN_LOOP_GREEDY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/strview.h"
#include "engine/engine.h"

struct greedy; /* opaque: an engine, a model's cache and slots for sequences */

struct greedy_options {
    unsigned n_threads; /* of the engine */
    enum kv_type kv;
    size_t n_answer_max; /* tokens of an answer; it is cut there */
};

/** greedy_new() - @model: borrowed until greedy_free(), its weights in memory. 0 or a negative
 * errno */
MUST_USE int greedy_new(struct greedy **ret, const struct model *model,
                        const struct greedy_options *options);
void greedy_free(struct greedy *g);

/** Takes an answer: its text, borrowed for the call, and whether it ended by itself (false: cut at
 * n_answer_max or at the context's end). What it returns other than 0 ends the run. */
typedef int greedy_fn(void *arg, size_t i, struct strview text, bool ended);

/** Gives prompt i as ids, room for n_max: PROMPT_OK, another PROMPT_*, or a negative errno. */
typedef int greedy_prompt_fn(void *arg, size_t i, int32_t *ids, size_t n_max, size_t *ret_n);

/**
 * greedy_run() - answer n prompts, and hand the answers over as they become ready, in any order
 *
 * The largest logit is taken, of equal ones that of the lowest id. An answer does not depend on the
 * other prompts. A prompt that cannot be had (it does not fit, say) gets the answer "", not ended.
 * Return: 0; what @take returned; -EDOM: logits that are no numbers; another negative errno.
 */
MUST_USE int greedy_run(struct greedy *g, size_t n, greedy_prompt_fn *prompt, greedy_fn *take,
                        void *arg);

#endif
