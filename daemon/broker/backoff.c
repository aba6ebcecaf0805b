/* backoff: 0, 0, 100, 200, ... ms, at most 5 s. */
#include "daemon/broker/backoff.h"

uint32_t backoff_died(struct backoff *b, bool killed)
{
    const unsigned before = b->fails + (b->kills < 4 ? b->kills : 4);

    if (killed && b->kills < BACKOFF_KILLS_MAX) {
        b->kills++;
    } else if (!killed && b->fails < BACKOFF_GIVE_UP + 64) {
        b->fails++;
    }
    if (before < 2) {
        return 0;
    }
    const unsigned doublings = before - 2;
    if (doublings >= 6) {
        return BACKOFF_MAX_MS;
    }
    return BACKOFF_FIRST_MS << doublings;
}

void backoff_progress(struct backoff *b)
{
    *b = (struct backoff){0};
}

bool backoff_hopeless(const struct backoff *b)
{
    return b->fails >= BACKOFF_GIVE_UP || b->kills >= BACKOFF_KILLS_MAX;
}
