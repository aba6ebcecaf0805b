/* broker: birth, the turn of the loop, draining and the end.
 *
 * Handlers only change state and call broker_dirty(); once before the loop sleeps, on_prepare()
 * brings models, engine and plan in line with it. So a burst of frames costs one plan. */
#include "daemon/broker/broker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/broker/admission.h"
#include "daemon/broker/board.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/engine.h"
#include "daemon/broker/gap.h"
#include "daemon/broker/log.h"
#include "daemon/broker/memory_sense.h"
#include "daemon/broker/models.h"
#include "daemon/broker/prefix.h"
#include "daemon/broker/request.h"
#include "daemon/broker/session_turn.h"
#include "daemon/broker/verbs.h"

#define LOG_MORE_MS 1000u
#define LOOK_MS                                                                                    \
    250u /* at the deadlines, while there are some: gap.c sees by it when we did not run */
#define LAST_WORDS_MS 1000u /* for terminal frames to be read when the daemon ends */

void broker_dirty(struct broker *b)
{
    b->dirty = true;
}

/* ---- identities ---- */

struct moment broker_moment(void)
{
    return (struct moment){.now_ns = clock_now_ns(), .unix_s = (uint64_t)time(NULL)};
}

static void on_sweep(uv_timer_t *timer)
{
    struct broker *b = timer->data;
    const struct moment now = broker_moment();
    const uint64_t next = identities_sweep(&b->identities, &now);

    if (next != UINT64_MAX) {
        uv_update_time(b->loop);
        (void)uv_timer_start(&b->sweep, on_sweep, next / NS_PER_MS + 1, 0);
    }
}

void broker_sweep_later(struct broker *b)
{
    if (!b->stopping && !uv_is_active((const uv_handle_t *)&b->sweep)) {
        (void)uv_timer_start(&b->sweep, on_sweep, IDENTITY_IDLE_NS / NS_PER_MS, 0);
    }
}

/* ---- the folder ---- */

struct scan_work {
    uv_work_t work;
    struct broker *broker;
    const char *dir; /* borrowed: a reload keeps it */
    struct model_listing *listing;
    int result;
};

static void do_scan(uv_work_t *work)
{
    struct scan_work *s = container_of(work, struct scan_work, work);

    s->result = model_listing_read(&s->listing, s->dir);
}

static void start_scan(struct broker *b);

static void on_scanned(uv_work_t *work, int status)
{
    struct scan_work *s = container_of(work, struct scan_work, work);
    struct broker *b = s->broker;
    int result = status < 0 ? status : s->result;

    b->scanning = false;
    if (result == 0) {
        free(b->listing);
        b->listing = s->listing;
    } else if (b->listing && (result == -EMFILE || result == -ENFILE)) {
        log_client(LOG_DESCRIPTORS, LOG_WARNING,
                   "no descriptor is left: the model folder is taken to be as it was");
        result = 0; /* who is here is served although others took all descriptors */
    }
    free(s);
    verbs_resolve(b, result);
    list_for_each (r, next, &b->scan_late, struct request, scan_link) {
        list_remove(&r->scan_link);
        list_push(&b->scan_waiters, &r->scan_link);
    }
    if (!list_empty(&b->scan_waiters)) {
        start_scan(b);
    }
    broker_dirty(b);
}

static void start_scan(struct broker *b)
{
    struct scan_work *s = calloc(1, sizeof(*s));

    if (s) {
        s->broker = b;
        s->dir = b->config.models_dir;
    }
    if (!s || uv_queue_work(b->loop, &s->work, do_scan, on_scanned) < 0) {
        free(s);
        verbs_resolve(b, -ENOMEM);
        return;
    }
    b->scanning = true;
}

void broker_scan(struct broker *b, struct request *r)
{
    if (b->scanning) { /* what it asks for may have come after that look */
        list_push(&b->scan_late, &r->scan_link);
        return;
    }
    list_push(&b->scan_waiters, &r->scan_link);
    start_scan(b);
}

/* Bring models, engine and plan in line with what has changed. */
static void advance(struct broker *b)
{
    for (int i = 0; b->dirty && i < 4; i++) { /* a change may ask for another; rarely twice */
        b->dirty = false;
        models_advance(b);
        engine_advance(b);
    }
}

/* ---- deadlines ---- */

static void on_deadline(uv_timer_t *timer);

static void set_deadline(struct broker *b, uint64_t due_ns)
{
    const uint64_t now = clock_now_ns();

    b->deadline_ns = due_ns;
    if (due_ns == UINT64_MAX) {
        (void)uv_timer_stop(&b->deadlines);
        return;
    }
    uv_update_time(b->loop);
    const uint64_t ms = due_ns > now ? (due_ns - now) / NS_PER_MS + 1 : 0;
    (void)uv_timer_start(&b->deadlines, on_deadline, ms < LOOK_MS ? ms : LOOK_MS, 0);
}

void broker_watch_deadline(struct broker *b, uint64_t deadline_ns)
{
    if (deadline_ns < b->deadline_ns) {
        set_deadline(b, deadline_ns);
    }
}

