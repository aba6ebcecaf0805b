/* When to start the engine again after it died. Pure code. */
#ifndef BROKER_BACKOFF_H
#define BROKER_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

#define BACKOFF_FIRST_MS 100u
#define BACKOFF_MAX_MS 5000u
#define BACKOFF_GIVE_UP 5u    /* deaths without progress after which waiting requests are refused */
#define BACKOFF_KILLS_MAX 24u /* the same for kills from outside */

struct backoff {
    unsigned fails, kills; /* deaths without progress in between, by a fault and from outside */
};

/**
 * backoff_died() - how long to wait before the next start, ms
 * @killed: from outside
 *
 * The first two deaths cost no wait: the engine was killed once, or a request took it along. Kills
 * alone never make the wait long.
 */
uint32_t backoff_died(struct backoff *b, bool killed);
/** backoff_progress() - the engine did something useful */
void backoff_progress(struct backoff *b);
/** backoff_hopeless() - should waiting requests be told that there is no engine? */
bool backoff_hopeless(const struct backoff *b);

#endif
