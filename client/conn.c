/* conn: the socket of libonebit. Everything is non-blocking inside; what blocks is poll().
 *
 * Bytes are read as they come, cut into frames, and each message is handed to deliver(). The connection
 * ends once: conn_fail() remembers why, and every request in flight ends with that. When the daemon
 * stops reading, what it wrote before is still read, because that is where it says why. */
#include "client/conn.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"

#define CONNECT_MS 10000                /* from connect() to the daemon's hello */
#define READ_AT_ONCE ((size_t)16 << 10) /* bytes of one recv() */
#define READ_PER_TURN                                                                              \
    ((size_t)512 << 10)   /* bytes of one dispatch: a flood cannot hold it for ever */
#define SENT_NAME_MAX 64u /* of the client's name in the hello */

static_assert(ONEBIT_SOCKET_PATH_MAX == sizeof(((struct sockaddr_un *)0)->sun_path), "path");

/* ---- requests in flight ---- */

struct pending *pending_find(struct onebit_conn *conn, uint32_t id)
{
    list_for_each (p, next, &conn->requests, struct pending, link) {
        if (p->id == id) {
            return p;
        }
    }
    return NULL;
}

static uint32_t next_id(struct onebit_conn *conn)
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

void pending_drop(struct onebit_conn *conn, struct pending *p)
{
    list_remove(&p->link);
    conn->n_requests--;
    free(p);
}

/* ---- the end of a connection ---- */

void conn_fail(struct onebit_conn *conn, int code, const char *fmt, ...)
{
    va_list args;

    if (conn->failed) {
        return;
    }
    conn->failed = code;
    va_start(args, fmt);
    (void)vsnprintf(conn->why, sizeof(conn->why), fmt, args);
    va_end(args);
    deliver_lost(conn);
}

static void conn_free(struct onebit_conn *conn)
{
    if (!conn) {
        return;
    }
    list_for_each (p, next, &conn->requests, struct pending, link) {
        pending_drop(conn, p);
    }
    if (conn->fd >= 0) {
        (void)close(conn->fd);
    }
    frame_reader_deinit(&conn->reader);
    buf_deinit(&conn->out);
    buf_deinit(&conn->text);
    free(conn->ids);
    free(conn->tokens);
    free(conn->logprobs);
    free(conn);
}

void onebit_disconnect(struct onebit_conn *conn)
{
    if (conn && !conn->dispatching) {
        conn_free(conn);
    }
}

/* ---- bytes out and in ---- */

