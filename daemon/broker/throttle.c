/* throttle: what memory and heat want of the scheduler, as one. */
#include "daemon/broker/throttle.h"

#include <stddef.h>

#include "daemon/broker/broker.h"
#include "daemon/broker/request.h"

static const char *const reasons[THROTTLES] = {
    [THROTTLE_MEMORY] = "memory", [THROTTLE_HEAT] = "heat"};

struct throttle_wish throttle_strictest(const struct throttle *t)
{
    struct throttle_wish all = {0};

    for (size_t i = 0; i < THROTTLES; i++) {
        const struct throttle_wish *w = &t->wishes[i];
        all.lowest = w->lowest > all.lowest ? w->lowest : all.lowest;
        all.chunk_part = w->chunk_part > all.chunk_part ? w->chunk_part : all.chunk_part;
        if (w->threads > 0 && (all.threads == 0 || w->threads < all.threads)) {
            all.threads = w->threads;
        }
        if (w->streams_cap > 0 && (all.streams_cap == 0 || w->streams_cap < all.streams_cap)) {
            all.streams_cap = w->streams_cap;
        }
    }
    return all;
}

const char *throttle_reason(const struct throttle *t, enum request_class class_)
{
    for (size_t i = 0; i < THROTTLES; i++) {
        if (class_ < t->wishes[i].lowest) {
            return reasons[i];
        }
    }
    return NULL;
}

void throttle_apply(struct broker *b)
{
    const struct throttle_wish all = throttle_strictest(&b->throttle);

    b->sched.limits.lowest = all.lowest;
    b->sched.limits.streams_cap = all.streams_cap;
    b->sched.limits.chunk_part = all.chunk_part;
    broker_dirty(b);
}

void throttle_tell(struct request *r)
{
    const char *reason = throttle_reason(&r->broker->throttle, r->job.class_);

    if (reason && r->kind == REQUEST_GENERATE) {
        request_waits(r, r->job.running ? PHASE_PAUSED : PHASE_QUEUED, reason);
    }
}

/* Those that ran or could have. */
static void tell(struct list *jobs, enum request_class from, enum request_class below)
{
    list_for_each (r, next, jobs, struct request, job.link) {
        if (r->job.class_ >= from && r->job.class_ < below) {
            throttle_tell(r);
        }
    }
}

void throttle_set(struct broker *b, enum throttle_who who, const struct throttle_wish *wish)
{
    const enum request_class before = throttle_strictest(&b->throttle).lowest;

    b->throttle.wishes[who] = wish ? *wish : (struct throttle_wish){0};
    throttle_apply(b);
    const enum request_class now = b->sched.limits.lowest;
    tell(&b->queue.running, before, now);
    for (size_t c = 0; c < CLASSES; c++) {
        tell(&b->queue.waiting[c], before, now);
    }
}
