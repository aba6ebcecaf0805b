/* An answer as far as it has come, and how it goes on in a new engine: the ids are replayed from
 * the first one, and what the client already has is dropped. Pure code. */
#ifndef BROKER_ANSWER_H
#define BROKER_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "ipc/message.h"

struct answer {
    int32_t *ids; /* owned: every id delivered */
    size_t n_ids, room;
    uint64_t bytes; /* of text delivered */
    /* What this engine has reported so far; behind the above while it replays. */
    size_t seen_ids;
    uint64_t seen_bytes;
};

void answer_deinit(struct answer *a); /* a zeroed one is fine */

/** answer_restart() - a new engine begins from the first id */
void answer_restart(struct answer *a);

enum { ANSWER_OK = 0, ANSWER_OUT_OF_ORDER, ANSWER_DIFFERS };

/* The part of a report that is new to the client. */
struct answer_news {
    size_t skip_ids, skip_bytes; /* leading ids and bytes that the client has */
};

/**
 * answer_take() - a report of the engine arrived
 * @n0:  index of the first of ids in the answer
 * @ids: n of them
 * @text_bytes: text reported with them
 *
 * ANSWER_OUT_OF_ORDER: reports are missing or doubled. ANSWER_DIFFERS: a replayed id is not the one
 * delivered. Return: these, ANSWER_OK with ret_news, or -ENOMEM.
 */
MUST_USE int answer_take(struct answer *a, uint32_t n0, const int32_t *ids, size_t n,
                         size_t text_bytes, struct answer_news *ret_news);

#endif
