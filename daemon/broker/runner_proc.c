/* runner_proc: the child and its socket.
 *
 * The socket is a raw descriptor under uv_poll, because libuv attaches only streams to a message
 * and a load frame carries a file. The child is gone when both its exit has been seen and what it
 * wrote before has been read; only then `gone` is called, so no token it delivered is lost. */
#include "daemon/broker/runner_proc.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/wipe.h"
#include "daemon/broker/log.h"

#define READ_BYTES (64u << 10)
#define READS_PER_TURN 8    /* the loop turns between; a talkative engine starves nobody */
#define RUNNER_EXIT_MS 2000 /* from the end of its stream to its exit */
#define WRITE_BYTES (256u << 10)

static void on_poll(uv_poll_t *poll, int status, int events);

int runner_proc_init(struct runner_proc *r, uv_loop_t *loop, const struct runner_handlers *handlers,
                     void *user)
{
    *r = (struct runner_proc){
        .loop = loop, .fd = -1, .attach = -1, .handlers = *handlers, .user = user};
    frame_reader_init(&r->in, FRAME_SEAM_BODY_MAX);
    buf_init(&r->out, RUNNER_OUT_MAX);
    r->hello.data = r;
    r->process.data = r;
    r->poll.data = r;
    return uv_timer_init(loop, &r->hello);
}

static void drop_socket(struct runner_proc *r)
{
    if (r->poll_open) {
        r->poll_open = false;
        uv_close((uv_handle_t *)&r->poll, NULL);
    }
    if (r->fd >= 0) {
        (void)close(r->fd);
        r->fd = -1;
    }
    if (r->attach >= 0) {
        (void)close(r->attach);
        r->attach = -1;
    }
    frame_reader_deinit(&r->in);
    frame_reader_init(&r->in, FRAME_SEAM_BODY_MAX);
    buf_deinit(&r->out);
}

static void on_process_closed(uv_handle_t *handle)
{
    struct runner_proc *r = handle->data;

    r->state = RUNNER_DOWN;
    if (!r->closing) {
        r->handlers.gone(r->user, r->how, r->killed);
    }
}

/* Read what is there and hand it on. False: the stream has ended or cannot be trusted. */
static bool read_some(struct runner_proc *r, int turns)
{
    static uint8_t chunk[READ_BYTES]; /* one loop, no nesting */
    const uint8_t *body;
    size_t n_body;

    for (int i = 0; i < turns && r->fd >= 0; i++) {
        const ssize_t n = recv(r->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return true;
        }
        const int fed = n <= 0 ? -ECONNRESET : frame_feed(&r->in, chunk, (size_t)n);
        wipe(chunk, n > 0 ? (size_t)n : 0);
        if (fed < 0) {
            return false;
        }
        for (;;) {
            struct seam_message m;
            struct diag diag = {0};
            const int got = frame_next(&r->in, &body, &n_body);

            if (got == FRAME_MORE) {
                break;
            }
            if (got != FRAME_OK || seam_read(&m, body, n_body, &diag) != SEAM_OK) {
                log_line(LOG_ERR, "the engine sent a frame that is none: %s", diag.text);
                runner_proc_kill(r, "it broke the protocol");
                return false;
            }
            if (m.type < SEAM_HELLO || (m.type == SEAM_HELLO) != (r->state == RUNNER_STARTING)) {
                log_line(LOG_ERR, "the engine sent a frame that is not due");
                runner_proc_kill(r, "it broke the protocol");
                return false;
            }
            if (m.type == SEAM_HELLO) {
                r->state = RUNNER_UP;
                (void)uv_timer_stop(&r->hello);
            }
            r->handlers.message(r->user, &m);
            if (r->state != RUNNER_UP) {
                return false; /* killed by what it said */
            }
        }
    }
    return true;
}

/* Read what it wrote before it closed its end: at most what the kernel holds. */
static void read_rest(struct runner_proc *r)
{
    char one;

    while (read_some(r, 1) && r->fd >= 0 && recv(r->fd, &one, 1, MSG_DONTWAIT | MSG_PEEK) >= 0) {
    }
}

