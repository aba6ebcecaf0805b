/* batch: many requests over one or several connections, as the requests of an application would be.
 *
 * Each item taken from the caller has a slot until it has ended; there are as many slots as items
 * may ever be in flight. An item that the daemon pushed back waits here, not at its connection, so
 * that it goes out again under the limit that its refusal lowered. At most one item, the held one,
 * has been chosen to be sent and found no room at any connection. Stopping is a state: nothing is
 * taken any more, what runs is cancelled, and the loop ends when the last slot is empty. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/conn.h"
#include "client/pace.h"

#define CONCURRENCY_MAX (ONEBIT_BATCH_CONNS_MAX * REQUESTS_MAX)

struct slot {
    struct list link;
    struct batch *batch; /* borrowed */
    uint64_t index;
    const struct onebit_request *request; /* borrowed: the caller's */
    void *item;                           /* borrowed: the caller's */
    size_t conn_i;
    uint32_t id;
    uint64_t number;      /* of its last sending */
    uint32_t retries;     /* times it was pushed back and sent again */
    uint64_t due_ns;      /* in `later`: when it may be sent again */
    uint64_t first_by_ns; /* its deadline; NEVER_NS: none */
    struct buf text;      /* owned */
    bool started;         /* the first token came */
    int unkept;           /* not 0: why its answer cannot be kept, -E2BIG or -ENOMEM */
};

struct lane {                 /* one connection */
    struct onebit_conn *conn; /* borrowed */
    size_t in_flight;
    bool gone; /* no more items for it */
};

struct batch {
    struct onebit_batch with;
    struct lane lanes[ONEBIT_BATCH_CONNS_MAX];
    size_t n_lanes;
    struct slot *slots; /* owned: with.concurrency of them */
    struct list free_slots, sent, later;
    struct slot *held; /* borrowed, one of slots: the next to be sent; or NULL */
    size_t in_flight, n_later;
    bool no_more;
    int stopped; /* not 0: why */
    bool cancelled;
    uint64_t began_ns;
    struct pace pace;
    struct onebit_batch_totals totals;
};

static void stop(struct batch *b, int why)
{
    if (b->stopped == 0) {
        b->stopped = why;
    }
}

/* ---- an item's end ---- */

static void tell_totals(struct batch *b)
{
    b->totals.elapsed_us = (conn_now_ns(b->lanes[0].conn) - b->began_ns) / 1000;
    b->totals.concurrency = b->pace.limit;
    b->totals.concurrency_least = b->pace.least;
}

static void finish(struct slot *s, const struct onebit_done *done,
                   const struct onebit_failure *failure)
{
    struct batch *b = s->batch;
    const struct onebit_batch_result result = {
        .index = s->index,
        .request = s->request,
        .item = s->item,
        .done = done,
        .failure = failure,
        .text = s->text.n > 0 ? (const char *)s->text.data : "",
        .text_bytes = s->text.n > 0 ? s->text.n - 1 : 0, /* its NUL */
        .totals = &b->totals,
    };

    if (done) {
        b->totals.done++;
        b->totals.prompt_tokens += done->prompt_tokens;
        b->totals.cached_tokens += done->cached_tokens;
        b->totals.answer_tokens += done->answer_tokens;
    } else {
        b->totals.failed++;
    }
    tell_totals(b);
    const int r = b->with.result(&result, b->with.user);
    if (r != 0) {
        stop(b, r);
    }
    buf_deinit(&s->text);
    list_push(&b->free_slots, &s->link);
}

/* An item that failed here, not at the daemon. */
static void finish_with_code(struct slot *s, int code)
{
    struct onebit_failure failure = {
        .code = code,
        .name = code == -E2BIG ? "too_long" : "system",
        .message = code == -E2BIG && s->unkept ? "The answer is longer than the batch keeps."
                   : code < 0                  ? strerrordesc_np(-code)
                                               : "The request was not sent.",
        .hint = code == -E2BIG ? "Allow longer answers, or ask for fewer tokens." : "",
    };

    if (code == -E2BIG && !s->unkept) {
        failure.hint = "Shorten the request.";
    }
    failure_describe(&failure);
    finish(s, NULL, &failure);
}

static void leave(struct slot *s)
{
    s->batch->in_flight--;
    s->batch->lanes[s->conn_i].in_flight--;
    list_remove(&s->link);
}

