/* engine: carries the queue's decisions to the engine process and its reports to the clients.
 *
 * A death of the engine is an event like another: what was running is started again in the next one
 * with the ids it has, and the answer's two positions (answer.c) see to it that the client gets
 * every byte once. Who is to blame is queue.c's business, when to start again is backoff.c's. */
#include "daemon/broker/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/broker/answer_reuse.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/delta.h"
#include "daemon/broker/engine_steps.h"
#include "daemon/broker/identity.h"
#include "daemon/broker/ledger.h"
#include "daemon/broker/log.h"
#include "daemon/broker/metrics_broker.h"
#include "daemon/broker/models.h"
#include "daemon/broker/prefix.h"
#include "daemon/broker/quantization.h"
#include "daemon/broker/request.h"
#include "daemon/broker/results.h"
#include "daemon/broker/sched.h"
#include "daemon/broker/session_turn.h"
#include "daemon/broker/tuning.h"
#include "daemon/broker/verbs.h"
#include "ipc/frame.h"
#include "ipc/mp.h"

#define PROGRESS_NS (100 * NS_PER_MS) /* a client hears no more often of its prompt */

/* ---- towards the engine ---- */

static void start_process(struct broker *b)
{
    const struct runner_options o = {.path = b->runner_path,
                                     .cpu = b->config.cpu,
                                     .threads = b->config.threads,
                                     .pulse_fd = b->wedge.fd};

    b->sent.n_run = 0;
    wedge_restart(&b->wedge);
    runner_proc_start(&b->runner, &o);
}

static void on_restart(uv_timer_t *timer)
{
    struct broker *b = timer->data;

    b->restart_due = false;
    broker_dirty(b);
}

static bool has_work(const struct broker *b)
{
    if (b->queue.n_waiting + b->queue.n_running > 0) {
        return true;
    }
    list_for_each (m, next, &b->models, struct model, link) {
        if (!list_empty(&m->users) || m->resident) {
            return true;
        }
    }
    return false;
}

static void start_sequence(struct broker *b, struct request *r)
{
    struct seam_message m = {.type = SEAM_START};

    m.start = (struct seam_start){
        .seq = r->job.seq,
        .model = r->model->number,
        .seed = r->seed,
        .request = {.data = (const char *)r->body, .n = r->n_body},
    };
    if (!r->no_cache) {
        m.start.reuse = true;
        memcpy(m.start.salt, r->conn->identity->salt, sizeof(m.start.salt));
    }
    session_turn_history(r, &m.start);
    if (!r->started_ns) {
        r->started_ns = clock_now_ns();
        metrics_on_start(r);
    }
    answer_restart(&r->answer);
    runner_proc_send(&b->runner, &m, r->answer.ids, r->answer.n_ids, -1);
}

/* Its KV is needed by another; it goes on later from the ids it has. */
static void give_back(struct broker *b, struct request *r)
{
    const struct seam_message m = {.type = SEAM_CANCEL, .cancel = r->job.seq};

    runner_proc_send(&b->runner, &m, NULL, 0, -1);
    request_progress(r, PHASE_PAUSED, 0, 0);
}

/* A change of the prompts' time by a few percent is not worth a frame. */
static bool same_time(uint32_t a, uint32_t b)
{
    return a == b || (a > 0 && b > 0 && a - a / 8 <= b && b - b / 8 <= a);
}

static void send_plan(struct broker *b, const struct sched_plan *plan)
{
    struct seam_message m = {.type = SEAM_PLAN, .plan = {.n_run = plan->n_run}};

    m.plan.prompt_us = plan->prompt_us;
    m.plan.urgent = plan->urgent;
    m.plan.threads = throttle_strictest(&b->throttle).threads;
    for (size_t i = 0; i < plan->n_run; i++) {
        m.plan.run[i] = plan->run[i]->seq;
    }
    if (!plan->urgent && m.plan.n_run == b->sent.n_run && m.plan.threads == b->sent.threads &&
        same_time(m.plan.prompt_us, b->sent.prompt_us) &&
        memcmp(m.plan.run, b->sent.run, m.plan.n_run * sizeof(m.plan.run[0])) == 0) {
        return;
    }
    b->sent = m.plan;
    runner_proc_send(&b->runner, &m, NULL, 0, -1);
}

