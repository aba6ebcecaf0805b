/* ladder_acts: what each step of the ladder does. Each says whether there was anything to be had by
 * it; what it came to is measured by ladder.c, or by the engine. */
#include <malloc.h>
#include <stdio.h>

#include "base/clock.h"
#include "daemon/broker/admission.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/conn_memory.h"
#include "daemon/broker/identity.h"
#include "daemon/broker/ladder.h"
#include "daemon/broker/metrics_broker.h"
#include "daemon/broker/models.h"
#include "daemon/broker/request.h"
#include "daemon/broker/residency.h"
#include "daemon/broker/share.h"
#include "daemon/broker/unload_gate.h"

#define AGAIN_NS (30 * NS_PER_S) /* what gives a little each time is not done sooner again */
#define BUDGET_PART 10u          /* of the budget is to be free: a tenth */
#define STREAMS_SHED 2u
#define CHUNK_SHED 2u
#define CONN_BYTES_MIN (UINT64_C(256) << 10) /* no connection is closed for less */

#define SAY(l, ...) ((void)snprintf((l)->what, sizeof((l)->what), __VA_ARGS__))

static bool lately(const struct ladder *l, enum ladder_act act, uint64_t now_ns)
{
    return l->done_ns[act] > 0 && now_ns - l->done_ns[act] < AGAIN_NS;
}

static void order(struct broker *b, enum seam_give what, uint32_t model, uint64_t bytes)
{
    const struct seam_message m = {
        .type = SEAM_GIVE_BACK,
        .give_back = {.what = what, .model = model, .bytes = bytes, .frugal = !ladder_keeps(b)}};

    runner_proc_send(&b->runner, &m, NULL, 0, -1);
}

void ladder_throttle(struct broker *b)
{
    const enum pressure_level level = ladder_level(b);
    struct throttle_wish w = {0};

    if (level >= PRESSURE_SHED) {
        w.streams_cap = level >= PRESSURE_PAUSE ? 1 : STREAMS_SHED;
        w.chunk_part = CHUNK_SHED;
    }
    w.lowest = b->ladder.lowest;
    throttle_set(b, THROTTLE_MEMORY, &w);
    order(b, GIVE_NOTHING, 0, 0);
}

/* ---- trim ---- */

static enum ladder_done drop_answers(struct broker *b, struct ladder *l)
{
    if (b->answers.n == 0) {
        answer_cache_limit(&b->answers, 0); /* and none is kept from here on */
        return LADDER_NOTHING;
    }
    SAY(l, "%zu kept answers dropped", b->answers.n);
    answer_cache_limit(&b->answers, 0);
    (void)malloc_trim(0);
    return LADDER_DONE;
}

static enum ladder_done trim_heaps(struct broker *b, struct ladder *l, uint64_t now_ns)
{
    if (lately(l, LADDER_HEAP, now_ns)) {
        return LADDER_NOTHING;
    }
    SAY(l, "scratch and free memory of the allocators given back");
    (void)malloc_trim(0);
    if (b->runner.state != RUNNER_UP) {
        return LADDER_DONE;
    }
    order(b, GIVE_HEAP, 0, 0);
    return LADDER_ASKED;
}

static enum ladder_done drop_kv(struct broker *b, struct ladder *l, uint64_t bytes)
{
    const uint64_t idle = b->engine.known ? b->engine.stats.kv_bytes_idle : 0;
    const uint64_t n = idle < bytes ? idle : bytes;

    if (n == 0 || b->runner.state != RUNNER_UP) {
        return LADDER_NOTHING;
    }
    SAY(l, "%.1f of %.1f MB of idle KV given back", (double)n / 1e6, (double)idle / 1e6);
    l->some_bytes += n;
    order(b, GIVE_KV, 0, n);
    return LADDER_ASKED;
}

static uint64_t some_kv(const struct broker *b, const struct ladder *l)
{
    const uint64_t want = residency_budget(b) / BUDGET_PART;

    return want > l->some_bytes ? want - l->some_bytes : 0;
}

/* ---- shed ---- */

static enum ladder_done unload(struct broker *b, struct ladder *l, uint64_t now_ns)
{
    const bool open = unload_gate_open(&l->pressure, l->unloaded_ns, now_ns);
    struct model *m = open ? residency_victim(b, now_ns) : NULL;

    if (!m) {
        return LADDER_NOTHING;
    }
    SAY(l, "model %.60s unloaded", m->name);
    l->unloaded_ns = now_ns;
    model_unload(m);
    return LADDER_DONE;
}

static bool over_bounds(const struct broker *b, const struct identity *id)
{
    return id->account.n_waiting > 0 &&
           (id->account.n_waiting > admission_waiting_max(b, &id->grant) ||
            id->queue_bytes > admission_bytes_max(b));
}

/* Of those who wait with more than the bounds allow by now, the one most over his share. */
static struct identity *most_over(struct broker *b)
{
    const unsigned all = SHARE_OUTPUT | SHARE_INPUT | SHARE_QUEUE | SHARE_KV;
    struct identity *worst = NULL;

