/* conn: bytes in, frames out, and five clocks.
 *
 * The limits are: hello (since accept), frame (since the first byte of an unfinished one), idle
 * (nothing asked and nothing said), stall (output that does not shrink) and the hard bound on
 * output. One timer stands at the nearest; when it fires early because something moved, it is set
 * again. */
#include "daemon/broker/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/wipe.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/identity.h"
#include "daemon/broker/log.h"
#include "daemon/broker/request.h"
#include "daemon/broker/verbs.h"

#define READ_BYTES (64u << 10)

#define INPUT_KEEP 4096u /* bytes of buffer that a connection without an unfinished frame keeps */
#define MALLOC_EXTRA 32u /* of the allocator, about, for two blocks */

struct reply { /* one write: owns its bytes from conn_send() to on_written() */
    uv_write_t req;
    uint8_t *data;
    size_t n;    /* bytes in it */
    size_t held; /* bytes of memory it takes */
};

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;

    assert(c->n_open > 0);
    if (--c->n_open == 0) {
        frame_reader_deinit(&c->in);
        peer_deinit(&c->peer);
        free(c);
    }
}

void conn_close(struct conn *c)
{
    if (c->closing) {
        return;
    }
    c->closing = true;
    list_for_each (r, next, &c->requests, struct request, conn_link) {
        request_drop(r);
    }
    list_remove(&c->link);
    c->broker->n_conns--;
    conn_charge(c, MEMORY_OUTPUT, 0); /* it goes with the handles, in this turn of the loop */
    conn_charge(c, MEMORY_INPUT, 0);
    if (c->identity) {
        const struct moment now = broker_moment();
        identity_put(c->identity, &now);
        c->identity = NULL;
        broker_sweep_later(c->broker);
    }
    broker_dirty(c->broker);
    uv_close((uv_handle_t *)&c->timer, on_closed);
    uv_close((uv_handle_t *)&c->pipe, on_closed);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static size_t waiting_output(const struct conn *c)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&c->pipe);
}

static uint64_t idle_due(const struct conn *c)
{
    const bool busy = c->n_requests > 0 || c->partial_ns || waiting_output(c) > 0;

    return busy || !c->said_hello ? UINT64_MAX
                                  : c->active_ns + c->broker->config.idle_ms * NS_PER_MS;
}

static uint64_t next_due(const struct conn *c)
{
    const struct config *k = &c->broker->config;
    uint64_t due = idle_due(c);

    if (c->finishing) { /* only its last words are waited for */
        return waiting_output(c) > 0 ? c->stall_ns + k->stall_ms * NS_PER_MS : UINT64_MAX;
    }
    if (!c->said_hello) {
        due = earlier(due, c->accepted_ns + k->hello_ms * NS_PER_MS);
    }
    if (c->partial_ns) {
        due = earlier(due, c->partial_ns + k->frame_ms * NS_PER_MS);
    }
    if (waiting_output(c) > 0) {
        due = earlier(due, c->stall_ns + k->stall_ms * NS_PER_MS);
    }
    return due;
}

static void on_timer(uv_timer_t *timer);

static void arm(struct conn *c)
{
    const uint64_t now = clock_now_ns();
    const uint64_t due = next_due(c);

    if (c->closing || c->doomed) {
        return;
    }
    if (due == UINT64_MAX) {
        (void)uv_timer_stop(&c->timer);
        return;
    }
    const uint64_t ms = due > now ? (due - now) / NS_PER_MS + 1 : 0;
    uv_update_time(c->broker->loop); /* its clock is the last turn's */
    (void)uv_timer_start(&c->timer, on_timer, ms, 0);
}

static void note_written(struct conn *c, uint64_t now)
{
    const uint64_t written = c->queued - waiting_output(c);

    if (written != c->written) {
        c->written = written;
        c->stall_ns = now;
    }
    const bool blocked = waiting_output(c) > c->broker->config.output_soft_bytes;
    if (blocked != c->blocked) {
        c->blocked = blocked;
        list_for_each (r, next, &c->requests, struct request, conn_link) {
            r->job.blocked = blocked;
        }
        broker_dirty(c->broker);
    }
}

