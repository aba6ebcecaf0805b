/* request: from the application's structs to frames in the connection's buffer. */
#include "client/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static_assert(MSG_MESSAGES_MAX == 256 && MSG_STOPS_MAX == 16 && MSG_LOGPROBS_MAX == 20,
              "onebit.h tells these limits");

static struct strview view(const char *z)
{
    return strview_of(z); /* NULL: empty */
}

static int class_of(enum onebit_class c, enum request_class *ret)
{
    switch (c) {
    case ONEBIT_CLASS_NORMAL:
        *ret = CLASS_NORMAL;
        return 0;
    case ONEBIT_CLASS_LOW:
        *ret = CLASS_LOW;
        return 0;
    case ONEBIT_CLASS_HIGH:
        *ret = CLASS_HIGH;
        return 0;
    }
    return ONEBIT_ERR_BAD_REQUEST;
}

static int set_prompt(const struct onebit_request *q, struct msg_generate *g)
{
    if ((q->n_messages > 0) + (q->prompt != NULL) + (q->n_ids > 0) != 1 ||
        q->n_messages > MSG_MESSAGES_MAX || q->n_ids > MSG_TOKENS_MAX) {
        return ONEBIT_ERR_BAD_REQUEST;
    }
    if (q->session && q->n_messages == 0) {
        return ONEBIT_ERR_BAD_REQUEST;
    }
    if (q->prompt) {
        g->kind = PROMPT_TEXT;
        g->prompt =
            q->prompt_bytes > 0 ? (struct strview){q->prompt, q->prompt_bytes} : view(q->prompt);
        return 0;
    }
    if (q->n_ids > 0) {
        g->kind = PROMPT_IDS;
        return 0;
    }
    g->kind = PROMPT_CHAT;
    g->n_messages = q->n_messages;
    for (size_t i = 0; i < q->n_messages; i++) {
        g->messages[i].role = view(q->messages[i].role);
        g->messages[i].content = view(q->messages[i].content);
    }
    return 0;
}

static int set_fields(const struct onebit_request *q, struct msg_generate *g)
{
    if (q->n_stops > MSG_STOPS_MAX || q->n_logprobs > MSG_LOGPROBS_MAX) {
        return ONEBIT_ERR_BAD_REQUEST;
    }
    g->model = view(q->model);
    g->chat_template = view(q->chat_template);
    g->quantization = view(q->quantization);
    g->n_stops = q->n_stops;
    for (size_t i = 0; i < q->n_stops; i++) {
        g->stops[i] = view(q->stops[i]);
    }
    g->no_thinking = q->no_thinking;
    g->ignore_eos = q->ignore_eos;
    g->max_tokens = q->max_tokens;
    g->n_logprobs = q->n_logprobs;
    g->has_temperature = q->has & ONEBIT_HAS_TEMPERATURE;
    g->has_top_k = q->has & ONEBIT_HAS_TOP_K;
    g->has_top_p = q->has & ONEBIT_HAS_TOP_P;
    g->has_min_p = q->has & ONEBIT_HAS_MIN_P;
    g->has_repeat_penalty = q->has & ONEBIT_HAS_REPEAT_PENALTY;
    g->has_seed = q->has & ONEBIT_HAS_SEED;
    g->has_deadline = q->has & ONEBIT_HAS_DEADLINE;
    g->temperature = q->temperature;
    g->top_k = q->top_k;
    g->top_p = q->top_p;
    g->min_p = q->min_p;
    g->repeat_penalty = q->repeat_penalty;
    g->seed = q->seed;
    g->deadline_ms = q->deadline_ms;
    g->has_session = q->session != NULL;
    g->session = view(q->session);
    g->trim = q->trim;
    g->no_cache = q->no_cache;
    return class_of(q->request_class, &g->class_);
}

/* ---- queueing ---- */

/* What every request passes first. */
static int may_queue(struct onebit_conn *conn, const struct onebit_handler *handler)
{
    const uint32_t said = conn->server.requests_max;
    const size_t most = said > 0 && said < REQUESTS_MAX ? said : REQUESTS_MAX;

    if (conn->failed) {
        return conn->failed;
    }
    if (canceller_tripped(conn->canceller)) {
        return ONEBIT_ERR_CANCELLED;
    }
    conn->trip_seen = false; /* it has been reset, if ever it was */
    if (handler && handler->size < sizeof(handler->size)) {
        return -EINVAL;
    }
    return conn->n_requests < most ? 0 : -EAGAIN;
}

