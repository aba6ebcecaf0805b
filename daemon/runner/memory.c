/* How much of a model is in memory, when the broker asks: between steps, and while requests run no
 * more often than every BUSY_NS, as to look through a large mapping takes some milliseconds. */
#include <malloc.h>

#include "base/clock.h"
#include "daemon/runner/runner.h"

#define BUSY_NS NS_PER_S

/* What has been allocated and not freed, in whatever way. */
static uint64_t heap(void)
{
    const struct mallinfo2 m = mallinfo2();

    return (uint64_t)m.arena + m.hblkhd;
}

void memory_begin(struct runner *rn)
{
    rn->heap_begin = heap();
}

void memory_ask(struct runner *rn, uint32_t number)
{
    struct resident *m = resident_find(rn, number);

    if (m) {
        m->measure = true;
    }
}

static void report_memory(struct runner *rn, const struct resident *m)
{
    const uint64_t block = kv_block_bytes(m->model, m->kv), now = heap();
    const size_t n_free = kv_pool_free_blocks(m->pool), n_idle = kv_pool_idle_blocks(m->pool);
    struct model_memory of;

    model_memory(m->model, &of);
    report(rn, &(struct seam_message){
                   .type = SEAM_MEMORY,
                   .memory = {.model = m->number,
                              .mapped = of.mapped,
                              .private_ = of.private_,
                              .huge = of.huge,
                              .resident = of.resident,
                              .locked = m->locked,
                              .kv_used = block * (m->n_blocks - n_free - n_idle),
                              .kv_idle = block * n_idle,
                              .kv_total = block * m->n_blocks,
                              .kv_resident = kv_pool_resident(m->pool),
                              .scratch = stepper_bytes(m->stepper),
                              .scratch_resident = stepper_resident(m->stepper),
                              .heap = now > rn->heap_begin ? now - rn->heap_begin : 0},
               });
}

void memory_report(struct runner *rn, bool idle, uint64_t now_ns)
{
    if (!idle && now_ns - rn->measured_ns < BUSY_NS) {
        return;
    }
    for (size_t i = 0; i < RESIDENTS_MAX; i++) {
        struct resident *m = rn->residents[i];
        if (m && m->ready && m->measure) {
            m->measure = false;
            rn->measured_ns = now_ns;
            report_memory(rn, m);
        }
    }
}
