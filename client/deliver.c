/* deliver: from the daemon's messages to the application's callbacks.
 *
 * A message's views borrow from the frame and have no NUL; applications get C strings, so each
 * message's strings are copied into one scratch buffer that was reserved for all of them before the
 * first is placed. A request leaves the list before its last callback runs, so that callback may do
 * with the connection what any other may. */
#include "client/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "client/json.h"
#include "ipc/mp.h"

#define STRINGS_MAX 16u /* strings of one message: room for their NULs */

/* A C string of v in the scratch buffer; room has been reserved. */
static const char *copy(struct onebit_conn *conn, struct strview v)
{
    char *at = (char *)conn->text.data + conn->text.n;

    assert(conn->text.room - conn->text.n > v.n);
    if (v.n > 0) {
        memcpy(at, v.data, v.n);
    }
    at[v.n] = '\0';
    conn->text.n += v.n + 1;
    return at;
}

static int grow(void **array, size_t *room, size_t n, size_t each)
{
    if (n <= *room) {
        return 0;
    }
    void *bigger = reallocarray(*array, n, each);
    if (!bigger) {
        return -ENOMEM;
    }
    *array = bigger;
    *room = n;
    return 0;
}

/* ---- the end of a request ---- */

void end_with_failure(struct onebit_conn *conn, struct pending *p,
                      const struct onebit_failure *failure)
{
    struct pending ended = *p;

    pending_drop(conn, p);
    if (ended.waiter) {
        ended.waiter->ended = true;
        ended.waiter->outcome = failure->code;
    }
    if (ended.handler.error) {
        ended.handler.error(conn, ended.id, failure, ended.user);
    }
}

static void on_error(struct onebit_conn *conn, struct pending *p, const struct msg_error *e)
{
    struct onebit_failure failure = {
        .code = e->code != ERR_NONE ? (int)e->code : ONEBIT_ERR_INTERNAL,
        .number = e->number,
        .retryable = e->retryable,
        .retry_after_ms = e->retry_after_ms,
        .name = copy(conn, e->name),
        .message = copy(conn, e->message),
        .hint = copy(conn, e->hint),
        .have = e->have,
        .limit = e->limit,
    };

    pending_failed(conn, p, &failure, /* lost= */ false);
}

/* The text of a result that is one string without a NUL, and a NUL that is not counted. */
static int text_from_msgpack(struct buf *out, struct strview value)
{
    struct cursor c = cursor_of(value.data, value.n);
    struct mp_value v;

    if (!mp_next(&c, &v) || v.type != MP_STR || cursor_left(&c) > 0 ||
        (v.str.n > 0 && memchr(v.str.data, '\0', v.str.n))) {
        return JSON_MALFORMED;
    }
    int r = buf_append(out, v.str.data, v.str.n);
    if (r == 0) {
        r = buf_append(out, "", 1);
        out->n -= r == 0;
    }
    return r;
}

/* What a verb's answer holds, as text; *ret_text is malloc'ed, NULL when there is none. */
static int result_text(struct onebit_conn *conn, const struct pending *p, struct strview result,
                       char **ret_text, size_t *ret_n)
{
    struct buf text;

    *ret_text = NULL;
    *ret_n = 0;
    if (result.n == 0) {
        return 0;
    }
    buf_init(&text, JSON_BYTES_MAX);
    const int r =
        p->wants_text ? text_from_msgpack(&text, result) : json_from_msgpack(&text, result);
    if (r != JSON_OK) {
        buf_deinit(&text);
        if (r > 0) {
            conn_fail(conn, -EPROTO, "The daemon sent a result that cannot be read.");
            return 0;
        }
        return r;
    }
    *ret_text = (char *)buf_steal(&text, ret_n);
    return 0;
}

