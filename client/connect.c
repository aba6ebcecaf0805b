/* connect: making a connection, the first time and again.
 *
 * Nothing here waits: a socket whose daemon has no room in its backlog is tried again a little
 * later, and the greeting comes like any other message. What waits for all that is dispatching. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/conn.h"

#define BACKLOG_MS 20 /* until a full backlog is tried again */
#define AGAIN_MS 100  /* until a daemon that hung up is, twice as long each time */
#define AGAIN_TIMES 3u
#define SENT_NAME_MAX 64u /* bytes of the client's name in the hello */

static_assert(ONEBIT_SOCKET_PATH_MAX == sizeof(((struct sockaddr_un *)0)->sun_path), "path");

/* ---- the world ---- */

static uint64_t real_now_ns(void *arg)
{
    return clock_now_ns();
}

static uint32_t real_random(void *arg)
{
    uint32_t n;

    if (getrandom(&n, sizeof(n), GRND_NONBLOCK) != (ssize_t)sizeof(n)) {
        n = (uint32_t)clock_now_ns() *
            UINT32_C(2654435761); /* early in a boot: spread all the same */
    }
    return n;
}

static int real_wait(void *arg, struct pollfd *fds, size_t n, int timeout_ms)
{
    return poll(fds, n, timeout_ms);
}

const struct client_env client_env_real = {real_now_ns, real_random, real_wait, NULL};

int struct_known(void *ret, size_t n, const void *from)
{
    const unsigned char *bytes = from;
    size_t size;

    memcpy(&size, from, sizeof(size));
    if (size < sizeof(size)) {
        return -EINVAL;
    }
    for (size_t i = n; i < size; i++) {
        if (bytes[i] != 0) {
            return ONEBIT_ERR_UNSUPPORTED; /* a wish that we could only ignore */
        }
    }
    memcpy(ret, from, size < n ? size : n);
    return 0;
}

/* ---- the socket ---- */

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

/* A connected socket, or a negative errno; -EAGAIN: the daemon's backlog is full. */
static int open_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int r;

    memcpy(address.sun_path, path, sizeof(address.sun_path));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    do {
        r = connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    } while (r == -EINTR);
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

int conn_adopt(struct onebit_conn *conn, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};

    conn->fd = fd;
    conn->epoll_out = 0;
    return epoll_ctl(conn->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void conn_begin(struct onebit_conn *conn)
{
    conn->connecting = true;
    conn->connect_at_ns = conn_now_ns(conn);
    conn->connect_by_ns = conn->connect_at_ns + conn->connect_ms * NS_PER_MS;
}

int conn_try(struct onebit_conn *conn)
{
    const uint64_t now_ns = conn_now_ns(conn);

    if (now_ns < conn->connect_at_ns) {
        return 0;
    }
    const int fd = open_socket(conn->path);
    if (fd == -EAGAIN) {
        conn->connect_at_ns = now_ns + BACKLOG_MS * NS_PER_MS;
        return 0;
    }
    if (fd < 0) {
        conn_fail(conn, fd, "The daemon cannot be reached at %s: %s.", conn->path,
                  strerrordesc_np(-fd));
        return 0;
    }
    const int r = conn_adopt(conn, fd);
    return r == 0 ? queue_hello(conn) : r;
}

/* ---- connections ---- */

int conn_new(struct onebit_conn **ret, const struct client_env *env)
{
    struct onebit_conn *conn = calloc(1, sizeof(*conn));

    if (!conn) {
        return -ENOMEM;
    }
    conn->env = env;
    conn->fd = conn->timer_fd = -1;
    conn->timer_ns = NEVER_NS;
    list_init(&conn->requests);
    frame_reader_init(&conn->reader, FRAME_BODY_MAX);
    buf_init(&conn->out, OUT_BYTES_MAX);
    buf_init(&conn->text, 2 * (size_t)FRAME_BODY_MAX);
    conn->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (conn->epoll_fd < 0) {
        const int r = -errno;
        conn_free(conn);
        return r;
    }
    *ret = conn;
    return 0;
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}

void conn_free(struct onebit_conn *conn)
{
    if (!conn) {
        return;
    }
    list_for_each (p, next, &conn->requests, struct pending, link) {
        pending_drop(conn, p);
    }
    close_fd(conn->fd);
    close_fd(conn->timer_fd);
    close_fd(conn->epoll_fd);
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

static int await_greeting(struct onebit_conn *conn)
{
    int r = 0;

    while (r == 0 && !conn->greeted) {
        r = canceller_tripped(conn->canceller) ? -ECANCELED : onebit_dispatch(conn, -1);
        r = r == -EINTR ? 0 : r;
    }
    return r;
}

/* Connect and wait for the greeting. The policy counts from the first greeting on; before it, only
 * a daemon that took the connection and hung up is asked again, because one that is restarted, or
 * dies, does just that. */
static int connect_now(struct onebit_conn *conn)
{
    const struct onebit_retry policy = conn->retry;

    conn->failed = 0;
    conn->retry = (struct onebit_retry){.size = sizeof(conn->retry)};
    if (!conn->greeted && !conn->connecting) {
        conn_begin(conn);
    }
    int r = await_greeting(conn);
    for (unsigned i = 0; r == -ECONNRESET && i < AGAIN_TIMES; i++) {
        conn->failed = 0;
        conn_begin(conn);
        conn->connect_at_ns += (AGAIN_MS << i) * NS_PER_MS;
        r = await_greeting(conn);
    }
    conn->retry = policy;
    return r;
}

int onebit_reconnect(struct onebit_conn *conn)
{
    if (conn->dispatching) {
        return -EBUSY;
    }
    return connect_now(conn);
}

int conn_open(struct onebit_conn **ret, const struct onebit_options *options,
              const struct client_env *env)
{
    struct onebit_options known;
    struct onebit_conn *conn = NULL;

    onebit_options_init(&known);
    int r = options ? struct_known(&known, sizeof(known), options) : 0;
    if (r == 0) {
        r = conn_new(&conn, env);
    }
    if (r == 0) {
        r = onebit_socket_path(known.path, conn->path);
    }
    if (r == 0) {
        r = onebit_set_retry(conn, known.retry);
    }
    if (r == 0) {
        conn->connect_ms = known.connect_ms;
        r = onebit_set_canceller(conn, known.canceller);
    }
    if (r == 0) {
        r = connect_now(conn);
    }
    if (r == 0) {
        *ret = conn;
        conn = NULL; /* the caller's now */
    }
    conn_free(conn);
    return r;
}

int onebit_connect_with(struct onebit_conn **ret_conn, const struct onebit_options *options)
{
    return conn_open(ret_conn, options, &client_env_real);
}

int onebit_connect(struct onebit_conn **ret_conn, const char *path)
{
    struct onebit_options options;

    onebit_options_init(&options);
    options.path = path;
    return onebit_connect_with(ret_conn, &options);
}
