/* When the service manager hears that we serve: the socket listens from the start and requests
 * queue, but "ready" are we when the pinned models are warm, or when it is known that they will not
 * be. */
#ifndef BROKER_READINESS_H
#define BROKER_READINESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/compiler.h"

#define READINESS_TEXT 256u

struct broker;

struct readiness {
    struct broker *broker; /* borrowed */
    uv_prepare_t turn;     /* looks again whenever something has happened */
    uv_timer_t patience;   /* asks the manager for more time, until it is ready; then for what
                            * has changed sooner than it may be told */
    bool open, ready;
    char told[READINESS_TEXT]; /* the manager's last sentence */
    uint64_t told_ms;          /* when it heard it, by the loop's clock */
};

/** readiness_start() - say so once it is the case, at the latest when the loop has turned. 0 or a
 * negative errno. */
MUST_USE int readiness_start(struct readiness *r, struct broker *b);
void readiness_stop(struct readiness *r); /* a zeroed one is fine */

/** readiness_stopping() - the drain has begun */
void readiness_stopping(struct readiness *r);

/** readiness_again() - a reload is over: say how things are now */
void readiness_again(struct readiness *r);

/**
 * readiness_text() - how the pinned models are, the memory and the drain, in a sentence
 *
 * Return: false while one of them is still on its way.
 */
bool readiness_text(const struct broker *b, char *ret, size_t n);

#endif
