/* verbs: from a message to a request, an answer or a refusal. */
#include "daemon/broker/verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "daemon/broker/admission.h"
#include "daemon/broker/answer_reuse.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/engine.h"
#include "daemon/broker/identity.h"
#include "daemon/broker/log.h"
#include "daemon/broker/metrics_broker.h"
#include "daemon/broker/models.h"
#include "daemon/broker/quantization.h"
#include "daemon/broker/request.h"
#include "daemon/broker/results.h"
#include "daemon/broker/session.h"
#include "daemon/broker/session_turn.h"
#include "daemon/broker/session_verbs.h"
#include "ipc/frame.h"

static void refuse(struct conn *c, uint32_t id, enum error_code code, const char *text)
{
    const struct msg_error e = {.code = code, .message = strview_of(text)};

    if (c->broker->draining) {
        c->broker->n_failed += code == ERR_DRAINING;
    }
    metrics_on_refusal(c->broker, code);
    conn_error(c, id, &e);
}

/* False, and answered, when the peer lacks the right. */
static bool may(struct conn *c, uint32_t id, unsigned right, const char *what)
{
    const struct grant *g = &c->grant;
    char text[96];

    if (g->known && (g->rights & right)) {
        return true;
    }
    (void)snprintf(text, sizeof(text), "uid %u may not %s", (unsigned)c->peer.uid, what);
    refuse(c, id, g->known ? ERR_FORBIDDEN : ERR_UNKNOWN_PEER, text);
    return false;
}

static struct strview default_model(const struct broker *b)
{
    if (b->config.default_model) {
        return strview_of(b->config.default_model);
    }
    if (b->listing && b->listing->n == 1) {
        return strview_of(b->listing->models[0].name);
    }
    return (struct strview){0};
}

void verbs_hello(struct conn *c, const struct msg_hello *m)
{
    const struct config *k = &c->broker->config;
    struct buf out;

    if (m->major != PROTOCOL_MAJOR) {
        conn_refuse(c, ERR_BAD_PROTOCOL, "this server speaks protocol 1");
        return;
    }
    if (m->n_required > 0) {
        conn_refuse(c, ERR_BAD_PROTOCOL, "a required feature is unknown to this server");
        return;
    }
    if (!c->grant.known) {
        conn_refuse(c, ERR_UNKNOWN_PEER,
                    "the policy names neither your uid, your groups nor your unit");
        return;
    }
    c->said_hello = true;
    strview_copy(c->client, sizeof(c->client), m->name);
    const struct msg_hello hello = {
        .major = PROTOCOL_MAJOR,
        .minor = PROTOCOL_MINOR,
        .name = strview_of("onebitd " ONEBIT_VERSION),
        .frame_bytes_max = FRAME_BODY_MAX,
        .requests_max = (uint32_t)k->requests_per_connection,
        .uid = c->peer.uid,
        .gid = c->peer.gid,
        .pid = (uint32_t)c->peer.pid,
        .default_model = default_model(c->broker),
    };
    buf_init(&out, FRAME_BODY_MAX + FRAME_HEADER);
    if (message_put_hello(&out, &hello, true) < 0) {
        buf_deinit(&out);
        conn_refuse(c, ERR_INTERNAL, "no hello could be written");
        return;
    }
    conn_send(c, &out);
}

/* A new request with this id, or NULL and answered. */
static struct request *take_id(struct conn *c, uint32_t id, enum request_kind kind)
{
    if (c->broker->draining && kind != REQUEST_LIST) {
        refuse(c, id, ERR_DRAINING, "the daemon is stopping");
        return NULL;
    }
    if (request_find(c, id)) {
        refuse(c, id, ERR_DUPLICATE_ID, "a request with this id is running");
        return NULL;
    }
    if (c->n_requests >= c->broker->config.requests_per_connection) {
        const struct msg_error e = {
            .code = ERR_QUEUE_FULL,
            .message = strview_of("as many requests as allowed are open on this connection"),
            .retry_after_ms = queue_retry_ms(&c->broker->queue, c->broker->mean_ms,
                                             (uint32_t)c->broker->config.streams_max)};
        conn_error(c, id, &e);
        metrics_on_refusal(c->broker, e.code);
        return NULL;
    }
    struct request *r = request_new(c, id, kind);
    if (!r) {
        refuse(c, id, ERR_INTERNAL, "no memory");
    }
    return r;
}

