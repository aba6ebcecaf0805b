/* A row as tokens: what the model is given, and what it has to say.
 *
 * The prompt is what the daemon would make of one user's turn, up to the head of the answer. The
 * answer is tokenized by itself, as it is when it is generated, and ends with the vocabulary's end
 * of a turn. */
#ifndef TRAIN_LOOP_PROMPT_H
#define TRAIN_LOOP_PROMPT_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/strview.h"
#include "engine/engine.h"

enum { PROMPT_OK = 0, PROMPT_FULL, PROMPT_HARD };

/**
 * prompt_ids() - tokens of a prompt in the chat template
 * @ids: room for ids_max; @ret_n: those written
 *
 * Return: PROMPT_OK; PROMPT_FULL: more than ids_max; PROMPT_HARD: the text cannot be tokenized; a
 * negative errno.
 */
MUST_USE int prompt_ids(const struct vocab *vocab, enum chat_template chat, struct strview prompt,
                        int32_t *ids, size_t ids_max, size_t *ret_n);

/** answer_ids() - tokens of an answer, and end behind them. Return as prompt_ids(). */
MUST_USE int answer_ids(const struct vocab *vocab, struct strview answer, int32_t end, int32_t *ids,
                        size_t ids_max, size_t *ret_n);

/** prompt_end() - the control token <|im_end|>; -1 in ret: the vocabulary has none, or it ends no
 * turn. 0 or a negative errno */
MUST_USE int prompt_end(const struct vocab *vocab, int32_t *ret);

#endif
