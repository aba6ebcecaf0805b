/* The gate before the queue: rate limits, and those who wait for them. Pure code: tickets are
 * embedded in requests, lines in identities, time is an argument.
 *
 * A waiter stands in its identity's line and blocks nobody else: another line is not behind it, and
 * what it will need is not held back. Only who waits for a limit of all identities together stands
 * before newcomers of other lines, or small requests would keep a large one out for ever. */
#ifndef BROKER_GATE_H
#define BROKER_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/list.h"
#include "daemon/broker/bucket.h"

struct gate {
    struct buckets all;   /* of all identities together */
    struct list lines;    /* with waiters; the one whose turn is next first */
    struct ahead waiting; /* for a limit of all together */
};

/* Of one identity. */
struct gate_line {
    struct list link;    /* in the gate's lines while somebody waits */
    struct list waiters; /* struct ticket, in the order they came */
    struct buckets own;
    struct ahead waiting;
};

struct ticket {
    struct list link;       /* in its line while it waits */
    struct gate_line *line; /* borrowed; outlives the ticket's wait */
    uint64_t tokens;        /* the estimate */
    enum rate_limit why;    /* while it waits: the limit, as far as was seen last */
    struct charge charge;   /* once it is through */
};

void gate_init(struct gate *g);
void gate_line_init(struct gate_line *l);
void ticket_init(struct ticket *t);

/** gate_line_idle() - nobody waits, and nothing would be forgotten with its buckets */
bool gate_line_idle(const struct gate_line *l, const struct moment *at);

/**
 * gate_ask() - go through, or learn what stands in the way; nobody waits by this
 * @t: an unused ticket
 * @tokens: an estimate of the prompt and of the longest answer
 * @ret_wait_ns: unless RATE_NONE: how long it would have to wait, those in front included
 *
 * Return: RATE_NONE: it is through and charged; else the limit.
 */
MUST_USE enum rate_limit gate_ask(struct gate *g, struct gate_line *l, struct ticket *t,
                                  uint64_t tokens, const struct moment *at, uint64_t *ret_wait_ns);

/** gate_wait() - stand in the line; gate_ask() has just refused it because of `why` */
void gate_wait(struct gate *g, struct ticket *t, enum rate_limit why);

/** gate_waits() - does it stand in a line? */
bool gate_waits(const struct ticket *t);

/** gate_next() - the next one that may go through: charged and out of its line; or NULL, and
 * *ret_wait_ns: when to ask again (UINT64_MAX: nobody waits) */
struct ticket *gate_next(struct gate *g, const struct moment *at, uint64_t *ret_wait_ns);

/** gate_leave() - the request is over and has used so many tokens: out of the line, and what it has
 * not used goes back. Harmless for one that never asked, and the second time. */
void gate_leave(struct gate *g, struct ticket *t, uint64_t used, const struct moment *at);

#endif