static void drop_input(struct conn *c)
{
    frame_reader_deinit(&c->in);
    conn_charge(c, MEMORY_INPUT, 0);
}

void conn_spare(struct conn *c, uint64_t before_ns, uint64_t more_ns)
{
    uint64_t *const since[] = {&c->accepted_ns, &c->active_ns, &c->partial_ns, &c->stall_ns};

    for (size_t i = 0; i < ARRAY_SIZE(since); i++) {
        *since[i] += *since[i] > 0 && *since[i] <= before_ns ? more_ns : 0;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct conn *c = timer->data;
    const struct config *k = &c->broker->config;
    const uint64_t now = clock_now_ns();

    note_written(c, now);
    if (c->doomed || (waiting_output(c) > 0 && now >= c->stall_ns + k->stall_ms * NS_PER_MS)) {
        log_client(LOG_CONNECTIONS, LOG_NOTICE, "pid %d (uid %u) does not read: closed",
                   (int)c->peer.pid, (unsigned)c->peer.uid);
        c->broker->metrics.conn_errors[ERR_TIMEOUT]++;
        conn_close(c);
    } else if (c->finishing) {
        arm(c);
    } else if (!c->said_hello && now >= c->accepted_ns + k->hello_ms * NS_PER_MS) {
        conn_refuse(c, ERR_TIMEOUT, "no hello in time");
    } else if (c->partial_ns && now >= c->partial_ns + k->frame_ms * NS_PER_MS) {
        conn_refuse(c, ERR_TIMEOUT, "a frame was begun and not ended in time");
    } else if (now >= idle_due(c)) {
        conn_refuse(c, ERR_TIMEOUT, "nothing was asked for a while");
    } else {
        arm(c);
    }
    if (c->finishing) {
        drop_input(c); /* nobody looks at it any more */
    }
}

/* Close it on the next turn of the loop: a caller up the stack may still hold it. */
static void doom(struct conn *c)
{
    if (!c->closing) {
        c->doomed = true;
        conn_charge(c, MEMORY_OUTPUT, 0); /* as good as given back */
        (void)uv_timer_start(&c->timer, on_timer, 0, 0);
    }
}

/* All output together is too much: who holds most of it goes. */
static void shed_output(struct broker *b)
{
    struct conn *c;

    while ((c = conn_to_shed(b, MEMORY_OUTPUT))) {
        b->metrics.n_shed++;
        doom(c);
    }
}

/* Likewise of unfinished frames. */
static void shed_input(struct broker *b)
{
    struct conn *c;

    while ((c = conn_to_shed(b, MEMORY_INPUT))) {
        b->metrics.n_shed++;
        drop_input(c);
        conn_refuse(c, ERR_OVERLOADED, "the unfinished frames of all clients are too many bytes");
    }
}

void conn_touch(struct conn *c)
{
    c->active_ns = clock_now_ns();
    arm(c);
}

static void on_written(uv_write_t *req, int status)
{
    struct conn *c = req->handle->data; /* alive: libuv ends writes before close callbacks */
    struct reply *reply = container_of(req, struct reply, req);

    if (!c->closing && !c->doomed) {
        conn_charge(c, MEMORY_OUTPUT, c->held[MEMORY_OUTPUT] - reply->held);
    }
    wipe_free(reply->data, reply->n);
    free(reply);
    if (c->closing) {
        return;
    }
    if (status < 0) {
        conn_close(c);
        return;
    }
    note_written(c, clock_now_ns());
    arm(c);
}

void conn_send(struct conn *c, struct buf *out)
{
    const bool idle = waiting_output(c) == 0;

    if (c->closing || c->doomed || out->n == 0) {
        buf_deinit(out);
        return;
    }
    struct reply *reply = calloc(1, sizeof(*reply));
    if (!reply || out->n + waiting_output(c) > c->broker->config.output_hard_bytes) {
        free(reply);
        buf_deinit(out);
        doom(c);
        return;
    }
    reply->held = sizeof(*reply) + out->room + MALLOC_EXTRA;
    reply->data = buf_steal(out, &reply->n);
    const size_t n = reply->n;
    const uv_buf_t bytes = uv_buf_init((char *)reply->data, (unsigned)n);
    if (uv_write(&reply->req, (uv_stream_t *)&c->pipe, &bytes, 1, on_written) < 0) {
        free(reply->data);
        free(reply);
        doom(c);
        return;
    }
    c->queued += n;
    conn_charge(c, MEMORY_OUTPUT, c->held[MEMORY_OUTPUT] + reply->held);
    const uint64_t now = clock_now_ns();
    if (idle) {
        c->stall_ns = now;
    }
    note_written(c, now);
    if (waiting_output(c) > 0) {
        arm(c);
    }
    shed_output(c->broker);
}

void conn_error(struct conn *c, uint32_t id, const struct msg_error *e)
{
    struct buf out;

    buf_init(&out, FRAME_BODY_MAX + FRAME_HEADER);
    if (message_put_error(&out, id, e) < 0) {
        const struct msg_error bare = {.code = e->code};
        buf_deinit(&out);
        if (message_put_error(&out, id, &bare) < 0) {
            buf_deinit(&out);
            doom(c); /* a request without its end is worse than none */
            return;
        }
    }
    conn_send(c, &out);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    struct conn *c = req->handle->data;

    (void)status;
    free(req);
    conn_close(c);
}

void conn_finish(struct conn *c)
{
    if (c->closing || c->finishing) {
        return;
    }
    c->finishing = true;
    c->partial_ns = 0;
    (void)uv_read_stop((uv_stream_t *)&c->pipe);
    uv_shutdown_t *req = calloc(1, sizeof(*req));
    if (!req || uv_shutdown(req, (uv_stream_t *)&c->pipe, on_shutdown) < 0) {
        free(req);
        doom(c);
        return;
    }
    arm(c);
}

void conn_refuse(struct conn *c, enum error_code code, const char *text)
{
    const struct msg_error e = {.code = code, .message = strview_of(text)};

    c->broker->metrics.conn_errors[code]++;
    log_client(LOG_CONNECTIONS, LOG_NOTICE, "pid %d (uid %u): %s: %s", (int)c->peer.pid,
               (unsigned)c->peer.uid, error_info(code)->name, text);
    list_for_each (r, next, &c->requests, struct request, conn_link) {
        request_drop(r);
    }
    conn_error(c, 0, &e);
    conn_finish(c);
}

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *ret)
{
    static char shared[READ_BYTES]; /* libuv reads into it and calls on_read() at once */

    (void)handle;
    (void)hint;
    *ret = uv_buf_init(shared, sizeof(shared));
}