int conn_queued(struct onebit_conn *conn, size_t mark, int r)
{
    const size_t body_max = conn->server.frame_bytes_max;

    if (r == 0 && body_max > 0 && conn->out.n - mark > FRAME_HEADER + body_max) {
        r = -E2BIG;
    } else if (r == -E2BIG && mark > 0) {
        r = -EAGAIN; /* alone it may fit */
    }
    if (r < 0) {
        conn->out.n = mark;
    }
    return r;
}

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
    while (!conn->failed) {
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
        r = deliver(conn, &m, n);
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

    while (r == 0 && !conn->failed && total < READ_PER_TURN) {
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
    if (r == 0 && !conn->failed && !conn->deaf) {
        r = flush(conn); /* what callbacks queued */
    }
    return r;
}

static int turn(struct onebit_conn *conn, int timeout_ms)
{
    bool moved = false;
    int r = pump(conn, &moved);

    if (r == 0 && !moved && !conn->failed && timeout_ms != 0) {
        struct pollfd fd = {.fd = conn->fd, .events = onebit_wants(conn)};
        const int n = poll(&fd, 1, timeout_ms);
        if (n < 0) {
            return -errno; /* a signal: the connection is as it was */
        }
        r = n > 0 ? pump(conn, &moved) : 0;
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
    const int r = turn(conn, timeout_ms);
    if (r < 0 && r != -EINTR) {
        conn_fail(conn, r, "The connection failed: %s.", strerrordesc_np(-r));
    }
    conn->dispatching = false;
    return conn->failed ? conn->failed : r;
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
    return conn->fd;
}

short onebit_wants(const struct onebit_conn *conn)
{
    return conn->out.n > 0 && !conn->deaf ? POLLIN | POLLOUT : POLLIN;
}

const struct onebit_server *onebit_server(const struct onebit_conn *conn)
{
    return &conn->server;
}

/* ---- connecting ---- */

int onebit_socket_path(const char *path, char *ret)
{
    const char *const runtime = secure_getenv("XDG_RUNTIME_DIR");
    int n;

    if (!path) {
        path = secure_getenv("ONEBIT_SOCKET");
    }
    if (path && *path) {
        n = snprintf(ret, ONEBIT_SOCKET_PATH_MAX, "%s", path);
        return n < ONEBIT_SOCKET_PATH_MAX ? 0 : -ENAMETOOLONG;
    }
    if (runtime && runtime[0] == '/') {
        n = snprintf(ret, ONEBIT_SOCKET_PATH_MAX, "%s/onebit.sock", runtime);
        if (n < ONEBIT_SOCKET_PATH_MAX && access(ret, F_OK) == 0) {
            return 0;
        }
    }
    (void)snprintf(ret, ONEBIT_SOCKET_PATH_MAX, "/run/onebit.sock");
    return 0;
}

static int open_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = CONNECT_MS / 1000}; /* a full backlog would block */
    int r = onebit_socket_path(path, address.sun_path);

    if (r < 0) {
        return r;
    }
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0) {
        r = -errno;
        goto out;
    }
    do {
        r = connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    } while (r == -EINTR);
    if (r == -EAGAIN) {
        r = -ETIMEDOUT;
    }
out:
    if (r < 0) {
        (void)close(fd);
        return r;
    }
    return fd;
}

static int queue_hello(struct onebit_conn *conn)
{
    char name[SENT_NAME_MAX];
    struct msg_hello *hello = calloc(1, sizeof(*hello));
    size_t n = 0;

    if (!hello) {
        return -ENOMEM;
    }
    for (const char *c = program_invocation_short_name; *c && n < sizeof(name); c++) {
        name[n++] = *c > ' ' && *c < 0x7f ? *c : '_';
    }
    hello->major = PROTOCOL_MAJOR;
    hello->minor = PROTOCOL_MINOR;
    hello->name = (struct strview){name, n};
    const int r = message_put_hello(&conn->out, hello, /* server= */ false);
    free(hello);
    return r;
}

static int greet(struct onebit_conn *conn)
{
    const uint64_t until_ns = clock_now_ns() + CONNECT_MS * NS_PER_MS;

    while (!conn->greeted) {
        const uint64_t now_ns = clock_now_ns();
        if (now_ns >= until_ns) {
            return -ETIMEDOUT;
        }
        const int r = onebit_dispatch(conn, (int)((until_ns - now_ns) / NS_PER_MS) + 1);
        if (r != 0 && r != -EINTR) {
            return r;
        }
    }
    return conn->failed;
}

int onebit_connect(struct onebit_conn **ret_conn, const char *path)
{
    struct onebit_conn *conn = calloc(1, sizeof(*conn));
    int r;

    if (!conn) {
        return -ENOMEM;
    }
    conn->fd = -1;
    list_init(&conn->requests);
    frame_reader_init(&conn->reader, FRAME_BODY_MAX);
    buf_init(&conn->out, OUT_BYTES_MAX);
    buf_init(&conn->text, 2 * (size_t)FRAME_BODY_MAX);
    r = open_socket(path);
    if (r < 0) {
        goto out;
    }
    conn->fd = r;
    r = queue_hello(conn);
    if (r == 0) {
        r = greet(conn);
    }
    if (r == 0) {
        *ret_conn = conn;
        conn = NULL; /* the caller's now */
    }
out:
    conn_free(conn);
    return r;
}
