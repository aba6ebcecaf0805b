/* pace: additive increase, multiplicative decrease, as in congestion control: it finds what the
 * daemon takes without being told, and several batches beside each other come to equal shares. */
#include "client/pace.h"

void pace_init(struct pace *p, uint32_t most)
{
    *p = (struct pace){.most = most, .limit = most, .least = most};
}

uint64_t pace_send(struct pace *p)
{
    return p->sent++;
}

void pace_pushed_back(struct pace *p, uint64_t number)
{
    if (number < p->cut_at) {
        return;
    }
    p->limit = p->limit > 1 ? p->limit / 2 : 1;
    p->least = p->limit < p->least ? p->limit : p->least;
    p->cut_at = p->sent;
    p->good = 0;
}

void pace_went_well(struct pace *p)
{
    if (p->limit < p->most && ++p->good >= p->limit) {
        p->limit++;
        p->good = 0;
    }
}
