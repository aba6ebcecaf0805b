/* budget: weights count whole, in either backing. A mapping can be taken back by the system, but a
 * model that is to answer at once has to be in memory; what does not fit together is not loaded
 * together. */
#include "daemon/broker/budget.h"

#define SCRATCH_LEAST (UINT64_C(8) << 20)
#define KV_LEAST (UINT64_C(1) << 20)
#define KV_LEAST_MAX (UINT64_C(64) << 20)
#define PART 16u /* of the weights: what is guessed or asked for at least */

static uint64_t min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t budget_default(uint64_t total, uint64_t limit)
{
    const uint64_t part = total > 0 ? total / 5 * 3 : UINT64_MAX;
    const uint64_t own = limit - limit / 10;
    const uint64_t least = min(min(part, own), BUDGET_NONE);

    return least > BUDGET_LEAST ? least : BUDGET_LEAST;
}

uint64_t scratch_guess(uint64_t weights)
{
    return SCRATCH_LEAST + weights / PART;
}

uint64_t kv_least(uint64_t weights, uint64_t kv_max)
{
    const uint64_t part = min(weights / PART, KV_LEAST_MAX);

    return min(part > KV_LEAST ? part : KV_LEAST, kv_max);
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

uint64_t beside_share(const struct share_plan *p)
{
    size_t n = p->n_models < p->n_max ? p->n_models : p->n_max;
    uint64_t share;

    if (p->n_models <= p->n_max && p->all / p->n_models + p->least <= p->total / p->n_models) {
        share = (p->total - p->all) / p->n_models;
    } else {
        while (n > 1 && p->bytes + p->least > p->total / n) {
            n--;
        }
        share = less(p->total / (n > 0 ? n : 1), p->bytes);
    }
    share = min(share, less(p->free, p->bytes));
    return share > p->least ? share : p->least;
}