static int on_done(struct onebit_conn *conn, struct pending *p, const struct message *m)
{
    const struct msg_done *d = &m->done;
    char *result;
    size_t result_n;
    const int r = result_text(conn, p, m->result, &result, &result_n);

    if (r < 0 || conn->lost) {
        return r;
    }
    const struct onebit_done done = {
        .finish_reason = copy(conn, d->finish_reason),
        .prompt_tokens = d->prompt_tokens,
        .cached_tokens = d->cached_tokens,
        .answer_tokens = d->answer_tokens,
        .seed = d->seed,
        .queue_us = d->queue_us,
        .prefill_us = d->prefill_us,
        .decode_us = d->decode_us,
        .restarts = d->restarts,
        .model = copy(conn, d->model),
        .formats = copy(conn, d->formats),
        .quantization = copy(conn, d->quantization),
        .kv = copy(conn, d->kv),
        .cpu = copy(conn, d->cpu),
        .result = result,
        .result_bytes = result_n,
        .trimmed = d->trimmed,
        .cached_answer = d->cached_answer,
        .retries = p->retries,
    };
    struct pending ended = *p;

    pending_drop(conn, p);
    if (ended.handler.done) {
        ended.handler.done(conn, ended.id, &done, ended.user);
    }
    if (ended.waiter) {
        ended.waiter->ended = true;
        if (ended.waiter->wants_result) {
            ended.waiter->result = result;
            result = NULL; /* the waiter's now */
        }
    }
    free(result);
    return 0;
}

/* ---- while a request runs ---- */

/* Copy the alternatives of each token into the scratch arrays; the message's reader has checked
 * them. */
static int copy_logprobs(struct onebit_conn *conn, const struct msg_delta *d)
{
    struct msg_logprob row[MSG_LOGPROBS_ROW_MAX];
    struct cursor first = d->logprobs, at = d->logprobs;
    const size_t most = (size_t)d->n_logprobs * msg_logprobs_next(&first, row); /* rows are equal */
    size_t used = 0;
    int r = grow((void **)&conn->tokens, &conn->tokens_room, d->n_logprobs, sizeof(*conn->tokens));

    if (r == 0) {
        r = grow((void **)&conn->logprobs, &conn->logprobs_room, most, sizeof(*conn->logprobs));
    }
    for (uint32_t i = 0; r == 0 && i < d->n_logprobs; i++) {
        const uint32_t n = msg_logprobs_next(&at, row);
        conn->tokens[i] = (struct onebit_token_logprobs){conn->logprobs + used, n};
        for (uint32_t k = 0; k < n && used < most; k++) {
            conn->logprobs[used++] = (struct onebit_logprob){row[k].id, row[k].logprob};
        }
    }
    return r;
}

static int show_delta(struct onebit_conn *conn, struct pending *p, const struct msg_delta *d)
{
    int r = grow((void **)&conn->ids, &conn->ids_room, d->ids.n, sizeof(*conn->ids));

    if (r == 0 && d->n_logprobs > 0) {
        r = copy_logprobs(conn, d);
    }
    if (r < 0) {
        return r;
    }
    msg_ids_copy(&d->ids, conn->ids);
    const struct onebit_delta delta = {
        .text = copy(conn, d->text),
        .text_bytes = d->text.n,
        .ids = conn->ids,
        .n_ids = d->ids.n,
        .first = d->n0,
        .logprobs = d->n_logprobs > 0 ? conn->tokens : NULL,
    };
    if (p->handler.delta) {
        p->handler.delta(conn, p->id, &delta, p->user);
    }
    return 0;
}

/* ---- answers that are held back ---- */

/* Room for the strings of a message that came in a body of so many bytes. */
static int scratch(struct onebit_conn *conn, size_t body_n)
{
    conn->text.n = 0;
    return buf_reserve(&conn->text, body_n + STRINGS_MAX);
}

/* Tell what was held back of an answer, and hold nothing back any more. */
static int let_go(struct onebit_conn *conn, struct pending *p)
{
    struct buf held = p->held;
    int r = 0;

    p->held = (struct buf){0};
    p->holds = false;
    for (size_t at = 0; r == 0 && at < held.n;) {
        struct message m;
        uint32_t n;
        memcpy(&n, held.data + at, sizeof(n));
        at += sizeof(n);
        r = scratch(conn, n);
        if (r == 0 && message_read(&m, held.data + at, n, NULL) == MESSAGE_OK) {
            r = show_delta(conn, p, &m.delta); /* it was read before */
        }
        at += n;
    }
    buf_deinit(&held);
    return r;
}

/* Frames as they came, each after its length: -E2BIG where there is no room for this one. */
static int hold(struct pending *p, const uint8_t *body, size_t body_n)
{
    const uint32_t n = (uint32_t)body_n; /* FRAME_BODY_MAX is less */
    int r = buf_reserve(&p->held, sizeof(n) + body_n);

    if (r == 0) {
        (void)!buf_append(&p->held, &n, sizeof(n)); /* there is room */
        (void)!buf_append(&p->held, body, body_n);
    }
    return r;
}

