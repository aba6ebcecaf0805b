/* pending: a request from being queued to its last callback, over as many sockets as it takes.
 *
 * A request is with the daemon, or it waits. One that waits has its packed frame, and a time at
 * which it is due; the first that is due without a socket has one made. The loops that run
 * callbacks are safe because a callback can add requests but never removes one: cancelling only
 * marks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "client/conn.h"

/* ---- the list ---- */

struct pending *pending_find(struct onebit_conn *conn, uint32_t id)
{
    list_for_each (p, next, &conn->requests, struct pending, link) {
        if (p->id == id) {
            return p;
        }
    }
    return NULL;
}

uint32_t next_id(struct onebit_conn *conn)
{
    do {
        conn->last_id++;
    } while (conn->last_id == 0 || pending_find(conn, conn->last_id));
    return conn->last_id;
}

int pending_add(struct onebit_conn *conn, const struct onebit_handler *handler, void *user,
                struct waiter *waiter, struct pending **ret)
{
    struct pending *p = calloc(1, sizeof(*p));

    if (!p) {
        return -ENOMEM;
    }
    p->id = next_id(conn);
    p->user = user;
    p->waiter = waiter;
    p->first_by_ns = p->give_up_ns = NEVER_NS;
    buf_init(&p->frame, FRAME_HEADER + FRAME_BODY_MAX);
    if (handler) {
        const size_t n = handler->size < sizeof(p->handler) ? handler->size : sizeof(p->handler);
        memcpy(&p->handler, handler, n);
    }
    list_init(&p->link);
    list_push(&conn->requests, &p->link);
    conn->n_requests++;
    *ret = p;
    return 0;
}

static void drop_frame(struct onebit_conn *conn, struct pending *p)
{
    conn->kept_bytes -= p->frame.n;
    buf_deinit(&p->frame);
}

void pending_drop(struct onebit_conn *conn, struct pending *p)
{
    drop_frame(conn, p);
    buf_deinit(&p->held);
    list_remove(&p->link);
    conn->n_requests--;
    free(p);
}

/* ---- deadlines ---- */

void pending_set_deadline(struct onebit_conn *conn, struct pending *p, uint32_t deadline_ms)
{
    p->starts_at_once = deadline_ms == 0;
    p->first_by_ns = conn_now_ns(conn) + (p->starts_at_once ? GRACE_NS : deadline_ms * NS_PER_MS);
}

/* The daemon keeps the deadline of what it has; we do when it is silent, and of what waits here. */
static void watch_deadline(struct pending *p)
{
    if (p->first_by_ns != NEVER_NS) {
        p->give_up_ns = p->first_by_ns + (p->waits ? 0 : GRACE_NS);
        p->give_up_code = ONEBIT_ERR_DEADLINE;
    }
}

void pending_started(struct onebit_conn *conn, struct pending *p)
{
    if (!p->holds || p->once) {
        drop_frame(conn, p);
    }
    p->first_by_ns = NEVER_NS;
    if (!p->cancelled) {
        p->give_up_ns = NEVER_NS;
    }
}

/* ---- sending ---- */

static bool has_socket(const struct onebit_conn *conn)
{
    return conn->greeted && !conn->lost;
}

/* Keep a copy of the frame that lies behind `mark` of the output. */
static int keep_frame(struct onebit_conn *conn, struct pending *p, size_t mark)
{
    const size_t n = conn->out.n - mark;

    if (n > KEPT_BYTES_MAX - conn->kept_bytes) {
        return -EAGAIN;
    }
    const int r = buf_append(&p->frame, conn->out.data + mark, n);
    conn->kept_bytes += p->frame.n;
    return r;
}

int pending_packed(struct onebit_conn *conn, struct pending *p, size_t mark, int r)
{
    const size_t body_max = conn->server.frame_bytes_max;
    const bool can_retry = conn->retry.retries > 0 || conn->retry.retries_429 > 0;

    if (r == 0 && body_max > 0 && conn->out.n - mark > FRAME_HEADER + body_max) {
        r = -E2BIG;
    } else if (r == -E2BIG && mark > 0) {
        r = -EAGAIN; /* alone it may fit */
    }
    if (r == 0 && (!has_socket(conn) || (p->repeatable && can_retry))) {
        r = keep_frame(conn, p, mark);
    }
    if (r == 0 && !has_socket(conn)) {
        p->waits = true;
        p->due_ns = conn_now_ns(conn);
    }
    if (r < 0 || p->waits) {
        conn->out.n = mark;
    }
    if (r == 0) {
        watch_deadline(p);
    }
    return r;
}