static void say_accepted(struct request *r)
{
    const struct msg_accepted m = {
        .global = r->job.seq,
        .position = r->kind == REQUEST_GENERATE ? queue_position(&r->broker->queue, &r->job) : 0,
        .model = strview_of(r->model->name),
        .session = session_turn_name(r)};
    struct buf out;

    buf_init(&out, FRAME_BODY_MAX + FRAME_HEADER);
    if (message_put_accepted(&out, r->id, &m) < 0) {
        buf_deinit(&out);
        return;
    }
    conn_send(r->conn, &out);
    if (r->model->state != MODEL_LOADED) {
        request_progress(r, PHASE_LOADING, 0, 0);
    } else if (r->job.parked) {
        request_progress(r, PHASE_QUEUED, 0, 0);
    } else {
        throttle_tell(r);
    }
}

/* Its model is known: refuse at once what cannot work, else let it wait for the model. */
static void attach(struct request *r, struct model *m, const struct file_mark *mark)
{
    const bool changed = mark && memcmp(mark, &m->mark, sizeof(*mark)) != 0;

    if (m->state == MODEL_REFUSED && (r->kind == REQUEST_LOAD || changed || !m->sticky)) {
        model_retry(m);
    }
    if (m->state == MODEL_REFUSED) {
        const struct msg_error e = {.code = m->error,
                                    .message = strview_of(m->error_text),
                                    .have = m->have,
                                    .limit = m->limit};
        request_fail_as(r, &e);
        return;
    }
    request_attach(r, m);
    residency_asked(m, mark ? mark->size : 0);
    if (m->state == MODEL_LOADED && !engine_check_quantization(r)) {
        return;
    }
    if (r->kind == REQUEST_GENERATE && (answer_reuse_serve(r) || !admission_enter(r))) {
        return;
    }
    say_accepted(r);
    broker_watch_deadline(m->broker, r->deadline_ns);
    if (m->state == MODEL_LOADED && r->kind == REQUEST_LOAD) {
        verbs_load_done(r);
    }
    broker_dirty(m->broker);
}

/* The folder has been read. */
static void resolve(struct request *r, int scan_result)
{
    struct broker *b = r->broker;
    struct strview name = strview_of(r->name);

    if (scan_result < 0) {
        results_no_listing(r, scan_result);
        return;
    }
    if (name.n == 0) {
        name = default_model(b);
    }
    if (name.n == 0) {
        request_fail(r, ERR_NO_MODEL, "%s",
                     b->listing->n == 0 ? "there is no model in the models folder"
                                        : "there are several models and no default: name one with "
                                          "-m, or set 'default' in [models]");
        return;
    }
    if (!admission_model(r, name)) {
        return;
    }
    const struct listed_model *found = model_listing_find(b->listing, name);
    if (!found) {
        request_fail(r, ERR_NO_MODEL, "there is no model '%.*s' in the models folder", (int)name.n,
                     name.data);
        return;
    }
    struct model *m = model_get(b, name);
    if (!m) {
        request_fail(r, ERR_INTERNAL, "no memory");
        return;
    }
    attach(r, m, &found->mark);
}

void verbs_resolve(struct broker *b, int scan_result)
{
    list_for_each (r, next, &b->scan_waiters, struct request, scan_link) {
        list_remove(&r->scan_link);
        if (r->kind == REQUEST_LIST) {
            results_list(r, scan_result);
        } else {
            resolve(r, scan_result);
        }
    }
}

/* Models in use need no look at the folder; others do, and then the request goes on in
 * resolve(). */
static void find_model(struct request *r)
{
    struct broker *b = r->broker;
    struct strview name = strview_of(r->name);

    if (name.n == 0 && b->config.default_model) {
        name = strview_of(b->config.default_model);
    }
    struct model *m = name.n > 0 ? model_find(b, name) : NULL;
    if (name.n > 0 && !admission_model(r, name)) {
        return;
    }
    if (m && m->state == MODEL_LOADED) {
        attach(r, m, NULL);
    } else {
        broker_scan(b, r);
    }
}

static uint64_t draw_seed(void)
{
    uint64_t seed = 0;

    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed)) {
        seed = clock_now_ns();
    }
    return seed & ((UINT64_C(1) << 53) - 1); /* survives a trip through JSON numbers */
}

/* The request's body as the engine gets it: as received, or written anew where the configuration
 * has another answer length than the engine's own. 0 or a negative errno. */
