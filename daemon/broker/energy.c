/* energy: counters are subtracted, powers are taken to have held since the last reading. */
#include "daemon/broker/energy.h"

#include <math.h>

#define LATE_S 60.0    /* what is older weighs e times less */
#define GAP_S 30.0     /* a machine that slept took nothing that can be known */
#define TOKENS_LEAST 8 /* fewer say nothing */

/* Joules of one meter between two readings; negative: not known. */
static double joules(const struct board_meter *m, uint64_t before, uint64_t now, double s)
{
    uint64_t uj;

    if (m->kind != METER_COUNTER) {
        return (double)now * 1e-6 * s;
    }
    if (now >= before) {
        uj = now - before;
    } else if (m->range > before) { /* it went round */
        uj = m->range - before + now;
    } else {
        return -1;
    }
    return (double)uj * 1e-6;
}

void energy_step(struct energy *e, const struct board_files *meters, const struct board_power *now,
                 bool working, uint64_t tokens, uint64_t now_ns)
{
    const double s = now_ns > e->last_ns ? (double)(now_ns - e->last_ns) / 1e9 : 0;
    const bool counts = e->worked || tokens > e->tokens;
    double sum = 0;
    bool sound = now->n > 0 && e->last_ns > 0 && s > 0 && s <= GAP_S;

    for (size_t i = 0; i < now->n && sound; i++) {
        const double j = joules(&meters->meters[i], e->last.value[i], now->value[i], s);
        sound = now->sound[i] && e->last.sound[i] && j >= 0;
        sum += j;
    }
    sound = sound && sum <= ENERGY_WATTS_MAX * s;
    if (sound) {
        e->watts = sum / s;
    }
    if (sound && counts) {
        const double keep = exp(-s / LATE_S);
        e->joules += sum;
        e->late_joules = e->late_joules * keep + sum;
        e->late_tokens = e->late_tokens * keep + (double)(tokens - e->tokens);
    }
    e->last = *now;
    e->last_ns = now_ns;
    e->tokens = tokens;
    e->worked = working;
}

bool energy_known(const struct energy *e)
{
    return e->watts > 0;
}

double energy_per_token(const struct energy *e)
{
    return e->late_tokens >= TOKENS_LEAST ? e->late_joules / e->late_tokens : 0;
}