/* Have a pushed-back item wait to be sent again, when policy and deadline allow it. */
static bool put_later(struct slot *s, struct onebit_conn *conn,
                      const struct onebit_failure *failure)
{
    struct batch *b = s->batch;
    const uint64_t now_ns = conn_now_ns(conn);
    const uint64_t ms = retry_delay_ms(&conn->retry, failure, /* lost= */ false, s->retries,
                                       conn->env->random(conn->env->arg));

    if (b->stopped != 0 || s->started || s->unkept || ms == RETRY_NEVER ||
        now_ns + ms * NS_PER_MS >= s->first_by_ns) {
        return false;
    }
    s->retries++;
    s->due_ns = now_ns + ms * NS_PER_MS;
    list_push(&b->later, &s->link);
    b->n_later++;
    b->totals.retries++;
    return true;
}

static void on_delta(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                     void *user)
{
    struct slot *s = user;
    struct batch *b = s->batch;

    s->started = true;
    if (b->with.text_bytes_max > 0 && !s->unkept && delta->text_bytes > 0) {
        s->text.n -= s->text.n > 0; /* the NUL */
        s->unkept = delta->text_bytes > b->with.text_bytes_max - s->text.n
                        ? -E2BIG
                        : buf_append(&s->text, delta->text, delta->text_bytes + 1);
        if (s->unkept) {
            buf_deinit(&s->text);
            pending_cancel_soon(conn, pending_find(conn, id)); /* it is in flight: we are called */
        }
    }
    if (b->with.delta) {
        b->with.delta(s->index, s->item, delta, b->with.user);
    }
}

static void on_done(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done,
                    void *user)
{
    struct slot *s = user;

    leave(s);
    pace_went_well(&s->batch->pace);
    if (s->unkept) {
        finish_with_code(s, s->unkept);
    } else {
        struct onebit_done known = *done;
        known.retries += s->retries;
        finish(s, &known, NULL);
    }
}

static bool all_gone(const struct batch *b)
{
    for (size_t i = 0; i < b->n_lanes; i++) {
        if (!b->lanes[i].gone) {
            return false;
        }
    }
    return true;
}

static void on_error(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                     void *user)
{
    struct slot *s = user;
    struct batch *b = s->batch;

    leave(s);
    if (retry_pushed_back(failure)) {
        pace_pushed_back(&b->pace, s->number);
        if (put_later(s, conn, failure)) {
            return;
        }
    }
    /* A connection that was tried as often as the policy says is not tried anew for each item. */
    if (conn->failed ||
        (failure->code < 0 && !s->started && failure->retries >= conn->retry.retries)) {
        b->lanes[s->conn_i].gone = true;
    }
    if (s->unkept) {
        finish_with_code(s, s->unkept);
    } else {
        struct onebit_failure known = *failure;
        known.retries += s->retries;
        finish(s, NULL, &known);
    }
    if (all_gone(b)) {
        stop(b, failure->code);
    }
}

static void on_retry(struct onebit_conn *conn, uint32_t id, const struct onebit_retrying *retrying,
                     void *user)
{
    struct slot *s = user;

    s->batch->totals.retries++; /* by its connection, which was lost, or after a 500 */
}

/* ---- sending ---- */

static const struct onebit_handler handler = {
    .size = sizeof(handler),
    .delta = on_delta,
    .done = on_done,
    .error = on_error,
    .retry = on_retry,
};

/* Take the next item into a slot; false: there is none now. */
static bool take(struct batch *b)
{
    const struct onebit_request *request = NULL;
    void *item = NULL;
    const int r = b->with.next(b->totals.items, &request, &item, b->with.user);

    if (r <= 0) {
        b->no_more = true;
        if (r < 0) {
            stop(b, r);
        }
        return false;
    }
    struct slot *s = container_of(b->free_slots.next, struct slot, link);
    list_remove(&s->link);
    *s = (struct slot){.batch = b,
                       .index = b->totals.items++,
                       .request = request,
                       .item = item,
                       .first_by_ns = NEVER_NS};
    buf_init(&s->text, (size_t)b->with.text_bytes_max + 1);
    list_init(&s->link);
    b->held = s;
    return true;
}

/* The pushed-back item that has been due for longest, if one is. */
static bool take_due(struct batch *b)
{
    const uint64_t now_ns = conn_now_ns(b->lanes[0].conn);
    struct slot *first = NULL;

    list_for_each (s, next, &b->later, struct slot, link) {
        if (s->due_ns <= now_ns && (!first || s->due_ns < first->due_ns)) {
            first = s;
        }
    }
    if (first) {
        list_remove(&first->link);
        b->n_later--;
        b->held = first;
    }
    return first;
}