static int keep_body(struct request *r, const struct msg_generate *g, const uint8_t *body, size_t n)
{
    const uint64_t max_tokens = r->broker->config.max_tokens;
    struct msg_generate full = *g;
    int32_t *ids = NULL;
    struct buf out;

    buf_init(&out, FRAME_BODY_MAX + FRAME_HEADER);
    if (!r->turn && (g->max_tokens > 0 || max_tokens == CONFIG_MAX_TOKENS)) {
        const int e = buf_append(&out, body, n);
        r->body = buf_steal(&out, &r->n_body);
        return e;
    }
    if (g->max_tokens == 0 && max_tokens != CONFIG_MAX_TOKENS) {
        full.max_tokens = (uint32_t)max_tokens;
    }
    if (g->kind == PROMPT_IDS) {
        ids = malloc((g->ids.n ? g->ids.n : 1) * sizeof(*ids));
        if (!ids) {
            return -ENOMEM;
        }
        msg_ids_copy(&g->ids, ids);
    }
    const int e = message_put_generate(&out, r->id, &full, ids, ids ? g->ids.n : 0);
    free(ids);
    if (e < 0) {
        buf_deinit(&out);
        return e;
    }
    buf_drop(&out, FRAME_HEADER);
    r->body = buf_steal(&out, &r->n_body);
    return 0;
}

/* Its place in the queue, then the search for its model; or it is refused, and gone.
 * @g, @body: with its session's history, where it has one, `body` is the frame without */
static void enqueue(struct request *r, const struct msg_generate *g, const uint8_t *body, size_t n)
{
    struct conn *c = r->conn;
    const struct config *k = &c->broker->config;

    r->job.class_ = g->class_;
    if (!ladder_admit(r)) {
        return;
    }
    if (!admission_queue(c, r->id, n + (r->turn ? r->turn->session->n_text : 0))) {
        c->broker->n_failed++;
        r->outcome = ERR_QUEUE_FULL;
        request_drop(r);
        return;
    }
    const int e = keep_body(r, g, body, n);
    if (e < 0) {
        request_fail(r, e == -E2BIG ? ERR_FRAME_TOO_LONG : ERR_INTERNAL, "%s",
                     e != -E2BIG ? "no memory"
                     : r->turn   ? "with its session's messages the request is past the limit"
                                 : "with max_tokens the request is past the limit");
        return;
    }
    r->job.bytes = r->n_body;
    admission_hold(r);
    strview_copy(r->name, sizeof(r->name), g->model);
    strview_copy(r->quantization, sizeof(r->quantization), g->quantization);
    r->seed = g->has_seed ? g->seed : draw_seed();
    r->no_cache = g->no_cache;
    r->n_logprobs = g->n_logprobs;
    r->max_tokens = g->max_tokens ? g->max_tokens : (uint32_t)k->max_tokens;
    const uint64_t deadline_ms = g->has_deadline ? g->deadline_ms : k->deadline_ms;
    r->deadline_ns = r->arrived_ns + deadline_ms * NS_PER_MS;
    r->job.account = &c->identity->account;
    r->job.prompt = g->kind == PROMPT_IDS ? (uint32_t)g->ids.n : 0;
    sched_submit(&c->broker->sched, &r->job);
    broker_watch_deadline(c->broker, r->deadline_ns);
    find_model(r);
}

static void do_generate(struct conn *c, const struct message *m, const uint8_t *body, size_t n)
{
    const struct msg_generate *g = &m->generate;
    struct msg_generate *composed = NULL;
    char expected[MSG_NAME_MAX + 1];
    char text[320];

    strview_copy(expected, sizeof(expected), g->quantization);
    if (expected[0] && !quantization_known(expected)) {
        (void)snprintf(text, sizeof(text), "no such quantization; there are: %s",
                       quantization_names());
        refuse(c, m->id, ERR_UNKNOWN_QUANTIZATION, text);
        return;
    }
    if (g->model.n > 0 && !model_name_valid(g->model)) {
        refuse(c, m->id, ERR_NO_MODEL, "that is no name of a model");
        return;
    }
    if (!admission_class(c, m->id, g->class_)) {
        return;
    }
    struct request *r = take_id(c, m->id, REQUEST_GENERATE);
    if (!r || (g->has_session && !session_turn_begin(r, g, &composed))) {
        return;
    }
    enqueue(r, composed ? composed : g, body, n);
    free(composed);
}