static void on_runner_exit(uv_process_t *process, int64_t status, int sig)
{
    struct runner_proc *r = process->data;
    const bool asked = r->state == RUNNER_DYING;

    r->exited = true;
    if (!asked) {
        read_rest(r);
    }
    r->state = RUNNER_DYING;
    r->killed = sig == SIGKILL && r->how[0] == '\0';
    if (r->how[0] == '\0') {
        if (sig) {
            (void)snprintf(r->how, sizeof(r->how), "signal %d", sig);
        } else {
            (void)snprintf(r->how, sizeof(r->how), "exit status %d", (int)status);
        }
    }
    (void)uv_timer_stop(&r->hello);
    drop_socket(r);
    uv_close((uv_handle_t *)&r->process, on_process_closed);
}

static void on_hello_late(uv_timer_t *timer)
{
    struct runner_proc *r = timer->data;

    if (r->state == RUNNER_DYING && !r->exited) {
        (void)snprintf(r->how, sizeof(r->how), "it closed its socket and stayed");
        (void)uv_process_kill(&r->process, SIGKILL);
    } else {
        runner_proc_kill(r, "no hello in time");
    }
}

/* It closed its socket: it is dying by itself, and its exit status will say of what. */
static void expect_exit(struct runner_proc *r)
{
    r->state = RUNNER_DYING;
    drop_socket(r);
    (void)uv_timer_start(&r->hello, on_hello_late, RUNNER_EXIT_MS, 0);
}

void runner_proc_kill(struct runner_proc *r, const char *why)
{
    if (r->state != RUNNER_STARTING && r->state != RUNNER_UP) {
        return;
    }
    r->state = RUNNER_DYING;
    (void)snprintf(r->how, sizeof(r->how), "%s", why);
    (void)uv_timer_stop(&r->hello);
    drop_socket(r);
    if (!r->exited) {
        (void)uv_process_kill(&r->process, SIGKILL);
    }
}

static int spawn(struct runner_proc *r, const struct runner_options *o, int child_fd)
{
    char threads[24];
    char *args[10] = {0};
    size_t n = 0;
    uv_stdio_container_t stdio[5] = {
        {.flags = UV_IGNORE},
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
        {.flags = UV_INHERIT_FD, .data.fd = child_fd},
        {.flags = o->pulse_fd >= 0 ? UV_INHERIT_FD : UV_IGNORE, .data.fd = o->pulse_fd},
    };
    /* uv_spawn() does not write to its arguments; its type is older than const. */
    args[n++] = (char *)(uintptr_t)o->path;
    args[n++] = (char *)(uintptr_t) "--seam";
    args[n++] = (char *)(uintptr_t) "3";
    if (o->pulse_fd >= 0) {
        args[n++] = (char *)(uintptr_t) "--pulse";
        args[n++] = (char *)(uintptr_t) "4";
    }
    if (o->threads > 0) {
        (void)snprintf(threads, sizeof(threads), "%llu", (unsigned long long)o->threads);
        args[n++] = (char *)(uintptr_t) "--threads";
        args[n++] = threads;
    }
    if (o->cpu) {
        args[n++] = (char *)(uintptr_t) "--cpu";
        args[n++] = (char *)(uintptr_t)o->cpu;
    }
    const uv_process_options_t options = {
        .exit_cb = on_runner_exit,
        .file = o->path,
        .args = args,
        .stdio_count = o->pulse_fd >= 0 ? 5 : 4,
        .stdio = stdio,
    };
    return uv_spawn(r->loop, &r->process, &options);
}

static void start_failed(struct runner_proc *r, int e)
{
    r->state = RUNNER_DYING;
    r->exited = true;
    (void)snprintf(r->how, sizeof(r->how), "%s", uv_strerror(e));
    uv_close((uv_handle_t *)&r->process, on_process_closed);
}

void runner_proc_start(struct runner_proc *r, const struct runner_options *o)
{
    int pair[2] = {-1, -1};
    int e = 0;

    r->exited = r->killed = false;
    r->how[0] = '\0';
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        e = -errno;
    }
    const int spawned = spawn(r, o, pair[1]); /* refuses a descriptor of -1, after its set-up */
    if (pair[1] >= 0) {
        (void)close(pair[1]);
    }
    r->fd = pair[0];
    if (spawned < 0) {
        drop_socket(r);
        start_failed(r, e < 0 ? e : spawned);
        return;
    }
    r->state = RUNNER_STARTING;
    e = e < 0 ? e : uv_poll_init(r->loop, &r->poll, r->fd); /* makes it non-blocking */
    if (e == 0) {
        r->poll_open = true;
        e = uv_poll_start(&r->poll, UV_READABLE, on_poll);
    }
    if (e < 0) {
        runner_proc_kill(r, "its socket cannot be watched");
        return;
    }
    (void)uv_timer_start(&r->hello, on_hello_late, RUNNER_HELLO_MS, 0);
}