void engine_advance(struct broker *b)
{
    const size_t waiting = b->runner.out.n;
    struct sched_plan plan;

    if (b->runner.state == RUNNER_DOWN && !b->restart_due && !b->stopping && has_work(b)) {
        start_process(b);
    }
    if (b->runner.state != RUNNER_UP) {
        return;
    }
    sched_plan(&b->sched, clock_now_ns(), waiting < RUNNER_OUT_SOFT ? RUNNER_OUT_SOFT - waiting : 0,
               &plan);
    for (size_t i = 0; i < plan.n_give_back; i++) {
        give_back(b, container_of(plan.give_back[i], struct request, job));
    }
    for (size_t i = 0; i < plan.n_start; i++) {
        start_sequence(b, container_of(plan.start[i], struct request, job));
    }
    if (b->runner.state == RUNNER_UP) { /* it is not, when it took what was sent badly */
        send_plan(b, &plan);
    }
}

/* ---- its reports ---- */

static struct request *held(const struct broker *b, uint64_t seq)
{
    list_for_each (r, next, &b->queue.running, struct request, job.link) {
        if (r->job.seq == seq && r->job.held) {
            return r;
        }
    }
    return NULL; /* cancelled while the report was on its way */
}

static void on_hello(struct broker *b, const struct seam_hello *h)
{
    strview_copy(b->engine.pack_id, sizeof(b->engine.pack_id), h->pack_id);
    strview_copy(b->engine.cpu, sizeof(b->engine.cpu), h->cpu);
    strview_copy(b->engine.confined, sizeof(b->engine.confined), h->confined);
    b->engine.n_threads = h->n_threads;
    b->engine.known = true;
    metrics_engine(&b->metrics, true, clock_now_ns());
    ledger_hello(b);
    log_line(LOG_INFO, "engine %d is up: %s, %u threads, confined by: %s",
             runner_proc_pid(&b->runner), b->engine.cpu, b->engine.n_threads,
             b->engine.confined[0] ? b->engine.confined : "not told");
    ladder_engine_up(b);
    broker_dirty(b);
}

/* Room for n ids in the broker's scratch. */
static bool ids_room(struct broker *b, size_t n)
{
    if (n <= b->n_ids_room) {
        return true;
    }
    int32_t *ids = realloc(b->ids, n * sizeof(*ids));
    if (!ids) {
        return false;
    }
    b->ids = ids;
    b->n_ids_room = n;
    return true;
}

static void deliver(struct request *r, const struct seam_tokens *t, const struct answer_news *news)
{
    struct broker *b = r->broker;
    struct buf out;

    if (news->skip_ids == t->ids.n && news->skip_bytes == t->text.n) {
        return; /* the client has all of it */
    }
    const struct strview text = {.data = t->text.n ? t->text.data + news->skip_bytes : NULL,
                                 .n = t->text.n - news->skip_bytes};
    if (!session_turn_text(r, text)) {
        return;
    }
    answer_reuse_text(r, text);
    job_progress(&r->job);
    r->model->n_lost = 0;
    sched_tokens(&b->sched, &r->job, (uint32_t)(t->ids.n - news->skip_ids), clock_now_ns());
    sched_guesses(&b->sched, &r->job, t->n_wrong);
    broker_dirty(b); /* it has had its turn */
    backoff_progress(&b->backoff);
    if (!r->first_ns) {
        r->first_ns = clock_now_ns();
    }
    b->n_tokens += t->ids.n - news->skip_ids;
    metrics_on_tokens(r, t->ids.n - news->skip_ids);
    buf_init(&out, FRAME_BODY_MAX + FRAME_HEADER);
    if (delta_put(&out, r, t, news) < 0) {
        buf_deinit(&out);
        request_fail(r, ERR_INTERNAL, "a part of the answer did not fit a frame");
        return;
    }
    conn_send(r->conn, &out);
}

static void on_tokens(struct broker *b, const struct seam_tokens *t)
{
    struct request *r = held(b, t->seq);
    struct answer_news news;

    if (!r) {
        return;
    }
    if (!ids_room(b, t->ids.n)) {
        request_fail(r, ERR_INTERNAL, "no memory");
        return;
    }
    msg_ids_copy(&t->ids, b->ids);
    switch (answer_take(&r->answer, t->n0, b->ids, t->ids.n, t->text.n, &news)) {
    case ANSWER_OK:
        deliver(r, t, &news);
        break;
    case ANSWER_OUT_OF_ORDER:
        log_line(LOG_ERR, "request %llu: the engine's report is out of order",
                 (unsigned long long)t->seq);
        request_fail(r, ERR_INTERNAL, "the answer could not be continued");
        break;
    case ANSWER_DIFFERS:
        log_line(LOG_ERR, "request %llu: the engine continued another answer",
                 (unsigned long long)t->seq);
        request_fail(r, ERR_INTERNAL, "the answer could not be continued");
        break;
    default:
        request_fail(r, ERR_INTERNAL, "no memory");
        break;
    }
}

