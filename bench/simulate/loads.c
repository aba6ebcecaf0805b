/* loads: the arrivals and machines that simulations draw from. */
#include <math.h>

#include "base/clock.h"
#include "bench/simulate/sim.h"

void sim_seed(struct sim_random *r, uint64_t seed)
{
    seed = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
    seed = (seed ^ seed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    r->state = seed ? seed : 1;
}

double sim_uniform(struct sim_random *r)
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return (double)((r->state * UINT64_C(0x2545f4914f6cdd1d)) >> 11) / 9007199254740992.0;
}

uint32_t sim_between(struct sim_random *r, uint32_t low, uint32_t high)
{
    return low + (uint32_t)(sim_uniform(r) * (double)(high - low + 1));
}

uint64_t sim_wait_ns(struct sim_random *r, double per_s)
{
    return (uint64_t)(-log(1 - sim_uniform(r)) / per_s * (double)NS_PER_S);
}

struct sim_source sim_voice(unsigned account, double per_s)
{
    return (struct sim_source){.account = account,
                               .class_ = CLASS_HIGH,
                               .prompt_min = 10,
                               .prompt_max = 30,
                               .answer_min = 20,
                               .answer_max = 60,
                               .per_s = per_s};
}

struct sim_source sim_chat(unsigned account, double per_s)
{
    return (struct sim_source){.account = account,
                               .class_ = CLASS_NORMAL,
                               .prompt_min = 100,
                               .prompt_max = 900,
                               .answer_min = 50,
                               .answer_max = 250,
                               .per_s = per_s};
}

struct sim_source sim_batch(unsigned account, uint32_t depth)
{
    return (struct sim_source){.account = account,
                               .class_ = CLASS_LOW,
                               .prompt_min = 1500,
                               .prompt_max = 2500,
                               .answer_min = 5,
                               .answer_max = 35,
                               .depth = depth};
}

struct sim_cost sim_draw_cost(struct sim_random *r)
{
    const double pass_us = 5000 * pow(10, sim_uniform(r)); /* 5 to 50 ms */

    return (struct sim_cost){.pass_us = pass_us,
                             .stream_us = pass_us * (0.01 + 0.09 * sim_uniform(r)),
                             .token_us = pass_us * (0.01 + 0.09 * sim_uniform(r)),
                             .noise = 0.05};
}
