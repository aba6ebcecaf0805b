/* The seam's socket. A thread of its own does nothing but read: so a cancel is seen while a long
 * step runs, and the step is told by one flag. Everything else the engine takes from the queue
 * between two steps. The queue is bounded; when it is full the thread stops reading and the
 * broker's writes wait.
 *
 * The flag. A step, the queue and the end of the stream change under one lock. A cancel that comes
 * before seam_io_step_begin() is in the queue, so the step does not begin; one that comes after
 * finds its sequence in the step and sets the flag, at once or with the last of them, as the step
 * was begun. Only a beginning step clears it, and none begins after the end, so within a step it
 * never falls and a cancel of an earlier step does not reach into a later one. The frame is queued
 * under the same lock: whoever sees the flag finds the reason. Only a full queue delays a cancel,
 * to the end of the step. An urgent plan sets the flag likewise: while a step runs, or not at all,
 * since none begins before the plan is heard.
 *
 * Waking. seam_io_wake() sticks until a take has seen it. The caller looks for what it was woken
 * for after its last take and before the next that waits, so it does not matter which take that
 * was.
 *
 * Descriptors. On a stream socket they arrive no later than the first byte they were sent with, so
 * a load takes the oldest descriptor that has come. One that no frame can claim any more is
 * closed. */
#include "daemon/runner/seam_io.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/wipe.h"
#include "ipc/frame.h"

#define READ_BYTES 65536u /* one read; frame_feed() takes no more at once */

struct seam_io {
    int fd; /* owned */
    pthread_t reader;
    pthread_mutex_t lock;
    pthread_cond_t something; /* the engine waits here */
    pthread_cond_t room;      /* the reader waits here */

    /* Under the lock. */
    struct list queue;  /* of struct seam_item; owned */
    size_t queue_bytes; /* bodies in the queue */
    int end;            /* SEAM_IO_ITEM while the stream goes on, else CLOSED or BROKEN */
    bool woken, stop;
    uint64_t step[SEAM_PLAN_MAX]; /* sequences of the step that runs, without the cancelled */
    size_t n_step;
    bool step_any; /* it stops for any of them */

    atomic_bool cancel;

    /* The reader's own. */
    struct frame_reader frames;
    int fds[SEAM_IO_FDS_MAX]; /* owned */
    size_t n_fds;
};

void seam_item_free(struct seam_item *item)
{
    if (!item) {
        return;
    }
    if (item->fd >= 0) {
        (void)close(item->fd);
    }
    wipe_free(item, sizeof(*item) + item->n);
}

/* ---- the reader thread ---- */

static void reader_end(struct seam_io *io, int how)
{
    (void)pthread_mutex_lock(&io->lock);
    if (io->end == SEAM_IO_ITEM) {
        io->end = how;
    }
    atomic_store(&io->cancel, true);
    (void)pthread_cond_signal(&io->something);
    (void)pthread_mutex_unlock(&io->lock);
}

/* Under the lock. */
static void step_cancel(struct seam_io *io, uint64_t seq)
{
    for (size_t i = 0; i < io->n_step; i++) {
        if (io->step[i] == seq) {
            io->step[i] = io->step[--io->n_step];
            if (io->step_any || io->n_step == 0) {
                atomic_store(&io->cancel, true);
            }
            return;
        }
    }
}

/* False when the runner is stopping; the item is then freed. */
static bool reader_push(struct seam_io *io, struct seam_item *item)
{
    bool stop;

    (void)pthread_mutex_lock(&io->lock);
    while (io->queue_bytes > SEAM_IO_QUEUE_BYTES_MAX && !io->stop) {
        (void)pthread_cond_wait(&io->room, &io->lock);
    }
    stop = io->stop;
    if (!stop) {
        list_push(&io->queue, &item->link);
        io->queue_bytes += sizeof(*item) + item->n;
        if (item->msg.type == SEAM_CANCEL) {
            step_cancel(io, item->msg.cancel);
        } else if (item->msg.type == SEAM_PLAN && item->msg.plan.urgent && io->n_step > 0) {
            atomic_store(&io->cancel, true);
        }
        (void)pthread_cond_signal(&io->something);
    }
    (void)pthread_mutex_unlock(&io->lock);
    if (stop) {
        seam_item_free(item);
    }
    return !stop;
}