static int on_delta(struct onebit_conn *conn, struct pending *p, const struct message *m,
                    const uint8_t *body, size_t body_n)
{
    int r = p->holds ? hold(p, body, body_n) : -E2BIG;

    if (r == -E2BIG && p->holds) {
        r = let_go(conn, p);
        r = r == 0 ? scratch(conn, body_n) : r;
        r = r == 0 ? -E2BIG : r;
    }
    if (r != 0 && r != -E2BIG) {
        return r;
    }
    pending_started(conn, p);
    return r == 0 ? 0 : show_delta(conn, p, &m->delta);
}

static void on_accepted(struct onebit_conn *conn, struct pending *p, const struct msg_accepted *a)
{
    const struct onebit_accepted accepted = {
        .request = a->global,
        .position = a->position,
        .model = copy(conn, a->model),
        .session = copy(conn, a->session),
    };

    if (p->starts_at_once) {
        p->first_by_ns = NEVER_NS;
        p->give_up_ns = p->cancelled ? p->give_up_ns : NEVER_NS;
    }
    if (p->handler.accepted) {
        p->handler.accepted(conn, p->id, &accepted, p->user);
    }
}

static void on_progress(struct onebit_conn *conn, struct pending *p, const struct msg_progress *g)
{
    char reason[MSG_REASON_MAX + 1];
    const struct onebit_progress progress = {
        .phase = progress_phase_name(g->phase),
        .done = g->done,
        .total = g->total,
        .reason = reason,
    };

    strview_copy(reason, sizeof(reason), g->reason);
    if (p->handler.progress) {
        p->handler.progress(conn, p->id, &progress, p->user);
    }
}

/* ---- messages ---- */

static void on_hello(struct onebit_conn *conn, const struct msg_hello *h)
{
    if (conn->greeted) {
        conn_fail(conn, -EPROTO, "The daemon greeted twice.");
        return;
    }
    if (h->major != PROTOCOL_MAJOR) {
        conn_fail(conn, ONEBIT_ERR_BAD_PROTOCOL, "The daemon speaks protocol %u, this library %u.",
                  h->major, PROTOCOL_MAJOR);
        return;
    }
    strview_copy(conn->server_name, sizeof(conn->server_name), h->name);
    strview_copy(conn->default_model, sizeof(conn->default_model), h->default_model);
    conn->server = (struct onebit_server){
        .name = conn->server_name,
        .major = h->major,
        .minor = h->minor,
        .frame_bytes_max = h->frame_bytes_max,
        .requests_max = h->requests_max,
        .uid = h->uid,
        .gid = h->gid,
        .pid = h->pid,
        .default_model = conn->default_model,
    };
    conn->greeted = true;
    conn->connecting = false;
}

/* A message about one request; of one we do not know there is nothing to tell anybody. */
static int on_reply(struct onebit_conn *conn, const struct message *m, const uint8_t *body,
                    size_t body_n)
{
    struct pending *p = pending_find(conn, m->id);
    int r = 0;

    if (!p || p->waits) {
        return 0;
    }
    switch (m->type) {
    case MSG_ACCEPTED:
        on_accepted(conn, p, &m->accepted);
        return 0;
    case MSG_PROGRESS:
        on_progress(conn, p, &m->progress);
        return 0;
    case MSG_DELTA:
        return on_delta(conn, p, m, body, body_n);
    case MSG_DONE:
        if (p->holds) {
            r = let_go(conn, p);
            r = r == 0 ? scratch(conn, body_n) : r;
        }
        return r == 0 ? on_done(conn, p, m) : r;
    default:
        on_error(conn, p, &m->error);
        return 0;
    }
}

int deliver(struct onebit_conn *conn, const struct message *m, const uint8_t *body, size_t body_n)
{
    const int r = scratch(conn, body_n);

    if (r < 0) {
        return r;
    }
    if (m->type == MSG_HELLO) {
        on_hello(conn, &m->hello);
        return 0;
    }
    if (m->type == MSG_ERROR && m->id == 0) {
        conn_fail(conn, m->error.code != ERR_NONE ? (int)m->error.code : ONEBIT_ERR_INTERNAL,
                  "%.*s", (int)m->error.message.n, m->error.message.n ? m->error.message.data : "");
        return 0;
    }
    if (m->type < MSG_ACCEPTED || m->type > MSG_ERROR || !conn->greeted) {
        conn_fail(conn, -EPROTO, "The daemon sent a message that is not its to send.");
        return 0;
    }
    return on_reply(conn, m, body, body_n);
}