static void one_frame(struct conn *c, const uint8_t *body, size_t n)
{
    struct message m;
    struct diag diag = {0};
    const int got = message_read(&m, body, n, &diag);

    if (got == MESSAGE_MALFORMED) {
        conn_refuse(c, ERR_BAD_FRAME, diag.set ? diag.text : "no message of this protocol");
    } else if (!c->said_hello) {
        if (got != MESSAGE_OK || m.type != MSG_HELLO) {
            conn_refuse(c, ERR_BAD_PROTOCOL, "the first frame has to be a hello");
        } else {
            verbs_hello(c, &m.hello);
        }
    } else if (got == MESSAGE_OK) {
        verbs_handle(c, &m, body, n);
    } else if (m.id == 0) {
        conn_refuse(c, ERR_BAD_FRAME, diag.set ? diag.text : "a message without an id");
    } else {
        const struct msg_error e = {
            .code = got == MESSAGE_UNKNOWN ? ERR_UNSUPPORTED : ERR_BAD_REQUEST,
            .message = strview_of(diag.set ? diag.text : "a message this server does not know")};
        conn_error(c, m.id, &e);
    }
}

/* True when at least one whole frame was taken. */
static bool take_frames(struct conn *c)
{
    const uint8_t *body = NULL;
    size_t n = 0;
    bool any = false;

    while (!c->closing && !c->finishing && !c->doomed) {
        switch (frame_next(&c->in, &body, &n)) {
        case FRAME_OK:
            any = true;
            one_frame(c, body, n);
            break;
        case FRAME_MORE:
            return any;
        case FRAME_TOO_LONG:
            conn_refuse(c, ERR_FRAME_TOO_LONG, "the frame's length is past the limit");
            break;
        default:
            conn_refuse(c, ERR_BAD_FRAME, "an empty frame");
            break;
        }
    }
    return any;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct conn *c = stream->data;

    if (n == 0) {
        return;
    }
    const int fed = n < 0 ? (int)n : frame_feed(&c->in, bytes->base, (size_t)n);
    wipe(bytes->base, n > 0 ? (size_t)n : 0); /* it stays, for the next one's */
    if (fed < 0) {
        conn_close(c);
        return;
    }
    const uint64_t now = clock_now_ns();
    c->active_ns = now;
    const bool any = take_frames(c);
    if (c->closing || c->finishing) {
        drop_input(c);
        return;
    }
    if (frame_partial(&c->in)) {
        c->partial_ns = any || !c->partial_ns ? now : c->partial_ns;
    } else {
        c->partial_ns = 0;
        if (c->in.in.room > INPUT_KEEP) {
            frame_reader_deinit(&c->in);
        }
    }
    conn_charge(c, MEMORY_INPUT, c->in.in.room);
    shed_input(c->broker);
    if (!c->finishing) {
        arm(c);
    }
}