/* Queue it; sent again it has what is left of its deadline. */
static int generate(struct slot *s, struct onebit_conn *conn)
{
    struct onebit_request known = {0};
    const uint64_t now_ns = conn_now_ns(conn);
    uint64_t first_by_ns = s->first_by_ns;
    int r = s->request ? struct_known(&known, sizeof(known), s->request) : ONEBIT_ERR_BAD_REQUEST;

    if (r != 0) {
        return r;
    }
    known.size = sizeof(known);
    if (known.has & ONEBIT_HAS_DEADLINE) {
        if (s->first_by_ns == NEVER_NS) {
            first_by_ns = now_ns + known.deadline_ms * NS_PER_MS;
        } else if (now_ns >= s->first_by_ns) {
            return ONEBIT_ERR_DEADLINE;
        } else {
            known.deadline_ms = (uint32_t)((s->first_by_ns - now_ns) / NS_PER_MS);
        }
    }
    r = onebit_generate(conn, &known, &handler, s, &s->id);
    if (r == 0) {
        s->first_by_ns = first_by_ns; /* it counts from when it could be sent */
        pending_find(conn, s->id)->push_back_ends = true;
    }
    return r;
}

/* Send the held item over that lane. 0; -EAGAIN: not now; or why not. */
static int send_over(struct batch *b, size_t lane_i)
{
    struct lane *lane = &b->lanes[lane_i];
    struct slot *s = b->held;
    const int r = generate(s, lane->conn);

    if (r == 0) {
        s->conn_i = lane_i;
        s->number = pace_send(&b->pace);
        lane->in_flight++;
        b->in_flight++;
        list_push(&b->sent, &s->link);
        b->held = NULL;
    }
    return r;
}

/* Send the held item where the fewest are; false: it must wait. */
static bool send_held(struct batch *b)
{
    bool full[ONEBIT_BATCH_CONNS_MAX] = {false};

    while (b->stopped == 0) {
        size_t best = b->n_lanes;
        for (size_t i = 0; i < b->n_lanes; i++) {
            if (!full[i] && !b->lanes[i].gone &&
                (best == b->n_lanes || b->lanes[i].in_flight < b->lanes[best].in_flight)) {
                best = i;
            }
        }
        if (best == b->n_lanes) {
            return false;
        }
        struct onebit_conn *conn = b->lanes[best].conn;
        const int r = send_over(b, best);
        if (r == 0) {
            return true;
        }
        if (r == -EAGAIN) {
            full[best] = true;
        } else if (conn->failed) {
            b->lanes[best].gone = true;
            full[best] = true;
        } else if (r == ONEBIT_ERR_CANCELLED) {
            stop(b, r); /* the connection's own canceller */
        } else {
            struct slot *s = b->held;
            b->held = NULL;
            finish_with_code(s, r);
            return true;
        }
    }
    return false;
}

static int last_failure(const struct batch *b)
{
    int code = 0;

    for (size_t i = 0; i < b->n_lanes; i++) {
        code = b->lanes[i].conn->failed ? b->lanes[i].conn->failed : code;
    }
    return code ? code : -ENOTCONN;
}

static void fill(struct batch *b)
{
    while (b->stopped == 0) {
        if (all_gone(b)) {
            stop(b, last_failure(b));
            return;
        }
        if (!b->held && b->in_flight >= b->pace.limit) {
            return;
        }
        if (!b->held && !take_due(b) &&
            (b->no_more || b->in_flight + b->n_later >= b->pace.limit || !take(b))) {
            return;
        }
        if (!send_held(b) && !all_gone(b)) {
            return; /* for want of room */
        }
    }
}

/* ---- waiting ---- */

static void cancel_rest(struct batch *b)
{
    const int why = b->stopped < 0 ? b->stopped : ONEBIT_ERR_CANCELLED;

    if (b->held) {
        struct slot *s = b->held;
        b->held = NULL;
        finish_with_code(s, why);
    }
    list_for_each (s, next, &b->later, struct slot, link) {
        list_remove(&s->link);
        b->n_later--;
        finish_with_code(s, why);
    }
    if (b->cancelled) {
        return;
    }
    b->cancelled = true;
    list_for_each (s, next, &b->sent, struct slot, link) {
        struct onebit_conn *conn = b->lanes[s->conn_i].conn;
        struct pending *p = pending_find(conn, s->id);
        if (p) {
            pending_cancel_soon(conn, p);
        }
    }
}

/* How long until a pushed-back item may be sent; -1: none waits for time. */
static int ms_until_due(const struct batch *b)
{
    uint64_t due_ns = NEVER_NS;

    if (b->in_flight >= b->pace.limit) {
        return -1;
    }
    list_for_each (s, next, &b->later, struct slot, link) {
        due_ns = s->due_ns < due_ns ? s->due_ns : due_ns;
    }
    return conn_ms_until(b->lanes[0].conn, due_ns);
}