/* The frame anew, with what is left of its deadline. */
static int put_with_deadline(struct onebit_conn *conn, struct pending *p)
{
    struct message *m = calloc(1, sizeof(*m));
    const uint64_t left_ns = p->first_by_ns - conn_now_ns(conn);
    int32_t *ids = NULL;
    int r = m ? 0 : -ENOMEM;

    if (r == 0) {
        r = message_read(m, p->frame.data + FRAME_HEADER, p->frame.n - FRAME_HEADER, NULL);
        r = r == MESSAGE_OK ? 0 : -EPROTO; /* it is our own */
    }
    if (r == 0 && m->generate.kind == PROMPT_IDS) {
        ids = reallocarray(NULL, m->generate.ids.n, sizeof(*ids));
        r = ids ? 0 : -ENOMEM;
    }
    if (r == 0) {
        struct msg_generate *g = &m->generate;
        const size_t n_ids = ids ? g->ids.n : 0;
        if (ids) {
            msg_ids_copy(&g->ids, ids);
        }
        g->deadline_ms = (uint32_t)(left_ns / NS_PER_MS);
        r = message_put_generate(&conn->out, p->id, g, ids, n_ids);
    }
    free(ids);
    free(m);
    return r;
}

/* More than this unsent, and the next frame might not fit. */
static bool may_send(const struct onebit_conn *conn)
{
    return has_socket(conn) && conn->out.n <= OUT_BYTES_MAX - FRAME_HEADER - FRAME_BODY_MAX;
}

static int send_waiting(struct onebit_conn *conn, struct pending *p)
{
    const bool timed = p->first_by_ns != NEVER_NS && !p->starts_at_once;
    const int r =
        timed ? put_with_deadline(conn, p) : buf_append(&conn->out, p->frame.data, p->frame.n);

    if (r == 0) {
        p->waits = false;
        watch_deadline(p);
        if (!p->repeatable) {
            drop_frame(conn, p);
        }
    }
    return r;
}

/* ---- failing ---- */

/* In how many milliseconds policy and deadline let p be sent again; RETRY_NEVER. */
static uint64_t delay_of(const struct onebit_conn *conn, const struct pending *p,
                         const struct onebit_failure *failure, bool lost, uint64_t now_ns)
{
    if (p->frame.n == 0 || (!p->repeatable && !p->waits) ||
        (p->push_back_ends && !lost && retry_pushed_back(failure))) {
        return RETRY_NEVER;
    }
    const uint64_t delay_ms =
        retry_delay_ms(&conn->retry, failure, lost, p->retries, conn->env->random(conn->env->arg));
    if (delay_ms == RETRY_NEVER || now_ns + delay_ms * NS_PER_MS >= p->first_by_ns ||
        (p->starts_at_once && delay_ms > 0)) {
        return RETRY_NEVER;
    }
    return delay_ms;
}

static void put_off(struct onebit_conn *conn, struct pending *p,
                    const struct onebit_failure *failure, uint64_t delay_ms, uint64_t now_ns)
{
    const struct onebit_retrying retrying = {failure, (uint32_t)delay_ms};
    p->waits = true;
    buf_deinit(&p->held);
    p->due_ns = now_ns + delay_ms * NS_PER_MS;
    p->retries++;
    watch_deadline(p);
    if (p->handler.retry) {
        p->handler.retry(conn, p->id, &retrying, p->user);
    }
}

static void end_as_cancelled(struct onebit_conn *conn, struct pending *p);

void pending_failed(struct onebit_conn *conn, struct pending *p, struct onebit_failure *failure,
                    bool lost)
{
    const uint64_t now_ns = conn_now_ns(conn);
    const uint64_t delay_ms = delay_of(conn, p, failure, lost, now_ns);

    failure->retries = p->retries;
    if (delay_ms == RETRY_NEVER) {
        end_with_failure(conn, p, failure);
    } else if (p->cancelled) { /* that is why it is not sent again */
        end_as_cancelled(conn, p);
    } else {
        put_off(conn, p, failure, delay_ms, now_ns);
    }
}

void failure_describe(struct onebit_failure *failure)
{
    const struct onebit_error_info *info = onebit_error_info(failure->code);

    if (info) {
        failure->number = info->number;
        failure->retryable = info->retryable;
        failure->name = info->name;
        failure->hint = info->hint;
    }
}

static struct onebit_failure failure_of_loss(const struct onebit_conn *conn)
{
    struct onebit_failure failure = {
        .code = conn->lost,
        .retryable = true,
        .name = "connection_lost",
        .message = conn->why,
        .hint = "Connect again; look whether the daemon runs, and at its log.",
    };

    if (conn->lost == -EPROTO) {
        failure.retryable = false;
        failure.hint = "Install client and daemon of the same release.";
    }
    failure_describe(&failure);
    return failure;
}

static struct pending *first_hit(struct onebit_conn *conn)
{
    list_for_each (p, next, &conn->requests, struct pending, link) {
        if (p->hit) {
            return p;
        }
    }
    return NULL;
}

