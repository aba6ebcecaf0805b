/* Memory that is given back when the broker says that it is short: between two steps, measured
 * afterwards, not promised before. */
#include <malloc.h>

#include "daemon/runner/runner.h"

static uint64_t give_scratch(struct runner *rn)
{
    uint64_t gave = 0;

    for (size_t i = 0; i < RESIDENTS_MAX; i++) {
        const struct resident *m = rn->residents[i];
        gave += m && m->ready ? stepper_give_back(m->stepper) : 0;
    }
    return gave;
}

static uint64_t give_heap(void)
{
    const struct mallinfo2 before = mallinfo2();

    (void)malloc_trim(0);
    const struct mallinfo2 after = mallinfo2();
    return before.arena > after.arena ? before.arena - after.arena : 0;
}

/* Of all models' pools, in the order of their slots. */
static uint64_t give_kv(struct runner *rn, uint64_t bytes)
{
    uint64_t left = bytes, gave = 0;

    for (size_t i = 0; i < RESIDENTS_MAX; i++) {
        struct resident *m = rn->residents[i];
        if (!m || !m->ready) {
            continue;
        }
        const uint64_t idle = kv_pool_idle_blocks(m->pool) * kv_block_bytes(m->model, m->kv);
        const uint64_t part = idle < left ? idle : left;
        gave += kv_pool_give_back(m->pool, part);
        left -= part;
        m->idle_max = kv_pool_idle_blocks(m->pool);
    }
    rn->stats_due = true;
    return gave;
}

static void set_frugal(struct runner *rn, bool frugal)
{
    for (size_t i = 0; i < RESIDENTS_MAX && frugal && !rn->frugal; i++) {
        struct resident *m = rn->residents[i];
        if (m && m->ready) {
            m->idle_max = kv_pool_idle_blocks(m->pool);
        }
    }
    rn->frugal = frugal;
}

void give_back(struct runner *rn, const struct seam_give_back *g)
{
    struct resident *m;
    uint64_t bytes = 0;

    set_frugal(rn, g->frugal);
    switch (g->what) {
    case GIVE_HEAP:
        bytes = give_heap() + give_scratch(rn);
        break;
    case GIVE_KV:
        bytes = give_kv(rn, g->bytes);
        break;
    case GIVE_WEIGHTS:
        m = resident_find(rn, g->model);
        bytes = m && m->ready ? model_page_out(m->model) : 0;
        break;
    default:
        return; /* nothing was asked for */
    }
    report(rn,
           &(struct seam_message){.type = SEAM_GAVE, .gave = {.what = g->what, .bytes = bytes}});
}

void give_back_idle(struct runner *rn)
{
    for (size_t i = 0; i < RESIDENTS_MAX && rn->frugal; i++) {
        struct resident *m = rn->residents[i];
        const size_t n = m && m->ready ? kv_pool_idle_blocks(m->pool) : 0;
        if (n > 0 && n > m->idle_max) {
            (void)kv_pool_give_back(m->pool, (n - m->idle_max) * kv_block_bytes(m->model, m->kv));
            rn->stats_due = true;
        }
    }
}
