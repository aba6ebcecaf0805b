/* acceptor: accept(2) under a poll of our own.
 *
 * libuv's listener takes whatever comes in one callback, so that a crowd which connects as fast as
 * it is accepted keeps the loop for ever, and stops listening when a connection is not taken at
 * once. Here a turn accepts at most ACCEPTS_PER_TURN. Where descriptors are used up, a spare one is
 * given up to accept and close: the peer learns it at once, and the backlog does not spin the
 * loop. */
#include "daemon/broker/acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/broker/log.h"

#define PAUSE_MS 100

static void on_readable(uv_poll_t *poll, int status, int events);

static void watch(struct acceptor *a)
{
    if (!a->held && uv_poll_start(&a->poll, UV_READABLE, on_readable) < 0) {
        log_line(LOG_ERR, "the listening socket cannot be watched");
    }
}

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_pause_over(uv_timer_t *timer)
{
    struct acceptor *a = timer->data;

    if (a->spare < 0) {
        a->spare = open_spare();
    }
    watch(a);
}

/* The listener stays readable: without a pause the loop would turn for nothing. */
static void pause_a_while(struct acceptor *a)
{
    (void)uv_poll_stop(&a->poll);
    (void)uv_timer_start(&a->pause, on_pause_over, PAUSE_MS, 0);
}

static int accept_one(const struct acceptor *a)
{
    int fd;

    do {
        fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

/* No descriptor is left: close what waits. False: nothing could be accepted. */
static bool shed(struct acceptor *a)
{
    if (a->spare < 0) {
        return false;
    }
    log_client(LOG_DESCRIPTORS, LOG_WARNING, "no descriptor is left: a connection is closed");
    (void)close(a->spare);
    const int fd = accept_one(a);
    if (fd >= 0) {
        (void)close(fd);
    }
    a->spare = open_spare();
    return fd >= 0;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct acceptor *a = poll->data;

    (void)events;
    if (status < 0) {
        pause_a_while(a);
        return;
    }
    for (int i = 0; i < ACCEPTS_PER_TURN && a->open && !a->held; i++) {
        const int fd = accept_one(a);

        if (fd >= 0) {
            a->take(a->user, fd);
        } else if (fd == -EAGAIN) {
            return;
        } else if (fd != -ECONNABORTED && !shed(a)) {
            pause_a_while(a);
            return;
        }
    }
}

int acceptor_start(struct acceptor *a, uv_loop_t *loop, int fd, void (*take)(void *user, int fd),
                   void *user)
{
    *a = (struct acceptor){.fd = fd, .spare = open_spare(), .take = take, .user = user};
    a->poll.data = a->pause.data = a;
    int e = a->spare < 0 ? -errno : uv_poll_init(loop, &a->poll, fd); /* makes it non-blocking */
    if (e == 0) {
        (void)uv_timer_init(loop, &a->pause); /* cannot fail: it only fills the struct */
        a->open = true;
        e = uv_poll_start(&a->poll, UV_READABLE, on_readable);
    }
    if (e < 0 && !a->open) {
        (void)close(fd);
        a->fd = -1;
        if (a->spare >= 0) {
            (void)close(a->spare);
            a->spare = -1;
        }
    }
    return e;
}

void acceptor_hold(struct acceptor *a, bool hold)
{
    if (!a->open || hold == a->held) {
        return;
    }
    a->held = hold;
    if (hold) {
        (void)uv_poll_stop(&a->poll);
    } else if (!uv_is_active((uv_handle_t *)&a->pause)) {
        watch(a);
    }
}

void acceptor_stop(struct acceptor *a)
{
    if (!a->open) {
        return;
    }
    a->open = false;
    uv_close((uv_handle_t *)&a->poll, NULL);
    uv_close((uv_handle_t *)&a->pause, NULL);
    (void)close(a->fd);
    a->fd = -1;
    if (a->spare >= 0) {
        (void)close(a->spare);
        a->spare = -1;
    }
}
