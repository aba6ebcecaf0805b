/* admission: refused at once with the reason and a time to come back, or let in.
 *
 * In this order: the breaker (nothing helps a model that rests), the deadline (what cannot be ready
 * in time costs others for nothing), then the rate limits, which are charged by this. */
#include "daemon/broker/admission.h"

#include <stdio.h>

#include "base/clock.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/log.h"
#include "daemon/broker/metrics_broker.h"
#include "daemon/broker/models.h"
#include "daemon/broker/request.h"

#define RETRY_MIN_MS 100u
#define LATELY 0.75 /* how much of what was before counts beside the latest request */
#define TIMER_MAX_MS UINT64_C(3600000) /* looked at once an hour at least: clocks are set */

static void on_gate(uv_timer_t *timer)
{
    admission_advance(timer->data);
}

void admission_init(struct broker *b)
{
    gate_init(&b->gate);
    b->gate_timer.data = b;
    (void)uv_timer_init(b->loop, &b->gate_timer); /* cannot fail: it only fills the struct */
    admission_reload(b);
}

void admission_reload(struct broker *b)
{
    const struct moment now = broker_moment();

    buckets_set(&b->gate.all, &b->config.rates, &now);
    admission_advance(b);
}

void admission_close(struct broker *b)
{
    if (!uv_is_closing((uv_handle_t *)&b->gate_timer)) {
        uv_close((uv_handle_t *)&b->gate_timer, NULL);
    }
}