struct caller { /* who asked: the same three everywhere */
    const struct onebit_handler *handler;
    void *user;
    struct waiter *waiter;
    uint32_t *ret_id;
};

/* The frame that began at `mark` was packed with outcome r: keep the request, or forget it. */
static int settle(struct onebit_conn *conn, struct pending *p, size_t mark, int r, uint32_t *ret_id)
{
    r = pending_packed(conn, p, mark, r);
    if (r == 0 && !conn->dispatching) {
        r = conn_arm(conn);
    }
    if (r < 0) {
        conn->out.n = mark;
        pending_drop(conn, p);
        return r;
    }
    if (ret_id) {
        *ret_id = p->id;
    }
    return 0;
}

static int queue_generate(struct onebit_conn *conn, const struct onebit_request *request,
                          const struct caller *who)
{
    struct onebit_request known = {0};
    struct pending *p;
    int r = may_queue(conn, who->handler);

    if (r == 0) {
        r = struct_known(&known, sizeof(known), request);
    }
    if (r != 0) {
        return r;
    }
    struct msg_generate *g = calloc(1, sizeof(*g));
    if (!g) {
        return -ENOMEM;
    }
    r = set_prompt(&known, g);
    if (r == 0) {
        r = set_fields(&known, g);
    }
    if (r == 0) {
        r = pending_add(conn, who->handler, who->user, who->waiter, &p);
    }
    if (r == 0) {
        const size_t mark = conn->out.n;
        p->repeatable = true;
        p->holds = known.hold_bytes > 0;
        p->once = known.session != NULL;
        buf_init(&p->held, known.hold_bytes);
        if (g->has_deadline) {
            pending_set_deadline(conn, p, g->deadline_ms);
        }
        r = settle(conn, p, mark,
                   message_put_generate(&conn->out, p->id, g, known.ids, known.n_ids), who->ret_id);
    }
    free(g);
    return r;
}

int onebit_generate(struct onebit_conn *conn, const struct onebit_request *request,
                    const struct onebit_handler *handler, void *user, uint32_t *ret_id)
{
    return queue_generate(conn, request, &(struct caller){handler, user, NULL, ret_id});
}

int onebit_run(struct onebit_conn *conn, const struct onebit_request *request,
               const struct onebit_handler *handler, void *user)
{
    struct waiter w = {0};

    if (conn->dispatching) {
        return -EBUSY;
    }
    const int r = queue_generate(conn, request, &(struct caller){handler, user, &w, NULL});
    return r != 0 ? r : conn_wait(conn, &w);
}

/* ---- the other verbs ---- */

enum naming { NAMES_NOTHING, NAMES_MODEL, NAMES_SESSION };

static const struct verb {
    enum message_type type;
    enum naming naming;
    bool text;       /* its result is text, not JSON */
    bool repeatable; /* twice does no harm */
} verbs[] = {
    [ONEBIT_LIST] = {MSG_LIST, NAMES_NOTHING, false, true},
    [ONEBIT_PS] = {MSG_PS, NAMES_NOTHING, false, true},
    [ONEBIT_STATUS] = {MSG_STATUS, NAMES_NOTHING, false, true},
    [ONEBIT_LOAD] = {MSG_LOAD, NAMES_MODEL, false, true},
    [ONEBIT_UNLOAD] = {MSG_UNLOAD, NAMES_MODEL, false, false},
    [ONEBIT_SESSIONS] = {MSG_SESSIONS, NAMES_NOTHING, false, true},
    [ONEBIT_SESSION] = {MSG_SESSION, NAMES_SESSION, false, true},
    [ONEBIT_SESSION_DROP] = {MSG_SESSION_DROP, NAMES_SESSION, false, false},
    [ONEBIT_METRICS] = {MSG_METRICS, NAMES_NOTHING, true, true},
};

static int put_verb(struct buf *out, uint32_t id, const struct verb *v, const char *name)
{
    switch (v->naming) {
    case NAMES_MODEL:
        return message_put_model(out, id, v->type, view(name));
    case NAMES_SESSION:
        return message_put_session(out, id, v->type, view(name));
    default:
        return message_put_query(out, id, v->type);
    }
}