/* Fail what is late in one list; the nearest of the others goes to *nearest. */
static void check_deadlines(struct list *jobs, uint64_t now, uint64_t *nearest)
{
    list_for_each (r, next, jobs, struct request, job.link) {
        if (r->first_ns) {
            continue;
        }
        if (r->deadline_ns == r->arrived_ns && !list_empty(&r->scan_link)) {
            continue; /* 0 is judged when its model is known: verbs.c asks again */
        }
        if (r->deadline_ns == r->arrived_ns && r->job.running) {
            r->deadline_ns = UINT64_MAX; /* 0 asks to start at once, and it did */
        }
        if (r->deadline_ns <= now && r->job.parked) {
            admission_late(r);
        } else if (r->deadline_ns <= now) {
            request_fail(r, ERR_DEADLINE, "no token in %llu ms",
                         (unsigned long long)((now - r->arrived_ns) / NS_PER_MS));
        } else if (r->deadline_ns < *nearest) {
            *nearest = r->deadline_ns;
        }
    }
}

static void on_deadline(uv_timer_t *timer)
{
    struct broker *b = timer->data;
    const uint64_t now = clock_now_ns();
    uint64_t nearest = UINT64_MAX;

    b->deadline_ns = UINT64_MAX;
    advance(b); /* timers run before on_prepare(): what can start at once has started now */
    check_deadlines(&b->queue.running, now, &nearest);
    for (size_t c = 0; c < CLASSES; c++) {
        check_deadlines(&b->queue.waiting[c], now, &nearest);
    }
    set_deadline(b, nearest);
}

/* ---- the end ---- */

static void close_timer(uv_timer_t *t)
{
    if (!uv_is_closing((uv_handle_t *)t)) {
        uv_close((uv_handle_t *)t, NULL);
    }
}

/* Everybody has had their words, or their time. */
static void on_last_words(uv_timer_t *timer)
{
    struct broker *b = timer->data;

    list_for_each (c, next, &b->conns, struct conn, link) {
        conn_close(c);
    }
    close_timer(&b->drain);
}

static void stop(struct broker *b)
{
    if (b->stopping) {
        return;
    }
    b->stopping = true;
    acceptor_stop(&b->acceptor);
    metrics_server_stop(&b->metrics_server);
    list_for_each (c, next_c, &b->conns, struct conn, link) {
        list_for_each (r, next, &c->requests, struct request, conn_link) {
            request_fail(r, ERR_DRAINING, "the daemon stops");
        }
        conn_finish(c);
    }
    pack_children_kill(b);
    residency_close(b);
    runner_proc_close(&b->runner);
    wedge_close(&b->wedge);
    close_timer(&b->restart);
    close_timer(&b->deadlines);
    close_timer(&b->sweep);
    close_timer(&b->session_hours);
    close_timer(&b->session_patience);
    session_store_stop(&b->session_store);
    salt_store_stop(&b->salt_store);
    close_timer(&b->log_more);
    memory_sense_stop(b);
    board_stop(b);
    admission_close(b);
    gap_close(b);
    (void)uv_prepare_stop(&b->prepare);
    uv_close((uv_handle_t *)&b->prepare, NULL);
    uv_update_time(b->loop);
    (void)uv_timer_start(&b->drain, on_last_words, LAST_WORDS_MS, 0);
    uv_unref((uv_handle_t *)&b->drain); /* it only hurries the last connections */
    if (b->stopped) {
        b->stopped(b);
    }
}

static void on_drained(uv_timer_t *timer)
{
    stop(timer->data);
}

void broker_drain(struct broker *b)
{
    if (b->draining) {
        stop(b);
        return;
    }
    b->draining = true;
    log_line(LOG_NOTICE, "draining: %zu requests", b->queue.n_waiting + b->queue.n_running);
    uv_update_time(b->loop);
    (void)uv_timer_start(&b->drain, on_drained, b->config.drain_ms, 0);
    if (b->socket_stays) {
        acceptor_stop(&b->acceptor);
    }
    broker_dirty(b);
}

/* Whoever has nothing in flight goes over to the next daemon, which the socket waits for. Who has
 * not said hello yet is greeted first: a loss before that is not for the client to judge. */
static void send_over(struct broker *b)
{
    list_for_each (c, next, &b->conns, struct conn, link) {
        if (c->n_requests == 0 && c->said_hello) {
            conn_finish(c);
        }
    }
}

static bool idle(const struct broker *b)
{
    list_for_each (c, next, &b->conns, struct conn, link) {
        if (c->n_requests > 0) {
            return false;
        }
    }
    return true;
}

/* ---- the turn of the loop ---- */