static void wait_for_any(struct batch *b)
{
    struct pollfd fds[ONEBIT_BATCH_CONNS_MAX + 1];
    const struct client_env *env = b->lanes[0].conn->env;
    struct onebit_canceller *c = b->with.canceller;
    int timeout_ms = ms_until_due(b);
    size_t n = 0;

    for (size_t i = 0; i < b->n_lanes; i++) {
        struct onebit_conn *conn = b->lanes[i].conn;
        (void)conn_arm(conn); /* without a timer: the time-out below serves */
        const int ms = onebit_timeout_ms(conn);
        timeout_ms = ms >= 0 && (timeout_ms < 0 || ms < timeout_ms) ? ms : timeout_ms;
        fds[n++] = (struct pollfd){.fd = conn->epoll_fd, .events = POLLIN};
    }
    if (c && b->stopped == 0) {
        fds[n++] = (struct pollfd){.fd = canceller_fd(c), .events = POLLIN};
    }
    if (env->wait(env->arg, fds, n, timeout_ms) > 0 && n > b->n_lanes && fds[b->n_lanes].revents &&
        !canceller_tripped(c)) {
        canceller_settle(c);
    }
}

static void run(struct batch *b)
{
    while (true) {
        if (canceller_tripped(b->with.canceller)) {
            stop(b, ONEBIT_ERR_CANCELLED);
        }
        fill(b);
        if (b->stopped != 0) {
            cancel_rest(b);
        }
        if (b->in_flight + b->n_later == 0 && !b->held && (b->no_more || b->stopped != 0)) {
            return;
        }
        wait_for_any(b);
        for (size_t i = 0; i < b->n_lanes; i++) {
            const int r = onebit_dispatch(b->lanes[i].conn, 0);
            b->lanes[i].gone = b->lanes[i].gone || b->lanes[i].conn->failed;
            (void)r; /* a lost connection has ended its items */
        }
    }
}

/* ---- the call ---- */

static int check(const struct onebit_batch *w, struct onebit_conn *const *conns, size_t n_conns)
{
    if (!w->next || !w->result || w->concurrency == 0 || w->concurrency > CONCURRENCY_MAX ||
        n_conns == 0 || n_conns > ONEBIT_BATCH_CONNS_MAX) {
        return -EINVAL;
    }
    for (size_t i = 0; i < n_conns; i++) {
        if (conns[i]->dispatching) {
            return -EBUSY;
        }
    }
    return 0;
}

static int batch_new(struct batch **ret, const struct onebit_batch *with,
                     struct onebit_conn *const *conns, size_t n_conns)
{
    struct batch *b = calloc(1, sizeof(*b));

    if (!b) {
        return -ENOMEM;
    }
    b->with = *with;
    b->slots = calloc(with->concurrency, sizeof(*b->slots));
    if (!b->slots) {
        free(b);
        return -ENOMEM;
    }
    list_init(&b->free_slots);
    list_init(&b->sent);
    list_init(&b->later);
    for (uint32_t i = 0; i < with->concurrency; i++) {
        list_init(&b->slots[i].link);
        list_push(&b->free_slots, &b->slots[i].link);
    }
    for (size_t i = 0; i < n_conns; i++) {
        b->lanes[i].conn = conns[i];
    }
    b->n_lanes = n_conns;
    b->began_ns = conn_now_ns(conns[0]);
    pace_init(&b->pace, with->concurrency);
    *ret = b;
    return 0;
}

int onebit_batch(struct onebit_conn *const *conns, size_t n_conns, const struct onebit_batch *batch,
                 struct onebit_batch_totals *ret_totals)
{
    struct onebit_batch known = {0};
    struct batch *b = NULL;
    int r = struct_known(&known, sizeof(known), batch);

    if (r == 0 && ret_totals && ret_totals->size < sizeof(ret_totals->size)) {
        r = -EINVAL;
    }
    if (r == 0) {
        r = check(&known, conns, n_conns);
    }
    if (r == 0) {
        r = batch_new(&b, &known, conns, n_conns);
    }
    if (r != 0) {
        return r;
    }
    run(b);
    tell_totals(b);
    r = b->stopped;
    if (ret_totals) {
        b->totals.size = ret_totals->size;
        memcpy(ret_totals, &b->totals,
               ret_totals->size < sizeof(b->totals) ? ret_totals->size : sizeof(b->totals));
    }
    free(b->slots);
    free(b);
    return r;
}
