/* ladder: from a look at the sensors to at most one action, whose effect is measured before the
 * next.
 *
 * Reclaim takes time to show, so between two actions lies a window of a second and another look.
 * The order is one for all levels, and a level begins with what the levels below it have left, so
 * that nothing costly is done while something cheap has bytes to give. */
#include "daemon/broker/ladder.h"

#include <stdio.h>

#include "base/clock.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/ledger.h"
#include "daemon/broker/log.h"
#include "daemon/broker/memory_sense.h"
#include "daemon/broker/models.h"
#include "daemon/broker/prefix.h"
#include "daemon/broker/request.h"

#define WINDOW_NS NS_PER_S
#define KILL_SEEN_NS (3 * NS_PER_S) /* from the engine's death to the kernel's count of it */
#define RETRY_MAX_MS 60000u

static const struct {
    enum pressure_level level; /* from which on it is done */
    const char *name;
} acts[LADDER_ACTS] = {
    [LADDER_ANSWERS] = {PRESSURE_TRIM, "answers"},
    [LADDER_HEAP] = {PRESSURE_TRIM, "heap"},
    [LADDER_KV_SOME] = {PRESSURE_TRIM, "kv_some"},
    [LADDER_KV_ALL] = {PRESSURE_SHED, "kv_all"},
    [LADDER_UNLOAD] = {PRESSURE_SHED, "unload"},
    [LADDER_QUEUED] = {PRESSURE_SHED, "queued"},
    [LADDER_PAUSE] = {PRESSURE_PAUSE, "pause"},
    [LADDER_PAGE_OUT] = {PRESSURE_PAUSE, "page_out"},
    [LADDER_EVICT] = {PRESSURE_SURVIVE, "evict"},
    [LADDER_CONNS] = {PRESSURE_SURVIVE, "connections"},
};

static uint64_t calm_ns(const struct broker *b)
{
    return b->config.memory_calm_ms * NS_PER_MS;
}

enum pressure_level ladder_level(const struct broker *b)
{
    return b->ladder.pressure.level;
}

const char *ladder_act_name(enum ladder_act act)
{
    return (unsigned)act < LADDER_ACTS ? acts[act].name : "unknown";
}

/* ---- an action, from its begin to its measure ---- */

/* What it came to is known: one line, one count. */
static void settle(struct broker *b, uint64_t bytes)
{
    struct ladder *l = &b->ladder;

    l->open = false;
    l->counts[l->act].n++;
    l->counts[l->act].bytes += bytes;
    log_line(LOG_NOTICE, "memory: %s (%s): %s: %s, %.1f MB freed", pressure_name(l->level),
             l->pressure.cause ? l->pressure.cause : "", acts[l->act].name, l->what,
             (double)bytes / 1e6);
}

static void settle_by_residents(struct broker *b)
{
    const uint64_t now = ledger_residents(b);

    settle(b, b->ladder.resident > now ? b->ladder.resident - now : 0);
}

void ladder_gave(struct broker *b, const struct seam_gave *g)
{
    if (b->ladder.open && b->ladder.answers) {
        settle(b, g->bytes);
    }
}

static void act(struct broker *b, uint64_t now_ns)
{
    struct ladder *l = &b->ladder;

    for (int a = 0; a < LADDER_ACTS && acts[a].level <= l->pressure.level; a++) {
        const uint64_t resident = ledger_residents(b);
        const enum ladder_done done = ladder_do(b, (enum ladder_act)a, now_ns);
        if (done != LADDER_NOTHING) {
            l->open = true;
            l->answers = done == LADDER_ASKED;
            l->act = (enum ladder_act)a;
            l->level = l->pressure.level;
            l->begun_ns = l->done_ns[a] = now_ns;
            l->resident = resident;
            return;
        }
    }
}

/* ---- levels ---- */