static uint32_t retry_ms(uint64_t wait_ns)
{
    const uint64_t ms = wait_ns / NS_PER_MS + 1;

    return ms < RETRY_MIN_MS ? RETRY_MIN_MS : ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static void refuse(struct request *r, enum error_code code, uint64_t wait_ns, const char *text)
{
    const struct msg_error e = {
        .code = code, .message = strview_of(text), .retry_after_ms = retry_ms(wait_ns)};

    request_fail_as(r, &e);
}

/* ---- policy ---- */

bool admission_class(struct conn *c, uint32_t id, enum request_class class_)
{
    char text[96];

    if (class_ <= c->grant.class_) {
        return true;
    }
    (void)snprintf(text, sizeof(text), "uid %u may not ask for class %s; its highest is %s",
                   (unsigned)c->peer.uid, request_class_name(class_),
                   request_class_name(c->grant.class_));
    const struct msg_error e = {.code = ERR_FORBIDDEN, .message = strview_of(text)};
    metrics_on_refusal(c->broker, e.code);
    conn_error(c, id, &e);
    return false;
}

bool admission_model(struct request *r, struct strview model)
{
    const struct broker *b = r->broker;
    const struct policy_peer who = conn_who(r->conn);

    if (policy_model_allowed(&b->config.policy, b->own_uid, &who, model)) {
        return true;
    }
    request_fail(r, ERR_FORBIDDEN, "uid %u may not use model %.*s", (unsigned)who.uid, (int)model.n,
                 model.data);
    return false;
}

/* ---- the queue's bounds ---- */

/* How many of n free streams its running_max keeps from an identity. */
static size_t streams_kept(const struct sched_account *a, size_t n)
{
    const size_t may = a->running_max > a->n_held ? a->running_max - a->n_held : 0;

    return a->running_max > 0 && n > may ? n - may : 0;
}

uint64_t admission_waiting_max(const struct broker *b, const struct grant *g)
{
    return ladder_queue_max(b, g->has_queue_max ? g->queue_max : b->config.queue_per_identity);
}

uint64_t admission_bytes_max(const struct broker *b)
{
    return ladder_queue_max(b, b->config.queue_bytes_per_identity);
}

bool admission_queue(struct conn *c, uint32_t id, size_t bytes)
{
    static const char *const why[] = {
        [QUEUE_FULL_IDENTITY] = "as many requests of this user wait as allowed",
        [QUEUE_FULL_TOTAL] = "as many requests wait as allowed",
        [QUEUE_FULL_BYTES] = "the waiting requests hold as many bytes as allowed",
    };
    struct broker *b = c->broker;
    const struct config *k = &b->config;
    const struct identity *who = c->identity;
    const size_t n_free =
        b->queue.n_running < k->streams_max ? (size_t)k->streams_max - b->queue.n_running : 0;
    const struct queue_limits limits = {.per_identity = admission_waiting_max(b, &c->grant),
                                        .total = k->queue_total,
                                        .bytes = k->queue_bytes,
                                        .streams_kept = streams_kept(&who->account, n_free)};
    const int full = queue_admit(&b->queue, &limits, n_free, who->account.n_waiting, bytes);
    const uint64_t own_max = admission_bytes_max(b);
    const bool own_full = bytes > own_max || who->queue_bytes > own_max - bytes;

    if (full == QUEUE_OK && !own_full) {
        return true;
    }
    const struct msg_error e = {
        .code = ERR_QUEUE_FULL,
        .message =
            strview_of(full == QUEUE_OK ? "the requests of this user hold as many bytes as allowed"
                                        : why[full]),
        .retry_after_ms = queue_retry_ms(&b->queue, b->mean_ms, (uint32_t)k->streams_max)};
    conn_error(c, id, &e);
    return false;
}

void admission_hold(struct request *r)
{
    r->ledger_bytes = r->n_body;
    r->conn->identity->queue_bytes += r->ledger_bytes;
}

/* ---- the breaker ---- */

static struct breaker_limits breaker_limits(const struct broker *b)
{
    return (struct breaker_limits){.faults = b->config.breaker_faults,
                                   .open_ns = b->config.breaker_open_ms * NS_PER_MS};
}

static bool pass_breaker(struct request *r, uint64_t now)
{
    uint64_t wait = 0;
    char text[MODEL_NAME_MAX + 64];
    const enum breaker_verdict verdict = breaker_ask(&r->model->breaker, now, &wait);

    r->probe = verdict == BREAKER_PROBE;
    if (r->probe) {
        log_client(LOG_MODEL_FAULTS, LOG_NOTICE, "model %s: request %llu tries it", r->model->name,
                   (unsigned long long)r->job.seq);
    }
    if (verdict == BREAKER_REFUSE) {
        (void)snprintf(text, sizeof(text), "model %s failed %llu times in a row and rests",
                       r->model->name, (unsigned long long)r->model->breaker.faults);
        refuse(r, ERR_BREAKER_OPEN, wait, text);
        return false;
    }
    return true;
}

static void fault(struct model *m, bool probe)
{
    const struct breaker_limits limits = breaker_limits(m->broker);

    if (breaker_fault(&m->breaker, &limits, probe, clock_now_ns())) {
        log_client(LOG_MODEL_FAULTS, LOG_ERR,
                   "model %s: %llu failures in a row: it rests for %llu ms", m->name,
                   (unsigned long long)m->breaker.faults,
                   (unsigned long long)m->broker->config.breaker_open_ms);
    }
}

static void tell_breaker(struct request *r)
{
    struct model *m = r->model;

    if (!m || r->kind != REQUEST_GENERATE) {
        return;
    }
    if (r->fault) {
        fault(m, r->probe);
    } else if (r->outcome != ERR_NONE || r->kept) {
        breaker_no_word(&m->breaker, r->probe);
    } else if (breaker_success(&m->breaker, r->probe)) {
        log_client(LOG_MODEL_FAULTS, LOG_NOTICE, "model %s: it works again", m->name);
    }
}

void admission_load_fault(struct model *m)
{
    bool told = false;

    list_for_each (r, next, &m->users, struct request, model_link) {
        r->fault = r->probe; /* its end will tell */
        told |= r->probe;
    }
    if (!told) {
        fault(m, false);
    }
}

/* ---- the deadline ---- */

/* Expected time to the first token, by what waits and how fast prompts have been; 0: not known. Of
 * a prompt that may be cached as much counts as was computed of this identity's lately. */
static uint64_t expected_ms(const struct request *r, uint64_t now_ns)
{
    const struct broker *b = r->broker;
    const struct identity *who = r->conn->identity;
    /* Its own prompt is among what its account waits for. */
    const struct slots *m = r->job.slots;
    const uint64_t ms =
        sched_first_token_ms(&b->sched, &who->account, m, r->job.class_, 0, b->mean_ms, now_ns);

    if (ms == 0 || r->no_cache || who->lately_prompt <= 0) {
        return ms;
    }
    const double cached = who->lately_cached / who->lately_prompt;
    const double saved = cached * r->job.prompt / m->prompt_rate / 1000;
    return saved < (double)ms ? ms - (uint64_t)saved : 1;
}

/* Its model is not there, and something has to leave for it, which takes its time. */
static bool room_in_time(struct request *r, uint64_t now, uint64_t left_ms)
{
    const uint64_t ms = residency_expected_ms(r->model, now);
    char text[160];

    if (ms <= left_ms) {
        return true;
    }
    (void)snprintf(text, sizeof(text),
                   "there is room for the model in %llu ms at the earliest, past the deadline of "
                   "%llu ms",
                   (unsigned long long)ms,
                   (unsigned long long)((r->deadline_ns - r->arrived_ns) / NS_PER_MS));
    refuse(r, ERR_OVERLOADED, (ms - left_ms) * NS_PER_MS, text);
    return false;
}

static bool can_be_in_time(struct request *r, uint64_t now)
{
    const uint64_t left_ms = r->deadline_ns > now ? (r->deadline_ns - now) / NS_PER_MS : 0;
    char text[128];

    if (r->deadline_ns == r->arrived_ns || r->deadline_ns == UINT64_MAX) {
        return true; /* at once or never: the next plan says; or nobody is in a hurry */
    }
    if (!room_in_time(r, now, left_ms)) {
        return false;
    }
    const uint64_t ms = expected_ms(r, now);
    if (ms <= left_ms) {
        return true;
    }
    (void)snprintf(
        text, sizeof(text), "the first token is expected in %llu ms, past the deadline of %llu ms",
        (unsigned long long)ms, (unsigned long long)((r->deadline_ns - r->arrived_ns) / NS_PER_MS));
    refuse(r, ERR_DEADLINE, (ms - left_ms) * NS_PER_MS, text);
    return false;
}

/* ---- the rate limits ---- */

static void limited(struct request *r, enum rate_limit why, uint64_t wait_ns)
{
    char text[96];

    (void)snprintf(text, sizeof(text), "the limit %s is used up", rate_limit_name(why));
    r->broker->metrics.limited[why]++;
    refuse(r, ERR_RATE_LIMITED, wait_ns, text);
}

/* Prompt and longest answer, as far as the context has room for both. */
static uint64_t estimate(const struct request *r)
{
    const struct model_facts *f = &r->model->facts;
    const uint64_t n = (uint64_t)r->job.prompt + r->max_tokens;

    return f->known && n > f->n_ctx ? f->n_ctx : n;
}

static bool pass_gate(struct request *r, const struct moment *now)
{
    struct gate_line *line = &r->conn->identity->line;
    struct gate *g = &r->broker->gate;
    uint64_t wait = 0;
    const enum rate_limit why = gate_ask(g, line, &r->ticket, estimate(r), now, &wait);

    if (why == RATE_NONE) {
        return true;
    }
    if (r->deadline_ns <= now->now_ns || wait >= r->deadline_ns - now->now_ns) {
        limited(r, why, wait);
        return false;
    }
    gate_wait(g, &r->ticket, why);
    sched_park(&r->job, true);
    admission_advance(r->broker);
    return true;
}

bool admission_enter(struct request *r)
{
    const struct moment now = broker_moment();

    return pass_breaker(r, now.now_ns) && can_be_in_time(r, now.now_ns) && pass_gate(r, &now);
}

void admission_advance(struct broker *b)
{
    const struct moment now = broker_moment();
    uint64_t wait = UINT64_MAX;
    struct ticket *t;

    if (b->stopping ||
        (list_empty(&b->gate.lines) && !uv_is_active((uv_handle_t *)&b->gate_timer))) {
        return;
    }
    while ((t = gate_next(&b->gate, &now, &wait))) {
        struct request *r = container_of(t, struct request, ticket);
        sched_park(&r->job, false);
        broker_dirty(b);
    }
    if (wait == UINT64_MAX) {
        (void)uv_timer_stop(&b->gate_timer);
        return;
    }
    const uint64_t ms = wait / NS_PER_MS + 1;
    uv_update_time(b->loop);
    (void)uv_timer_start(&b->gate_timer, on_gate, ms < TIMER_MAX_MS ? ms : TIMER_MAX_MS, 0);
}

void admission_late(struct request *r)
{
    const struct moment now = broker_moment();
    const struct ahead nobody = {0};
    uint64_t wait = 0;
    const enum rate_limit why =
        buckets_wait(&r->broker->gate.all, &nobody, &r->conn->identity->line.own, &nobody,
                     r->ticket.tokens, &now, &wait);

    limited(r, why != RATE_NONE ? why : r->ticket.why, wait);
}

/* ---- the end ---- */

static uint64_t used_tokens(const struct request *r)
{
    const uint64_t prompt =
        r->job.charged > r->cached_tokens ? r->job.charged - r->cached_tokens : 0;
    const uint64_t n = prompt + r->job.answer;

    return r->job.running && n == 0 ? 1 : n; /* who was begun has had his request */
}

void admission_end(struct request *r)
{
    struct identity *who = r->conn->identity;
    const struct moment now = broker_moment();

    tell_breaker(r);
    if (r->kind != REQUEST_GENERATE || !who) {
        return;
    }
    gate_leave(&r->broker->gate, &r->ticket, used_tokens(r), &now);
    who->queue_bytes -= r->ledger_bytes;
    if (r->prompt_tokens > 0) {
        who->lately_prompt = who->lately_prompt * LATELY + r->prompt_tokens;
        who->lately_cached = who->lately_cached * LATELY + r->cached_tokens;
    }
    admission_advance(r->broker);
}