    metrics_ledger(b);
    list_for_each (id, next, &b->identities.all, struct identity, link) {
        if (over_bounds(b, id) && (!worst || share_taken(id, all) > share_taken(worst, all))) {
            worst = id;
        }
    }
    return worst;
}

/* The one of the lowest class that came last. */
static struct request *newest_waiting(struct sched_account *a)
{
    for (int class_ = CLASS_LOW; class_ < CLASSES; class_++) {
        struct list *last = a->waiting[class_].prev;
        if (last != &a->waiting[class_]) {
            return container_of(last, struct request, job.own_link);
        }
    }
    return NULL;
}

static enum ladder_done cut_queue(struct broker *b, struct ladder *l)
{
    struct identity *id = most_over(b);
    size_t n = 0;

    while (id && over_bounds(b, id)) {
        const size_t before = id->account.n_waiting;
        struct request *r = newest_waiting(&id->account);
        if (r) {
            ladder_refuse(r, PRESSURE_TRIM, "this user's waiting requests are too many now");
        }
        if (id->account.n_waiting >= before) {
            break; /* an answer on its way */
        }
        n++;
    }
    if (n == 0) {
        return LADDER_NOTHING;
    }
    SAY(l, "%zu waiting requests of uid %u ended", n, (unsigned)id->uid);
    (void)malloc_trim(0);
    return LADDER_DONE;
}

/* ---- pause ---- */

static enum ladder_done pause_class(struct broker *b, struct ladder *l)
{
    if (l->lowest == CLASS_HIGH) {
        return LADDER_NOTHING;
    }
    SAY(l, "class %s pauses", request_class_name(l->lowest));
    l->lowest++;
    ladder_throttle(b);
    return LADDER_DONE;
}

static enum ladder_done page_out(struct broker *b, struct ladder *l, uint64_t now_ns)
{
    if (b->runner.state != RUNNER_UP || lately(l, LADDER_PAGE_OUT, now_ns)) {
        return LADDER_NOTHING;
    }
    list_for_each (m, next, &b->models, struct model, link) {
        if (m->state == MODEL_LOADED && list_empty(&m->users)) {
            SAY(l, "pages of model %.60s given back", m->name);
            order(b, GIVE_WEIGHTS, m->number, 0);
            return LADDER_ASKED;
        }
    }
    return LADDER_NOTHING;
}

/* ---- survive ---- */

static struct request *oldest_high(const struct broker *b)
{
    struct request *oldest = NULL;

    list_for_each (r, next, &b->queue.running, struct request, job.link) {
        if (r->job.class_ == CLASS_HIGH && (!oldest || r->job.seq < oldest->job.seq)) {
            oldest = r;
        }
    }
    return oldest;
}

static enum ladder_done evict(struct broker *b, struct ladder *l)
{
    const struct request *keep = oldest_high(b);
    size_t n = 0;

    list_for_each (r, next, &b->queue.running, struct request, job.link) {
        if (r != keep) {
            request_fail_as(
                r, &(struct msg_error){.code = ERR_EVICTED,
                                       .message = strview_of("the machine has run out of memory"),
                                       .retry_after_ms = (uint32_t)b->config.memory_calm_ms});
            n++;
        }
    }
    SAY(l, "%zu requests ended", n);
    return n > 0 ? LADDER_DONE : LADDER_NOTHING;
}

/* The largest of the identity most over its share, but for the one that the oldest `high` is of. */
static enum ladder_done close_conn(struct broker *b, struct ladder *l)
{
    const struct request *keep = oldest_high(b);
    struct conn *worst =
        conn_most_over(b, SHARE_OUTPUT | SHARE_INPUT, CONN_BYTES_MIN, keep ? keep->conn : NULL);

    if (!worst) {
        return LADDER_NOTHING;
    }
    SAY(l, "a connection of uid %u closed, which held %.1f MB", (unsigned)worst->peer.uid,
        (double)(worst->held[MEMORY_OUTPUT] + worst->held[MEMORY_INPUT]) / 1e6);
    conn_close(worst);
    (void)malloc_trim(0);
    return LADDER_DONE;
}

enum ladder_done ladder_do(struct broker *b, enum ladder_act act, uint64_t now_ns)
{
    struct ladder *l = &b->ladder;

    switch (act) {
    case LADDER_ANSWERS:
        return drop_answers(b, l);
    case LADDER_HEAP:
        return trim_heaps(b, l, now_ns);
    case LADDER_KV_SOME:
        return drop_kv(b, l, some_kv(b, l));
    case LADDER_KV_ALL:
        return drop_kv(b, l, UINT64_MAX);
    case LADDER_UNLOAD:
        return unload(b, l, now_ns);
    case LADDER_QUEUED:
        return cut_queue(b, l);
    case LADDER_PAUSE:
        return pause_class(b, l);
    case LADDER_PAGE_OUT:
        return page_out(b, l, now_ns);
    case LADDER_EVICT:
        return evict(b, l);
    case LADDER_CONNS:
        return close_conn(b, l);
    default:
        return LADDER_NOTHING;
    }
}