static void changed(struct broker *b, enum pressure_level before, const struct memory_look *look)
{
    struct ladder *l = &b->ladder;
    const enum pressure_level level = l->pressure.level;

    l->n_rises += level > before;
    log_line(level > before ? LOG_WARNING : LOG_NOTICE,
             "memory: level %s, was %s (%s): %.0f MB of %.0f MB available, stalled %.0f and %.0f "
             "ms a second",
             pressure_name(level), pressure_name(before),
             level > before ? l->pressure.cause : "it has been calm",
             (double)look->available_bytes / 1e6, (double)look->total_bytes / 1e6,
             l->pressure.some_ms, l->pressure.full_ms);
    if (level < PRESSURE_PAUSE) {
        l->lowest = CLASS_LOW;
    }
    if (level == PRESSURE_NORMAL) {
        for (size_t i = 0; i < LADDER_ACTS; i++) {
            l->done_ns[i] = 0;
        }
        l->some_bytes = 0;
        models_all_kv(b);
        answer_cache_limit(&b->answers, b->config.answers_bytes);
        prefixes_reload(b);
    }
    ladder_throttle(b);
}

void ladder_look(struct broker *b, const struct memory_look *look)
{
    struct ladder *l = &b->ladder;
    const uint64_t now = clock_now_ns();
    const enum pressure_level before = l->pressure.level;

    if (look->oom_kills > 0 && l->engine_killed_ns > 0 &&
        now - l->engine_killed_ns < KILL_SEEN_NS) {
        l->engine_killed_ns = 0;
        models_less_kv(b);
    }
    if (pressure_look(&l->pressure, look, now, calm_ns(b)) != before) {
        changed(b, before, look);
    }
    if (l->open && now - l->begun_ns >= WINDOW_NS) {
        settle_by_residents(b);
    }
    if (!l->open && l->pressure.level > PRESSURE_NORMAL && !b->stopping &&
        now - l->begun_ns >= WINDOW_NS) {
        act(b, now);
    }
}

/* ---- what others ask ---- */

bool ladder_keeps(const struct broker *b)
{
    return ladder_level(b) == PRESSURE_NORMAL;
}

uint64_t ladder_queue_max(const struct broker *b, uint64_t most)
{
    return ladder_level(b) >= PRESSURE_SHED ? (most + 1) / 2 : most;
}

void ladder_refuse(struct request *r, enum pressure_level to, const char *why)
{
    const struct broker *b = r->broker;
    const uint64_t ms =
        pressure_down_ns(&b->ladder.pressure, to, clock_now_ns(), calm_ns(b)) / NS_PER_MS + 1;
    char text[128];

    (void)snprintf(text, sizeof(text), "the machine is short of memory (reason: memory): %s", why);
    request_fail_as(
        r, &(struct msg_error){.code = ERR_OVERLOADED,
                               .message = strview_of(text),
                               .retry_after_ms = ms < RETRY_MAX_MS ? (uint32_t)ms : RETRY_MAX_MS});
}

bool ladder_admit(struct request *r)
{
    const struct broker *b = r->broker;
    const enum pressure_level level = ladder_level(b);
    const enum request_class least = level >= PRESSURE_PAUSE  ? CLASS_HIGH
                                     : level >= PRESSURE_SHED ? CLASS_NORMAL
                                                              : CLASS_LOW;
    char why[64];

    if (r->job.class_ >= least) {
        return true;
    }
    (void)snprintf(why, sizeof(why), "class %s is not taken now",
                   request_class_name(r->job.class_));
    ladder_refuse(r, r->job.class_ == CLASS_LOW ? PRESSURE_TRIM : PRESSURE_SHED, why);
    return false;
}

void ladder_engine_up(struct broker *b)
{
    if (!ladder_keeps(b)) { /* else it is as an engine begins */
        ladder_throttle(b);
    }
}

void ladder_engine_gone(struct broker *b, bool killed)
{
    struct ladder *l = &b->ladder;

    if (l->open && l->answers) {
        settle_by_residents(b); /* all of it, in a way */
    }
    if (!killed) {
        return;
    }
    if (l->pressure.level > PRESSURE_NORMAL) {
        models_less_kv(b);
    } else {
        l->engine_killed_ns = clock_now_ns(); /* the next look may know whose kill it was */
    }
}