static uint64_t us_between(uint64_t from_ns, uint64_t to_ns)
{
    return from_ns && to_ns > from_ns ? (to_ns - from_ns) / 1000 : 0;
}

static void on_finished(struct broker *b, const struct seam_finished *f)
{
    struct request *r = held(b, f->seq);
    struct buf out;

    if (!r) {
        return;
    }
    const struct model_facts *facts = &r->model->facts;
    const uint64_t now = clock_now_ns();
    const uint64_t first = r->first_ns ? r->first_ns : now;
    const struct msg_done done = {
        .finish_reason = f->reason,
        .prompt_tokens = f->prompt_tokens,
        .cached_tokens = f->cached_tokens,
        .answer_tokens = f->answer_tokens,
        .seed = r->seed,
        .queue_us = us_between(r->arrived_ns, r->started_ns),
        .prefill_us = us_between(r->started_ns, first),
        .decode_us = us_between(first, now),
        .restarts = r->restarts,
        .trimmed = session_turn_trimmed(r),
        .model = strview_of(r->model->name),
        .formats = strview_of(facts->formats),
        .quantization = strview_of(facts->quantization),
        .kv = strview_of(facts->kv),
        .cpu = strview_of(b->engine.cpu),
    };
    buf_init(&out, FRAME_BODY_MAX + FRAME_HEADER);
    if (message_put_done(&out, r->id, &done) < 0) {
        buf_deinit(&out);
        request_fail(r, ERR_INTERNAL, "no memory");
        return;
    }
    if (!session_turn_done(r, f)) {
        buf_deinit(&out);
        return;
    }
    answer_reuse_keep(r, f);
    b->n_done++;
    b->n_prompt_tokens += f->prompt_tokens;
    b->mean_ms = (b->mean_ms * 7 + us_between(r->started_ns, now) / 1000) / 8;
    backoff_progress(&b->backoff);
    r->model->used_ns = now;
    sched_prefilled(&b->sched, &r->job, r->job.total, r->job.total, now); /* even without a token */
    sched_forgotten(&b->sched, &r->job);
    if (!session_turn_wait(r, &out)) {
        request_done(r, &out);
    }
}

static void on_failed(struct broker *b, const struct seam_failed *f)
{
    struct request *r = held(b, f->seq);

    if (!r) {
        return;
    }
    const struct msg_error e = {.code = f->code == ERR_NONE ? ERR_INTERNAL : f->code,
                                .message = f->message,
                                .have = f->have,
                                .limit = f->limit};
    r->model->used_ns = clock_now_ns();
    if (f->again && sched_kv_full(&b->sched, &r->job)) {
        request_progress(r, PHASE_PAUSED, 0, 0);
        broker_dirty(b);
        return;
    }
    sched_forgotten(&b->sched, &r->job);
    r->fault = e.code == ERR_INTERNAL || e.code == ERR_NOT_FINITE;
    request_fail_as(r, &e);
}

static void on_started(struct broker *b, const struct seam_started *s)
{
    struct request *r = held(b, s->seq);

    if (r) {
        const bool first = r->prompt_tokens == 0; /* not again in an engine's successor */
        r->prompt_tokens = s->prompt_tokens;
        r->cached_tokens = s->cached_tokens;
        sched_started(&b->sched, &r->job, s->prompt_tokens, s->cached_tokens);
        if (first) {
            metrics_on_prompt(r);
        }
        broker_dirty(b);
        session_turn_started(r, s); /* r may be gone */
    }
}

static void on_prefill(struct broker *b, const struct seam_prefill *p)
{
    struct request *r = held(b, p->seq);
    const uint64_t now = clock_now_ns();

    if (!r) {
        return;
    }
    sched_prefilled(&b->sched, &r->job, p->done, p->total, now);
    broker_dirty(b);
    if (now - r->progress_ns >= PROGRESS_NS) {
        r->progress_ns = now;
        request_progress(r, PHASE_PREFILL, p->done, p->total);
    }
}

bool engine_check_quantization(struct request *r)
{
    const struct model_facts *f = &r->model->facts;

    if (!session_turn_fits(r)) {
        return false;
    }
    if (r->kind != REQUEST_GENERATE || !r->quantization[0] ||
        quantization_fits(r->quantization, f->quantization, f->formats)) {
        return true;
    }
    if (strcmp(f->quantization, "other") == 0) { /* no name but its format's */
        request_fail(r, ERR_QUANTIZATION_MISMATCH, "model %s is %.*s, not %s", r->model->name,
                     (int)strcspn(f->formats, "+"), f->formats, r->quantization);
    } else {
        request_fail(r, ERR_QUANTIZATION_MISMATCH, "model %s is %s (%s), not %s", r->model->name,
                     f->quantization, f->formats, r->quantization);
    }
    return false;
}

