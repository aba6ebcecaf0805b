/* How many items of a batch may be in flight: halved when the daemon pushes back, grown one by one.
 * Pure. */
#ifndef CLIENT_PACE_H
#define CLIENT_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
    uint32_t most, limit, least; /* limit is in 1..most; least: the lowest it was */
    uint32_t good;               /* items that went well since the limit last changed */
    uint64_t sent;               /* sendings so far: the number of the next one */
    uint64_t cut_at;             /* sendings before this one knew nothing of the present limit */
};

/** pace_init() - @most: 1 or more */
void pace_init(struct pace *p, uint32_t most);

/** pace_send() - the number of a sending, to be told when it is pushed back */
uint64_t pace_send(struct pace *p);

/** pace_pushed_back() - that sending was answered with 429 or 503. A burst of refusals that was
 * caused by one and the same limit halves it once. */
void pace_pushed_back(struct pace *p, uint64_t number);

/** pace_went_well() - an item was answered */
void pace_went_well(struct pace *p);

#endif