static void on_log_more(uv_timer_t *timer)
{
    if (!log_settle(false)) {
        (void)uv_timer_stop(timer);
    }
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct broker *b = prepare->data;

    advance(b);
    memory_sense_work(b);
    salt_store_look(&b->salt_store);
    if (log_suppressed() != b->n_suppressed) {
        b->n_suppressed = log_suppressed();
        if (!uv_is_active((uv_handle_t *)&b->log_more)) {
            (void)uv_timer_start(&b->log_more, on_log_more, LOG_MORE_MS, LOG_MORE_MS);
        }
    }
    if (b->draining && b->socket_stays) {
        send_over(b);
    }
    if (b->draining && idle(b)) {
        stop(b);
    }
    gap_sleep(b);
}

static void on_connection(void *user, int fd)
{
    conn_accept(user, fd);
}

int broker_listen(struct broker *b, int fd)
{
    return acceptor_start(&b->acceptor, b->loop, fd, on_connection, b);
}

static void set_limits(struct broker *b)
{
    const struct config *k = &b->config;

    b->sched.limits = (struct sched_limits){
        .fifo = k->scheduler_mode && strcmp(k->scheduler_mode, "fifo") == 0,
        .streams_max = (uint32_t)k->streams_max,
        .chunk_us = (uint32_t)k->chunk_ms * 1000,
        .pause_max_ns = k->pause_max_ms * NS_PER_MS,
    };
    throttle_apply(b);
}

void broker_reload(struct broker *b, struct config *config)
{
    const char *name;

    for (size_t i = 0; (name = config_needs_restart(&b->config, config, i)); i++) {
        log_line(LOG_WARNING, "%s has changed: it needs a restart", name);
    }
    config_keep_fixed(&b->config, config);
    config_deinit(&b->config);
    b->config = *config;
    *config = (struct config){0};
    set_limits(b);
    list_for_each (m, next, &b->models, struct model, link) {
        model_retry(m);
    }
    list_for_each (c, next_c, &b->conns, struct conn, link) {
        conn_grant(c);
    }
    admission_reload(b);
    answer_cache_limit(&b->answers, ladder_keeps(b) ? b->config.answers_bytes : 0);
    prefixes_reload(b);
    wedge_settle(&b->wedge);
    broker_pin(b);
    broker_dirty(b);
    log_line(LOG_NOTICE, "configuration reloaded");
}

void broker_pin(struct broker *b)
{
    for (size_t i = 0; i < b->config.n_models; i++) {
        if (b->config.models[i].pinned && !model_get(b, strview_of(b->config.models[i].name))) {
            log_line(LOG_ERR, "no memory for a pinned model");
        }
    }
}

int broker_init(struct broker *b, uv_loop_t *loop, struct config *config, char *runner_path,
                const char *sysroot)
{
    *b = (struct broker){
        .loop = loop, .config = *config, .runner_path = runner_path, .sysroot = sysroot};
    *config = (struct config){0};
    b->own_uid = geteuid();
    b->started_ns = clock_now_ns();
    b->deadline_ns = UINT64_MAX;
    b->mean_ms = 1000;
    metrics_init(&b->metrics, b->started_ns);
    list_init(&b->conns);
    list_init(&b->models);
    list_init(&b->pack_children);
    list_init(&b->scan_waiters);
    list_init(&b->scan_late);
    queue_init(&b->queue);
    identities_init(&b->identities);
    admission_init(b);
    sched_init(&b->sched, &b->queue, &(struct sched_limits){0});
    set_limits(b);
    b->log_more.data = b->sweep.data = b->restart.data = b->deadlines.data = b->drain.data =
        b->prepare.data = b;
    (void)uv_timer_init(loop, &b->restart); /* none of these can fail: they only fill the struct */
    (void)uv_timer_init(loop, &b->deadlines);
    (void)uv_timer_init(loop, &b->drain);
    (void)uv_timer_init(loop, &b->sweep);
    (void)uv_timer_init(loop, &b->log_more);
    uv_unref((uv_handle_t *)&b->sweep);
    uv_unref((uv_handle_t *)&b->log_more);
    (void)uv_prepare_init(loop, &b->prepare);
    (void)uv_prepare_start(&b->prepare, on_prepare);
    residency_open(b);
    gap_init(b);
    b->dirty = true;
    /* The only look at the folder on this thread: nobody is served yet. */
    const int e = model_listing_read(&b->listing, b->config.models_dir);
    if (e < 0) {
        log_line(LOG_WARNING, "the model folder cannot be read: %s", strerror(-e));
    }
    answer_cache_init(&b->answers, b->config.answers_bytes);
    sessions_open(b);
    salt_store_init(&b->salt_store, loop, &b->identities.salts, b->config.cache_dir);
    salt_store_read(&b->salt_store);
    broker_pin(b);
    memory_sense_start(b);
    board_start(b);
    return engine_init(b);
}

void broker_deinit(struct broker *b)
{
    memory_sense_free(b);
    board_free(b);
    models_free(b);
    metrics_deinit(&b->metrics);
    runner_proc_deinit(&b->runner);
    wedge_deinit(&b->wedge);
    identities_deinit(&b->identities);
    session_store_deinit(&b->session_store);
    session_table_deinit(&b->sessions);
    answer_cache_clear(&b->answers);
    free(b->listing);
    free(b->ids);
    free(b->runner_path);
    config_deinit(&b->config);
}
