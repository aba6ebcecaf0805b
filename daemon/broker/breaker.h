/* A model that fails again and again rests a while, then one request tries it. Pure code. */
#ifndef BROKER_BREAKER_H
#define BROKER_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

struct breaker_limits {
    uint64_t faults;  /* in a row that open it; 0: it never opens */
    uint64_t open_ns; /* how long it stays open before a probe */
};

/* One per model; a zeroed one is closed. */
struct breaker {
    uint64_t faults;   /* since the last success */
    bool open;         /* or half open: a probe may go, or is on its way */
    bool probing;      /* a probe is on its way */
    uint64_t until_ns; /* open: nobody before then */
};

enum breaker_verdict {
    BREAKER_PASS,   /* closed */
    BREAKER_PROBE,  /* this request is the probe: the caller remembers it and reports its end */
    BREAKER_REFUSE, /* open, or somebody else is the probe */
};

/** breaker_ask() - may a request go to the model?
 * @ret_wait_ns: with BREAKER_REFUSE: when to ask again */
MUST_USE enum breaker_verdict breaker_ask(struct breaker *b, uint64_t now_ns,
                                          uint64_t *ret_wait_ns);

/* How a request (or a load) ended. What was let through before it opened says nothing any more:
 * while it is open only the probe's end counts. */

/** breaker_success() - true: this closed it */
bool breaker_success(struct breaker *b, bool probe);

/** breaker_fault() - the model's fault, never a client's; true: this opened it, or opened it
 * again */
bool breaker_fault(struct breaker *b, const struct breaker_limits *limits, bool probe,
                   uint64_t now_ns);

/** breaker_no_word() - it ended without a word about the model (cancelled, a client's error): the
 * next one is the probe */
void breaker_no_word(struct breaker *b, bool probe);

/** breaker_calm() - closed, and no fault lately: nothing would be forgotten with it */
bool breaker_calm(const struct breaker *b);

#endif