static bool from_broker(enum seam_type type)
{
    return type == SEAM_LOAD || type == SEAM_DROP || type == SEAM_START || type == SEAM_PLAN ||
           type == SEAM_CANCEL || type == SEAM_SPILL || type == SEAM_PUBLIC ||
           type == SEAM_MEASURE || type == SEAM_GIVE_BACK;
}

static bool reader_take_fd(struct seam_io *io, int *ret)
{
    if (io->n_fds == 0) {
        return false;
    }
    *ret = io->fds[0];
    io->n_fds--;
    memmove(io->fds, io->fds + 1, io->n_fds * sizeof(io->fds[0]));
    return true;
}

/* False when nothing more can be read. */
static bool reader_frame(struct seam_io *io, const uint8_t *body, size_t n)
{
    struct seam_item *item = malloc(sizeof(*item) + n);

    if (!item) {
        goto broken;
    }
    item->fd = -1;
    item->n = n;
    list_init(&item->link);
    memcpy(item->body, body, n);
    if (seam_read(&item->msg, item->body, n, NULL) != SEAM_OK || !from_broker(item->msg.type)) {
        goto broken;
    }
    if ((item->msg.type == SEAM_LOAD || item->msg.type == SEAM_SPILL) &&
        !reader_take_fd(io, &item->fd)) {
        goto broken;
    }
    return reader_push(io, item);
broken:
    seam_item_free(item);
    reader_end(io, SEAM_IO_BROKEN);
    return false;
}

static bool reader_feed(struct seam_io *io, const uint8_t *data, size_t n)
{
    const uint8_t *body;
    size_t body_n;
    int r = frame_feed(&io->frames, data, n);

    while (r == 0) {
        r = frame_next(&io->frames, &body, &body_n);
        if (r == FRAME_OK && !reader_frame(io, body, body_n)) {
            return false;
        }
    }
    if (r != FRAME_MORE) {
        reader_end(io, SEAM_IO_BROKEN);
        return false;
    }
    while (io->n_fds > (frame_partial(&io->frames) ? 1u : 0u)) {
        (void)close(io->fds[--io->n_fds]);
    }
    return true;
}

static void reader_keep_fds(struct seam_io *io, struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
            if (io->n_fds < SEAM_IO_FDS_MAX) {
                io->fds[io->n_fds++] = fd;
            } else {
                (void)close(fd);
            }
        }
    }
}

static void *reader_main(void *arg)
{
    struct seam_io *io = arg;
    static _Thread_local uint8_t data[READ_BYTES];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * SEAM_IO_FDS_MAX)];
    } control;

    for (;;) {
        struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        const ssize_t n = recvmsg(io->fd, &msg, MSG_CMSG_CLOEXEC);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = io->fd, .events = POLLIN};
            (void)poll(&p, 1, -1);
            continue;
        }
        if (n <= 0) { /* a reset is an end like any other */
            reader_end(io, SEAM_IO_CLOSED);
            return NULL;
        }
        reader_keep_fds(io, &msg);
        const bool fed = reader_feed(io, data, (size_t)n);
        wipe(data, (size_t)n);
        if (!fed) {
            return NULL;
        }
    }
}

/* ---- the engine's side ---- */

