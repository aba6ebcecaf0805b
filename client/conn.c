/* conn: the socket of a connection, and dispatching. Everything is non-blocking inside; what blocks
 * is the wait of one turn.
 *
 * Bytes are read as they come, cut into frames, and each message is handed to deliver(). A socket
 * ends once: conn_fail() remembers why and puts every request off or ends it; the descriptor is
 * closed when no frame is in use any more. When the daemon stops reading, what it wrote before is
 * still read, because that is where it says why. */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/diag.h"
#include "client/conn.h"

#define READ_AT_ONCE ((size_t)16 << 10) /* bytes of one recv() */
#define READ_PER_TURN                                                                              \
    ((size_t)512 << 10) /* bytes of one dispatch: a flood cannot hold it for ever */

/* ---- the end of a socket ---- */

void conn_fail(struct onebit_conn *conn, int code, const char *fmt, ...)
{
    va_list args;

    if (conn->failed || conn->lost) {
        return;
    }
    conn->lost = code;
    if (!retry_lost(&conn->retry, code)) {
        conn->failed = code;
    }
    va_start(args, fmt);
    (void)vsnprintf(conn->why, sizeof(conn->why), fmt, args);
    va_end(args);
    pending_lost(conn);
}

/* Close what was lost, and be ready for another socket. */
static void drop_socket(struct onebit_conn *conn)
{
    if (conn->fd >= 0) {
        (void)epoll_ctl(conn->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
        (void)close(conn->fd);
        conn->fd = -1;
    }
    frame_reader_deinit(&conn->reader);
    frame_reader_init(&conn->reader, FRAME_BODY_MAX);
    conn->out.n = 0;
    conn->deaf = conn->greeted = conn->connecting = false;
    conn->lost = 0;
}

/* ---- bytes out and in ---- */

static int flush(struct onebit_conn *conn)
{
    while (conn->out.n > 0) {
        const ssize_t n = send(conn->fd, conn->out.data, conn->out.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return 0;
        }
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            conn->deaf = true; /* the reason may be waiting to be read */
            conn->out.n = 0;
            return 0;
        }
        if (n < 0) {
            return -errno;
        }
        buf_drop(&conn->out, (size_t)n);
    }
    return 0;
}