/* One sendmsg: up to the byte that carries the descriptor, or from it on. */
static ssize_t send_once(struct runner_proc *r)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    size_t n = r->out.n < WRITE_BYTES ? r->out.n : WRITE_BYTES;
    struct iovec iov = {.iov_base = r->out.data, .iov_len = n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (r->attach >= 0 && r->attach_at > 0) {
        iov.iov_len = n < r->attach_at ? n : r->attach_at;
    } else if (r->attach >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &r->attach, sizeof(int));
    }
    return sendmsg(r->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* False: the socket is broken. */
static bool flush(struct runner_proc *r)
{
    while (r->out.n > 0) {
        const bool carries = r->attach >= 0 && r->attach_at == 0;
        const ssize_t n = send_once(r);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            break;
        }
        if (n <= 0) {
            return false;
        }
        if (carries) {
            (void)close(r->attach);
            r->attach = -1;
        } else if (r->attach >= 0) {
            r->attach_at -= (size_t)n;
        }
        buf_drop(&r->out, (size_t)n);
    }
    if (r->out.n == 0) {
        buf_deinit(&r->out);
    }
    return uv_poll_start(&r->poll, UV_READABLE | (r->out.n > 0 ? UV_WRITABLE : 0), on_poll) == 0;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct runner_proc *r = poll->data;

    if (status < 0) { /* it closed with frames of ours unread; what it said before still counts */
        read_rest(r);
        if (r->state == RUNNER_STARTING || r->state == RUNNER_UP) {
            expect_exit(r);
        }
        return;
    }
    if ((events & UV_READABLE) && !read_some(r, READS_PER_TURN)) {
        if (r->state == RUNNER_STARTING || r->state == RUNNER_UP) {
            expect_exit(r);
        }
        return;
    }
    if ((events & UV_WRITABLE) && r->state == RUNNER_UP && !flush(r)) {
        /* It may have written before it died: on_runner_exit() reads that. */
        (void)uv_poll_start(&r->poll, UV_READABLE, on_poll);
    }
}

void runner_proc_send(struct runner_proc *r, const struct seam_message *m, const int32_t *ids,
                      size_t n_ids, int fd)
{
    const size_t at = r->out.n;
    const bool idle = at == 0;

    if (r->state != RUNNER_UP || (fd >= 0 && r->attach >= 0)) {
        if (fd >= 0) {
            (void)close(fd);
        }
        runner_proc_kill(r, "two descriptors at once"); /* nothing unless it is UP */
        return;
    }
    const int e = seam_put(&r->out, m, ids, n_ids, NULL, 0);
    if (e < 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        log_line(LOG_ERR, "a frame cannot be sent to the engine: %s",
                 e == -EINVAL ? "it could not read it" : strerror(-e));
        runner_proc_kill(r, e == -EINVAL ? "its frame is wrong" : "it does not read");
        return;
    }
    if (fd >= 0) {
        r->attach = fd;
        r->attach_at = at;
    }
    if (idle && !flush(r)) {
        (void)uv_poll_start(&r->poll, UV_READABLE, on_poll);
    }
}

void runner_proc_spare(struct runner_proc *r)
{
    if (uv_is_active((uv_handle_t *)&r->hello)) {
        uv_update_time(r->loop);
        (void)uv_timer_start(&r->hello, on_hello_late,
                             r->state == RUNNER_DYING ? RUNNER_EXIT_MS : RUNNER_HELLO_MS, 0);
    }
}

int runner_proc_pid(const struct runner_proc *r)
{
    return r->state == RUNNER_STARTING || r->state == RUNNER_UP ? r->process.pid : 0;
}

void runner_proc_close(struct runner_proc *r)
{
    r->closing = true;
    runner_proc_kill(r, "the daemon stops");
    if (!uv_is_closing((uv_handle_t *)&r->hello)) {
        uv_close((uv_handle_t *)&r->hello, NULL);
    }
}

void runner_proc_deinit(struct runner_proc *r)
{
    frame_reader_deinit(&r->in);
    buf_deinit(&r->out);
}
