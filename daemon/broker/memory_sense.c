/* memory_sense: when to look at the sensors, and who is told.
 *
 * What wakes us is chosen once, by memory_watch.c; whatever it is, each look reads all there is
 * (memory_counts.c). A look takes some ten reads of small files of the kernel's, which keep nobody
 * waiting: every 250 ms while there is work or memory is short, else once a second. */
#include "daemon/broker/memory_sense.h"

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "base/clock.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/ladder.h"
#include "daemon/broker/log.h"
#include "daemon/broker/memory_counts.h"
#include "daemon/broker/memory_watch.h"

#define BUSY_MS 250u
#define IDLE_MS 1000u
#define LEAST_MS 100u /* between looks: a shorter window says nothing of a rate */
#define TIGHT_PART 0.2
#define TIGHT_SOME_MS 50.0

struct memory_sense {
    struct broker *broker; /* borrowed */
    struct memory_files files;
    struct memory_watch watch;
    struct memory_counts last;
    struct memory_paces paces;
    struct memory_look look;
    uv_timer_t timer;
    uint64_t n_calls;
    bool looked; /* `look` is filled in */
    bool told;   /* systemd spoke since the last look */
    bool slowly; /* the next look is a second away */
    bool closing;
};

const char *memory_source_name(enum memory_source source)
{
    static const char *const names[] = {"systemd", "cgroup", "system", "poll"};

    return names[source];
}

static bool working(const struct broker *b)
{
    return b->queue.n_running + b->queue.n_waiting > 0 || !list_empty(&b->pack_children);
}

static bool tight(const struct memory_look *l)
{
    return l->told || (l->has_psi && l->some_ms >= TIGHT_SOME_MS) ||
           (l->has_available && l->available < TIGHT_PART) || l->oom_kills > 0 || l->high_events;
}

static void on_timer(uv_timer_t *timer);

static void arm(struct memory_sense *s, uint64_t ms)
{
    s->slowly = ms == IDLE_MS;
    uv_update_time(s->timer.loop);
    (void)uv_timer_start(&s->timer, on_timer, ms, 0);
}

static void look(struct memory_sense *s)
{
    struct broker *b = s->broker;
    struct memory_counts now;

    memory_counts_read(&now, &s->files, runner_proc_pid(&b->runner));
    now.steps = b->engine.stats.steps;
    if (s->watch.forbidden) {
        now.has_stall = false;
    }
    memory_figures(&s->look, &s->last, &now, b->queue.n_running > 0);
    s->last = now;
    s->look.source = s->watch.source;
    s->look.called = s->watch.calls;
    s->look.n_calls = s->n_calls;
    s->look.forbidden = s->watch.forbidden;
    s->look.told = s->told;
    s->told = false;
    s->look.slow = memory_pace_take(&s->paces);
    s->looked = true;
    arm(s, working(b) || tight(&s->look) ? BUSY_MS : IDLE_MS);
    ladder_look(b, &s->look);
}

static void on_timer(uv_timer_t *timer)
{
    look(timer->data);
}

/* At once, unless we looked a moment ago. */
static void on_called(void *user)
{
    struct memory_sense *s = user;
    const uint64_t since_ms = (clock_now_ns() - s->last.now_ns) / NS_PER_MS;

    s->n_calls++;
    s->told = s->told || s->watch.source == SOURCE_SYSTEMD;
    if (since_ms >= LEAST_MS) {
        look(s);
    } else if (uv_timer_get_due_in(&s->timer) > LEAST_MS - since_ms) {
        arm(s, LEAST_MS - since_ms);
    }
}

static void open_watch(struct memory_sense *s, enum memory_source skip);

static void on_lost(void *user)
{
    struct memory_sense *s = user;

    if (!s->closing) {
        open_watch(s, (enum memory_source)(s->watch.source + 1));
    }
}

static void open_watch(struct memory_sense *s, enum memory_source skip)
{
    char all[MEMORY_PATH_MAX + 32];

    s->watch.called = on_called;
    s->watch.lost = on_lost;
    s->watch.user = s;
    (void)snprintf(all, sizeof(all), "%s/proc/pressure/memory", s->files.root);
    memory_watch_open(&s->watch, s->broker->loop,
                      s->files.own_pressure ? s->files.pressure.path : NULL, all, skip);
    log_line(LOG_INFO, "memory pressure is seen by %s%s", memory_source_name(s->watch.source),
             s->watch.calls                   ? ", which calls"
             : s->watch.forbidden             ? ": the service manager wants no other"
             : s->watch.source == SOURCE_POLL ? " of meminfo and vmstat"
                                              : ", polled");
}

void memory_sense_start(struct broker *b)
{
    struct memory_sense *s = calloc(1, sizeof(*s));

    if (!s) {
        log_line(LOG_ERR, "no memory for the memory sensors");
        return;
    }
    s->broker = b;
    b->sense = s;
    memory_files_open(&s->files, b->sysroot);
    (void)uv_timer_init(b->loop, &s->timer);
    s->timer.data = s;
    open_watch(s, SOURCE_SYSTEMD);
    memory_counts_read(&s->last, &s->files, 0);
    arm(s, BUSY_MS);
    uv_unref((uv_handle_t *)&s->timer);
}

void memory_sense_stop(struct broker *b)
{
    struct memory_sense *s = b->sense;

    if (s && !s->closing) {
        s->closing = true;
        memory_watch_close(&s->watch);
        uv_close((uv_handle_t *)&s->timer, NULL);
    }
}

void memory_sense_free(struct broker *b)
{
    if (b->sense) {
        memory_files_close(&b->sense->files);
        free(b->sense);
        b->sense = NULL;
    }
}

void memory_sense_work(struct broker *b)
{
    struct memory_sense *s = b->sense;

    if (s && !s->closing && s->slowly && working(b)) {
        arm(s, BUSY_MS);
    }
}

void memory_sense_step(struct broker *b, uint32_t model, const struct seam_stats *st)
{
    if (b->sense && st->step_prompt == 0 && st->step_streams > 0) {
        memory_pace_step(&b->sense->paces, model, st->step_streams + st->step_drafts, st->step_us);
    }
}

const struct memory_look *memory_sense_latest(const struct broker *b)
{
    return b->sense && b->sense->looked ? &b->sense->look : NULL;
}