static int read_peer(struct conn *c)
{
    uv_os_fd_t fd;

    return uv_fileno((uv_handle_t *)&c->pipe, &fd) < 0 ? -EPERM : peer_read(&c->peer, fd);
}

void conn_grant(struct conn *c)
{
    const struct broker *b = c->broker;
    const struct moment now = broker_moment();
    const struct policy_peer who = conn_who(c);

    c->grant = policy_grant(&b->config.policy, b->own_uid, &who);
    if (c->identity) {
        identity_grant(c->identity, &c->grant, &now);
    }
}

/* The connection counts towards its identity from here. */
static bool join(struct conn *c)
{
    const struct moment now = broker_moment();

    conn_grant(c);
    c->identity = identity_get(&c->broker->identities, c->peer.uid, c->peer.unit, &c->grant, &now);
    return c->identity != NULL;
}

static bool one_too_many(const struct broker *b, uid_t uid)
{
    uint64_t own = 0;

    list_for_each (c, next, &b->conns, struct conn, link) {
        own += c->peer.uid == uid;
    }
    return b->n_conns >= b->config.connections ||
           (b->conns_room > 0 && b->n_conns >= b->conns_room) ||
           own >= b->config.connections_per_uid;
}

void conn_accept(struct broker *b, int fd)
{
    struct conn *c = calloc(1, sizeof(*c));

    if (!c) {
        (void)close(fd); /* the peer learns it at once; those that are here go on */
        return;
    }
    c->broker = b;
    c->accepted_ns = c->active_ns = clock_now_ns();
    list_init(&c->link);
    list_init(&c->requests);
    frame_reader_init(&c->in, FRAME_BODY_MAX);
    c->pipe.data = c->timer.data = c;
    (void)uv_pipe_init(b->loop, &c->pipe, 0); /* neither can fail: they only fill the struct */
    (void)uv_timer_init(b->loop, &c->timer);
    c->n_open = 2;
    const bool opened = uv_pipe_open(&c->pipe, fd) == 0;
    const bool good = opened && read_peer(c) == 0;
    const bool full = good && one_too_many(b, c->peer.uid);
    list_push(&b->conns, &c->link);
    b->n_conns++;
    b->metrics.n_accepted++;
    if (!opened) {
        (void)close(fd);
    }
    if (!good) {
        conn_close(c);
    } else if (full) {
        conn_refuse(c, ERR_TOO_MANY_CONNECTIONS, "as many connections as allowed are open");
    } else if (!join(c)) {
        conn_refuse(c, ERR_TOO_MANY_CONNECTIONS, "as many users as can be told apart are here");
    } else if (uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read) < 0) {
        conn_close(c);
    } else {
        arm(c);
    }
}
