/* Choosing a token from a row of logits. */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

struct step_item;

struct sampler_params {
    float temperature;    /* 0: greedy; 0..10 */
    int32_t top_k;        /* 0: off */
    float top_p;          /* 1: off; in (0, 1] */
    float min_p;          /* 0: off; in [0, 1) */
    float repeat_penalty; /* 1: off; in [0.1, 10]; over the last 64 tokens */
    uint64_t seed;
};

#define SAMPLER_LOGPROBS_MAX 20u
#define SAMPLER_REPEAT_WINDOW 64u

struct sampler; /* opaque: scratch for one vocabulary size */

MUST_USE int sampler_new(struct sampler **ret, uint32_t n_vocab);
void sampler_free(struct sampler *s);
/** sampler_bytes() - what the scratch of one holds, bytes */
uint64_t sampler_bytes(uint32_t n_vocab);

struct sampler_choice {
    int32_t id;
    float logprob; /* ln of the probability at temperature 1, before any filter; 0 unless some
                    * are asked for */
    size_t n_top;  /* entries in top_id, top_logprob: asked for, most likely first */
    int32_t top_id[SAMPLER_LOGPROBS_MAX];
    float top_logprob[SAMPLER_LOGPROBS_MAX];
};

enum { SAMPLER_OK = 0, SAMPLER_NOT_FINITE };

/**
 * sampler_ask() - fill in what sampler_pick() will look at: item->n_best, also and n_also
 * @history: as sampler_pick() will get it; the item borrows its end
 *
 * With the logits of a step that was asked so, sampler_pick() gives what it gives with all of them.
 * All are wanted for log-probabilities and where no top-k or a large one is set, but for greedy.
 */
void sampler_ask(const struct sampler_params *params, uint32_t n_vocab, const int32_t *history,
                 size_t n_history, size_t n_top, struct step_item *item);

/**
 * sampler_pick() - choose the next token
 * @logits:   (n_vocab)
 * @history:  the sequence so far, prompt and answer, for the repetition penalty
 * @position: index of the token to choose, counted from the start of the sequence. Randomness is a
 *            pure function of (seed, position).
 * @n_top:    log-probabilities wanted, 0..SAMPLER_LOGPROBS_MAX
 *
 * Ties go to the lower id. Return: SAMPLER_OK, or SAMPLER_NOT_FINITE for a NaN or infinite logit.
 */
MUST_USE int sampler_pick(struct sampler *s, const struct sampler_params *params,
                          const float *logits, const int32_t *history, size_t n_history,
                          uint64_t position, size_t n_top, struct sampler_choice *ret);

#endif