/* Hand over every whole frame that is in the reader. */
static int take_frames(struct onebit_conn *conn)
{
    while (!conn->lost) {
        struct message m;
        struct diag diag = {0};
        const uint8_t *body;
        size_t n;
        int r = frame_next(&conn->reader, &body, &n);

        if (r == FRAME_MORE) {
            return 0;
        }
        if (r != FRAME_OK) {
            conn_fail(conn, -EPROTO, "The daemon sent a frame with an impossible length.");
            return 0;
        }
        r = message_read(&m, body, n, &diag);
        if (r == MESSAGE_UNKNOWN) {
            continue; /* a newer daemon may say more */
        }
        if (r != MESSAGE_OK) {
            conn_fail(conn, -EPROTO, "The daemon sent a malformed message: %s",
                      diag.set ? diag.text : "no sound map");
            return 0;
        }
        r = deliver(conn, &m, body, n);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* Send and read what is possible now. */
static int pump(struct onebit_conn *conn, bool *ret_moved)
{
    uint8_t bytes[READ_AT_ONCE];
    size_t total = 0;
    int r = conn->deaf ? 0 : flush(conn);

    while (r == 0 && !conn->lost && total < READ_PER_TURN) {
        const ssize_t n = recv(conn->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            break;
        }
        if (n < 0 && errno != ECONNRESET) {
            return -errno;
        }
        *ret_moved = true;
        if (n <= 0) {
            conn_fail(conn, -ECONNRESET, "The daemon closed the connection.");
            break;
        }
        total += (size_t)n;
        r = frame_feed(&conn->reader, bytes, (size_t)n);
        if (r == 0) {
            r = take_frames(conn);
        }
    }
    if (r == 0 && !conn->lost && !conn->deaf) {
        r = flush(conn); /* what callbacks queued */
    }
    return r;
}

/* ---- waiting ---- */

int conn_ms_until(const struct onebit_conn *conn, uint64_t due_ns)
{
    const uint64_t now_ns = conn_now_ns(conn);

    if (due_ns == NEVER_NS) {
        return -1;
    }
    if (due_ns <= now_ns) {
        return 0;
    }
    const uint64_t ms = (due_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS;
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

int onebit_timeout_ms(const struct onebit_conn *conn)
{
    return conn->failed ? -1 : conn_ms_until(conn, pending_due_ns(conn));
}

/* Have the timer go off at due_ns; 0 would turn it off, so what is due already goes off in a
 * moment. */
static int set_timer(struct onebit_conn *conn, uint64_t due_ns)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct itimerspec at = {0};

    if (due_ns == conn->timer_ns) {
        return 0;
    }
    if (conn->timer_fd < 0) {
        conn->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (conn->timer_fd < 0 ||
            epoll_ctl(conn->epoll_fd, EPOLL_CTL_ADD, conn->timer_fd, &event) < 0) {
            return -errno;
        }
    }
    if (due_ns != NEVER_NS) {
        const int ms = conn_ms_until(conn, due_ns);
        at.it_value.tv_sec = ms / 1000;
        at.it_value.tv_nsec = ms > 0 ? ms % 1000 * (long)NS_PER_MS : 1;
    }
    conn->timer_ns = due_ns;
    return timerfd_settime(conn->timer_fd, 0, &at, NULL) < 0 ? -errno : 0;
}

static int watch_canceller(struct onebit_conn *conn)
{
    struct epoll_event event = {.events = EPOLLIN};
    const bool wanted = conn->canceller && !conn->trip_seen;

    if (wanted == conn->watched) {
        return 0;
    }
    /* Once seen it would wake us without end. What decides is what was seen, not the flag: that may
     * have been raised since. */
    if (epoll_ctl(conn->epoll_fd, wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
                  canceller_fd(conn->canceller), &event) < 0) {
        return -errno;
    }
    conn->watched = wanted;
    return 0;
}

int conn_arm(struct onebit_conn *conn)
{
    const uint32_t out = onebit_wants(conn) & POLLOUT ? EPOLLOUT : 0;
    struct epoll_event event = {.events = EPOLLIN | out};

    if (conn->fd >= 0 && out != conn->epoll_out) {
        if (epoll_ctl(conn->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event) < 0) {
            return -errno;
        }
        conn->epoll_out = out;
    }
    const int r = watch_canceller(conn);
    return r == 0 ? set_timer(conn, conn->failed ? NEVER_NS : pending_due_ns(conn)) : r;
}

/* ---- dispatching ---- */

/* Everything that can be done now. */
static int work(struct onebit_conn *conn, bool *ret_moved)
{
    const bool tripped = canceller_tripped(conn->canceller);

    if (tripped) {
        *ret_moved = *ret_moved || !conn->trip_seen;
        list_for_each (p, next, &conn->requests, struct pending, link) {
            pending_cancel_soon(conn, p);
        }
    }
    conn->trip_seen = tripped;
    int r = pending_run(conn, ret_moved);
    if (r == 0 && conn->fd >= 0 && !conn->lost) {
        r = pump(conn, ret_moved);
    }
    if (r < 0) {
        conn_fail(conn, r, "The connection failed: %s.", strerrordesc_np(-r));
    }
    if (conn->lost) {
        drop_socket(conn);
        *ret_moved = true;
    }
    return conn->failed ? conn->failed : 0;
}

static int wait_for(struct onebit_conn *conn, int timeout_ms)
{
    struct pollfd fd = {.fd = conn->epoll_fd, .events = POLLIN};
    const int due_ms = onebit_timeout_ms(conn);

    if (due_ms >= 0 && (timeout_ms < 0 || due_ms < timeout_ms)) {
        timeout_ms = due_ms;
    }
    return conn->env->wait(conn->env->arg, &fd, 1, timeout_ms) < 0 ? -errno : 0;
}

static int turn(struct onebit_conn *conn, int timeout_ms)
{
    bool moved = false;
    int r = work(conn, &moved);

    if (r != 0 || moved || timeout_ms == 0) {
        return r;
    }
    if (conn->fd < 0 && !conn->connecting && list_empty(&conn->requests)) {
        return -ENOTCONN;
    }
    (void)conn_arm(conn); /* without a timer: this wait has its own end */
    r = wait_for(conn, timeout_ms);
    if (r < 0) {
        return r; /* a signal: the connection is as it was */
    }
    r = work(conn, &moved);
    if (r == 0 && !moved && conn->watched) {
        canceller_settle(conn->canceller);
    }
    return r;
}

int onebit_dispatch(struct onebit_conn *conn, int timeout_ms)
{
    if (conn->dispatching) {
        return -EBUSY;
    }
    if (conn->failed) {
        return conn->failed;
    }
    conn->dispatching = true;
    int r = turn(conn, timeout_ms);
    const int armed = conn_arm(conn);
    conn->dispatching = false;
    return r == 0 ? armed : r;
}

int conn_wait(struct onebit_conn *conn, struct waiter *w)
{
    while (!w->ended) {
        const int r = onebit_dispatch(conn, -1);
        assert(r != -EBUSY); /* the blocking functions looked before they queued */
        (void)r;             /* a lost connection has ended the request */
    }
    return w->outcome;
}

int onebit_get_fd(const struct onebit_conn *conn)
{
    return conn->epoll_fd;
}

short onebit_wants(const struct onebit_conn *conn)
{
    return conn->out.n > 0 && !conn->deaf ? POLLIN | POLLOUT : POLLIN;
}

const struct onebit_server *onebit_server(const struct onebit_conn *conn)
{
    return &conn->server;
}