static void on_loaded(struct broker *b, const struct seam_loaded *l)
{
    models_on_loaded(b, l);
    b->engine.asked_ns = 0;
    ledger_ask(b);
    struct model *m = model_by_number(b, l->model);
    if (!m || m->state != MODEL_LOADED) {
        return;
    }
    list_for_each (r, next, &m->users, struct request, model_link) {
        if (r->kind == REQUEST_LOAD) {
            verbs_load_done(r);
        } else {
            (void)engine_check_quantization(r);
        }
    }
}

static void on_message(void *user, const struct seam_message *m)
{
    struct broker *b = user;

    switch (m->type) {
    case SEAM_HELLO:
        on_hello(b, &m->hello);
        break;
    case SEAM_LOADED:
        on_loaded(b, &m->loaded);
        break;
    case SEAM_STARTED:
        on_started(b, &m->started);
        break;
    case SEAM_PREFILL:
        on_prefill(b, &m->prefill);
        break;
    case SEAM_TOKENS:
        on_tokens(b, &m->tokens);
        break;
    case SEAM_FINISHED:
        if (held(b, m->finished.seq)) {
            on_finished(b, &m->finished);
        } else {
            prefix_report(b, m);
        }
        break;
    case SEAM_FAILED:
        if (held(b, m->failed.seq)) {
            on_failed(b, &m->failed);
        } else {
            prefix_report(b, m);
        }
        break;
    case SEAM_LOAD_FAILED:
        models_on_load_failed(b, &m->failed);
        break;
    case SEAM_MEMORY:
        ledger_memory(b, &m->memory);
        break;
    case SEAM_GAVE:
        ladder_gave(b, &m->gave);
        break;
    case SEAM_TUNED:
        tunings_on_tuned(b, &m->tuned);
        break;
    default:
        engine_steps(b, &m->stats);
        break;
    }
}

/* ---- its death ---- */

static void refuse_all(struct broker *b, uint32_t retry_ms)
{
    const struct msg_error e = {.code = ERR_ENGINE_UNAVAILABLE,
                                .message = strview_of("the engine process dies again and again"),
                                .retry_after_ms = retry_ms};

    list_for_each (c, next_c, &b->conns, struct conn, link) {
        list_for_each (r, next, &c->requests, struct request, conn_link) {
            if (r->kind != REQUEST_LIST) {
                request_fail_as(r, &e);
            }
        }
    }
    list_for_each (m, next_m, &b->models, struct model, link) {
        m->resident = false; /* loaded again when somebody asks */
    }
}

static void blame(struct broker *b, bool killed)
{
    list_for_each (r, next, &b->queue.running, struct request, job.link) {
        const bool was_held = r->job.held;
        const int verdict = job_died(&r->job, killed);

        sched_forgotten(&b->sched, &r->job);
        if (verdict == JOB_CRASHED) {
            log_line(LOG_ERR, "request %llu of uid %u crashed the engine, alone",
                     (unsigned long long)r->job.seq, (unsigned)r->job.uid);
            r->fault = true;
            request_fail(r, ERR_REQUEST_CRASHED,
                         "the engine died on this request, and again when "
                         "it ran alone");
        } else if (was_held) {
            r->restarts++;
            request_progress(r, PHASE_RESTARTING, 0, 0);
        }
    }
}

static void on_gone(void *user, const char *how, bool killed)
{
    struct broker *b = user;
    const uint32_t wait_ms = backoff_died(&b->backoff, killed);

    log_line(LOG_ERR, "the engine ended: %s", how);
    b->n_restarts++;
    b->engine.known = false;
    b->engine.stats = (struct seam_stats){0}; /* the next one begins with nothing in its KV */
    metrics_engine(&b->metrics, false, clock_now_ns());
    b->sent.n_run = 0;
    ladder_engine_gone(b, killed);
    blame(b, killed);
    sched_engine_gone(&b->sched);
    models_on_engine_gone(b, killed);
    if (backoff_hopeless(&b->backoff)) {
        refuse_all(b, wait_ms);
    }
    b->restart_due = true;
    uv_update_time(b->loop);
    (void)uv_timer_start(&b->restart, on_restart, wait_ms, 0);
    broker_dirty(b);
}

int engine_init(struct broker *b)
{
    const struct runner_handlers handlers = {.message = on_message, .gone = on_gone};
    int e = runner_proc_init(&b->runner, b->loop, &handlers, b);

    e = e == 0 ? wedge_init(&b->wedge, b) : e;
    if (e == 0) {
        start_process(b);
    }
    return e;
}