void pending_lost(struct onebit_conn *conn)
{
    struct onebit_failure failure = failure_of_loss(conn);
    const uint64_t now_ns = conn_now_ns(conn);

    /* Marked first: a callback may queue another request, which this loss does not concern. */
    list_for_each (p, next, &conn->requests, struct pending, link) {
        p->hit = conn->failed || !p->waits || p->due_ns <= now_ns;
    }
    for (struct pending *p; (p = first_hit(conn));) {
        p->hit = false;
        pending_failed(conn, p, &failure, /* lost= */ true);
    }
}

/* ---- cancelling ---- */

int pending_cancel(struct onebit_conn *conn, struct pending *p)
{
    const size_t mark = conn->out.n;
    const struct msg_cancel cancel = {.target = p->id};
    int r = 0;

    if (p->cancelled) {
        return 0; /* once is enough */
    }
    if (p->waits) {
        p->give_up_ns = 0; /* the daemon has never heard of it */
        p->give_up_code = ONEBIT_ERR_CANCELLED;
    } else if (has_socket(conn)) {
        r = message_put_cancel(&conn->out, next_id(conn), &cancel);
        if (r < 0) {
            conn->out.n = mark;
            r = r == -E2BIG ? -EAGAIN : r;
        }
    }
    p->cancelled = r == 0;
    return r;
}

void pending_cancel_soon(struct onebit_conn *conn, struct pending *p)
{
    (void)pending_cancel(conn, p); /* no room for it: the time below ends it */
    p->cancelled = true;
    if (p->give_up_code != ONEBIT_ERR_CANCELLED) {
        p->give_up_code = ONEBIT_ERR_CANCELLED;
        p->give_up_ns = conn_now_ns(conn) + GRACE_NS;
    }
}

/* ---- what time brings ---- */

static void give_up(struct onebit_conn *conn, struct pending *p)
{
    const struct onebit_error_info *info = onebit_error_info(p->give_up_code);
    const struct onebit_failure failure = {
        .code = p->give_up_code,
        .number = info->number,
        .retryable = info->retryable,
        .name = info->name,
        .message = p->give_up_code == ONEBIT_ERR_DEADLINE
                       ? "The daemon was silent until after the deadline."
                       : "The request was cancelled here.",
        .hint = info->hint,
        .retries = p->retries,
    };

    if (!p->waits) {
        (void)pending_cancel(conn, p); /* no room for that: it ends by itself */
    }
    end_with_failure(conn, p, &failure);
}

static void end_as_cancelled(struct onebit_conn *conn, struct pending *p)
{
    p->give_up_code = ONEBIT_ERR_CANCELLED;
    give_up(conn, p);
}

/* Has a request that needs a socket come due? */
static bool wants_socket(const struct onebit_conn *conn, uint64_t now_ns)
{
    list_for_each (p, next, &conn->requests, struct pending, link) {
        if (p->waits && p->due_ns <= now_ns) {
            return true;
        }
    }
    return false;
}

int pending_run(struct onebit_conn *conn, bool *ret_ended)
{
    const uint64_t now_ns = conn_now_ns(conn);
    int r = 0;

    list_for_each (p, next, &conn->requests, struct pending, link) {
        if (p->give_up_ns <= now_ns) {
            *ret_ended = true;
            give_up(conn, p);
        }
    }
    if (conn->failed || conn->lost) {
        return 0;
    }
    if (conn->connecting && now_ns >= conn->connect_by_ns) {
        conn_fail(conn, -ETIMEDOUT, "The daemon did not greet in time.");
        return 0;
    }
    if (conn->fd < 0 && !conn->connecting && wants_socket(conn, now_ns)) {
        conn_begin(conn);
    }
    if (conn->fd < 0 && conn->connecting) {
        r = conn_try(conn);
    }
    list_for_each (p, next, &conn->requests, struct pending, link) {
        if (r == 0 && p->waits && p->due_ns <= now_ns && may_send(conn)) {
            r = send_waiting(conn, p);
        }
    }
    return r;
}

uint64_t pending_due_ns(const struct onebit_conn *conn)
{
    const bool usable = may_send(conn) || (conn->fd < 0 && !conn->connecting);
    uint64_t due_ns = NEVER_NS;

    if (conn->connecting) {
        due_ns = conn->connect_by_ns;
    }
    if (conn->connecting && conn->fd < 0 && conn->connect_at_ns < due_ns) {
        due_ns = conn->connect_at_ns;
    }
    list_for_each (p, next, &conn->requests, struct pending, link) {
        if (p->give_up_ns < due_ns) {
            due_ns = p->give_up_ns;
        }
        if (p->waits && usable && p->due_ns < due_ns) {
            due_ns = p->due_ns;
        }
    }
    return due_ns;
}