static void plain_done(struct conn *c, uint32_t id)
{
    struct buf out;

    buf_init(&out, FRAME_BODY_MAX + FRAME_HEADER);
    if (results_done(&out, id) < 0) {
        buf_deinit(&out);
        refuse(c, id, ERR_INTERNAL, "no memory");
        return;
    }
    conn_send(c, &out);
}

static struct request *find_global(struct broker *b, uint64_t global)
{
    list_for_each (c, next_c, &b->conns, struct conn, link) {
        list_for_each (r, next, &c->requests, struct request, conn_link) {
            if (r->job.seq == global) {
                return r;
            }
        }
    }
    return NULL;
}

static void do_cancel(struct conn *c, const struct message *m)
{
    struct request *r = m->cancel.global ? find_global(c->broker, m->cancel.global)
                                         : request_find(c, m->cancel.target);

    if (r && r->conn->peer.uid != c->peer.uid &&
        !may(c, m->id, RIGHT_CANCEL, "cancel requests of other users")) {
        return;
    }
    if (!r) {
        refuse(c, m->id, ERR_NO_REQUEST, "there is no such request, or it has ended");
        return;
    }
    request_fail(r, ERR_CANCELLED, "cancelled");
    plain_done(c, m->id);
}

void verbs_load_done(struct request *r)
{
    struct buf out;

    buf_init(&out, FRAME_BODY_MAX + FRAME_HEADER);
    if (results_done(&out, r->id) < 0) {
        buf_deinit(&out);
        request_fail(r, ERR_INTERNAL, "no memory");
        return;
    }
    request_done(r, &out);
}

static void do_load(struct conn *c, const struct message *m)
{
    if (!may(c, m->id, RIGHT_LOAD, "load models")) {
        return;
    }
    if (!model_name_valid(m->load.model)) {
        refuse(c, m->id, ERR_NO_MODEL, "that is no name of a model");
        return;
    }
    struct request *r = take_id(c, m->id, REQUEST_LOAD);
    if (r) {
        strview_copy(r->name, sizeof(r->name), m->load.model);
        find_model(r);
    }
}

static void do_unload(struct conn *c, const struct message *m)
{
    if (!may(c, m->id, RIGHT_UNLOAD, "unload models")) {
        return;
    }
    struct model *model = model_find(c->broker, m->unload.model);
    if (!model || (model->state != MODEL_LOADED && !model->resident)) {
        refuse(c, m->id, ERR_NO_MODEL, "no model of that name is loaded");
        return;
    }
    if (!list_empty(&model->users)) {
        refuse(c, m->id, ERR_MODEL_BUSY, "requests use the model");
        return;
    }
    model_unload(model);
    plain_done(c, m->id);
}

static void do_list(struct conn *c, const struct message *m)
{
    struct request *r = take_id(c, m->id, REQUEST_LIST);

    if (r) {
        broker_scan(c->broker, r);
    }
}

/* What others do shows in the figures: for the operator. In ps the same right decides. */
static void do_metrics(struct conn *c, const struct message *m)
{
    if (may(c, m->id, RIGHT_METRICS, "read the metrics")) {
        results_metrics(c, m->id);
    }
}

void verbs_handle(struct conn *c, const struct message *m, const uint8_t *body, size_t n)
{
    if (m->type == MSG_HELLO || m->type >= MSG_ACCEPTED) {
        conn_refuse(c, ERR_BAD_FRAME, "not a message a client sends now");
        return;
    }
    if (!may(c, m->id, RIGHT_USE, "use the daemon")) {
        return;
    }
    switch (m->type) {
    case MSG_GENERATE:
        do_generate(c, m, body, n);
        break;
    case MSG_CANCEL:
        do_cancel(c, m);
        break;
    case MSG_LIST:
        do_list(c, m);
        break;
    case MSG_PS:
        results_ps(c, m->id);
        break;
    case MSG_STATUS:
        results_status(c, m->id);
        break;
    case MSG_LOAD:
        do_load(c, m);
        break;
    case MSG_UNLOAD:
        do_unload(c, m);
        break;
    case MSG_METRICS:
        do_metrics(c, m);
        break;
    case MSG_SESSIONS:
        session_verbs_list(c, m->id);
        break;
    case MSG_SESSION:
        session_verbs_show(c, m->id, m->session.session);
        break;
    case MSG_SESSION_DROP:
        if (session_verbs_drop(c, m->id, m->session_drop.session)) {
            plain_done(c, m->id);
        }
        break;
    default:
        refuse(c, m->id, ERR_UNSUPPORTED, "this server does not have that yet");
        break;
    }
}