int seam_io_open(struct seam_io **ret, int fd)
{
    struct seam_io *io = calloc(1, sizeof(*io));

    if (!io) {
        return -ENOMEM;
    }
    io->fd = fd;
    io->end = SEAM_IO_ITEM;
    list_init(&io->queue);
    frame_reader_init(&io->frames, FRAME_SEAM_BODY_MAX);
    (void)pthread_mutex_init(&io->lock, NULL);
    (void)pthread_cond_init(&io->something, NULL);
    (void)pthread_cond_init(&io->room, NULL);
    const int r = pthread_create(&io->reader, NULL, reader_main, io);
    if (r != 0) {
        free(io);
        return -r;
    }
    *ret = io;
    return 0;
}

void seam_io_close(struct seam_io *io)
{
    if (!io) {
        return;
    }
    (void)pthread_mutex_lock(&io->lock);
    io->stop = true;
    (void)pthread_cond_signal(&io->room);
    (void)pthread_mutex_unlock(&io->lock);
    (void)shutdown(io->fd, SHUT_RDWR); /* the reader's recvmsg() returns */
    (void)pthread_join(io->reader, NULL);

    list_for_each (item, next, &io->queue, struct seam_item, link) {
        seam_item_free(item);
    }
    while (io->n_fds > 0) {
        (void)close(io->fds[--io->n_fds]);
    }
    frame_reader_deinit(&io->frames);
    (void)pthread_cond_destroy(&io->something);
    (void)pthread_cond_destroy(&io->room);
    (void)pthread_mutex_destroy(&io->lock);
    (void)close(io->fd);
    free(io);
}

int seam_io_take(struct seam_io *io, bool wait, struct seam_item **ret_item)
{
    int r = SEAM_IO_NONE;

    (void)pthread_mutex_lock(&io->lock);
    while (wait && list_empty(&io->queue) && io->end == SEAM_IO_ITEM && !io->woken) {
        (void)pthread_cond_wait(&io->something, &io->lock);
    }
    io->woken = false;
    if (io->end == SEAM_IO_CLOSED) {
        r = SEAM_IO_CLOSED; /* nobody is there to hear what the queue would bring about */
    } else if (!list_empty(&io->queue)) {
        struct seam_item *item = container_of(io->queue.next, struct seam_item, link);
        list_remove(&item->link);
        io->queue_bytes -= sizeof(*item) + item->n;
        (void)pthread_cond_signal(&io->room);
        *ret_item = item;
        r = SEAM_IO_ITEM;
    } else if (io->end != SEAM_IO_ITEM) {
        r = io->end;
    }
    (void)pthread_mutex_unlock(&io->lock);
    return r;
}

void seam_io_wake(struct seam_io *io)
{
    (void)pthread_mutex_lock(&io->lock);
    io->woken = true;
    (void)pthread_cond_signal(&io->something);
    (void)pthread_mutex_unlock(&io->lock);
}

bool seam_io_step_begin(struct seam_io *io, const uint64_t *seqs, size_t n, bool any)
{
    bool clear;

    assert(n <= SEAM_PLAN_MAX);
    (void)pthread_mutex_lock(&io->lock);
    clear = list_empty(&io->queue) && io->end == SEAM_IO_ITEM;
    if (clear) {
        memcpy(io->step, seqs, n * sizeof(seqs[0]));
        io->n_step = n;
        io->step_any = any;
        atomic_store(&io->cancel, false);
    }
    (void)pthread_mutex_unlock(&io->lock);
    return clear;
}

void seam_io_step_end(struct seam_io *io)
{
    (void)pthread_mutex_lock(&io->lock);
    io->n_step = 0;
    (void)pthread_mutex_unlock(&io->lock);
}

const atomic_bool *seam_io_cancel_flag(const struct seam_io *io)
{
    return &io->cancel;
}

int seam_io_flush(struct seam_io *io, struct buf *out)
{
    size_t done = 0;

    while (done < out->n) {
        const ssize_t n = send(io->fd, out->data + done, out->n - done, MSG_NOSIGNAL);

        if (n >= 0) {
            done += (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd p = {.fd = io->fd, .events = POLLOUT};
            (void)poll(&p, 1, -1);
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    buf_drop(out, out->n);
    return 0;
}