static int queue_verb(struct onebit_conn *conn, enum onebit_verb verb, const char *name,
                      const struct caller *who)
{
    const size_t mark = conn->out.n;
    struct pending *p;
    int r = may_queue(conn, who->handler);

    if (r != 0) {
        return r;
    }
    if ((unsigned)verb >= ARRAY_SIZE(verbs) ||
        (verbs[verb].naming != NAMES_NOTHING) != (name != NULL)) {
        return ONEBIT_ERR_BAD_REQUEST;
    }
    r = pending_add(conn, who->handler, who->user, who->waiter, &p);
    if (r != 0) {
        return r;
    }
    p->wants_text = verbs[verb].text;
    p->repeatable = verbs[verb].repeatable;
    r = put_verb(&conn->out, p->id, &verbs[verb], name);
    return settle(conn, p, mark, r, who->ret_id);
}

int onebit_ask(struct onebit_conn *conn, enum onebit_verb verb, const char *name,
               const struct onebit_handler *handler, void *user, uint32_t *ret_id)
{
    return queue_verb(conn, verb, name, &(struct caller){handler, user, NULL, ret_id});
}

static int ask_and_wait(struct onebit_conn *conn, enum onebit_verb verb, const char *name,
                        char **ret_result)
{
    struct waiter w = {.wants_result = ret_result != NULL};

    if (conn->dispatching) {
        return -EBUSY;
    }
    int r = queue_verb(conn, verb, name, &(struct caller){NULL, NULL, &w, NULL});
    if (r == 0) {
        r = conn_wait(conn, &w);
    }
    if (r == 0 && ret_result && !w.result) {
        return -EPROTO; /* an answer without a result */
    }
    if (r == 0 && ret_result) {
        *ret_result = w.result;
    }
    return r;
}

int onebit_list(struct onebit_conn *conn, char **ret_json)
{
    return ask_and_wait(conn, ONEBIT_LIST, NULL, ret_json);
}

int onebit_ps(struct onebit_conn *conn, char **ret_json)
{
    return ask_and_wait(conn, ONEBIT_PS, NULL, ret_json);
}

int onebit_status(struct onebit_conn *conn, char **ret_json)
{
    return ask_and_wait(conn, ONEBIT_STATUS, NULL, ret_json);
}

int onebit_sessions(struct onebit_conn *conn, char **ret_json)
{
    return ask_and_wait(conn, ONEBIT_SESSIONS, NULL, ret_json);
}

int onebit_session(struct onebit_conn *conn, const char *name, char **ret_json)
{
    return ask_and_wait(conn, ONEBIT_SESSION, name, ret_json);
}

int onebit_session_drop(struct onebit_conn *conn, const char *name)
{
    return ask_and_wait(conn, ONEBIT_SESSION_DROP, name, NULL);
}

int onebit_metrics(struct onebit_conn *conn, char **ret_text)
{
    return ask_and_wait(conn, ONEBIT_METRICS, NULL, ret_text);
}

int onebit_load(struct onebit_conn *conn, const char *model)
{
    return ask_and_wait(conn, ONEBIT_LOAD, model, NULL);
}

int onebit_unload(struct onebit_conn *conn, const char *model)
{
    return ask_and_wait(conn, ONEBIT_UNLOAD, model, NULL);
}

/* ---- cancelling ---- */

int onebit_cancel(struct onebit_conn *conn, uint32_t id)
{
    struct pending *p = pending_find(conn, id);

    if (conn->failed) {
        return conn->failed;
    }
    if (!p) {
        return ONEBIT_ERR_NO_REQUEST;
    }
    const int r = pending_cancel(conn, p);
    return r == 0 && !conn->dispatching ? conn_arm(conn) : r;
}

int onebit_cancel_request(struct onebit_conn *conn, uint64_t request,
                          const struct onebit_handler *handler, void *user, uint32_t *ret_id)
{
    const size_t mark = conn->out.n;
    const struct msg_cancel cancel = {.global = request};
    struct pending *p;
    int r = may_queue(conn, handler);

    if (r == 0 && request == 0) {
        r = ONEBIT_ERR_BAD_REQUEST;
    }
    if (r == 0) {
        r = pending_add(conn, handler, user, NULL, &p);
    }
    if (r != 0) {
        return r;
    }
    return settle(conn, p, mark, message_put_cancel(&conn->out, p->id, &cancel), ret_id);
}
