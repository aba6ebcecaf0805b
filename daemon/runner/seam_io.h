/* The runner's end of the seam: frames and descriptors in, bytes out. */
#ifndef DAEMON_RUNNER_SEAM_IO_H
#define DAEMON_RUNNER_SEAM_IO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/list.h"
#include "ipc/seam.h"

#define SEAM_IO_FDS_MAX 4u /* descriptors that wait for their frame; the broker sends one a load */
#define SEAM_IO_QUEUE_BYTES_MAX (2u * FRAME_SEAM_BODY_MAX) /* frames read, not yet carried out */

struct seam_io; /* opaque: the socket, a reader thread and the queue between it and the engine */

/* One frame from the broker. */
struct seam_item {
    struct list link;        /* in the queue */
    struct seam_message msg; /* its views borrow from body */
    int fd;                  /* owned: the descriptor of a load; else -1 */
    size_t n;                /* bytes of body */
    uint8_t body[];
};

/** seam_io_open() - start reading. @fd: a connected stream socket; owned on success */
MUST_USE int seam_io_open(struct seam_io **ret, int fd);
/** seam_io_close() - end the reader and close the socket; NULL is fine */
void seam_io_close(struct seam_io *io);

enum {
    SEAM_IO_ITEM = 0, /* ret_item is the caller's, free with seam_item_free() */
    SEAM_IO_NONE,     /* nothing there, or seam_io_wake() was called */
    SEAM_IO_CLOSED,   /* the broker closed its end: time to go */
    SEAM_IO_BROKEN,   /* bytes that are no frame of the seam, or no memory for one */
};

/** seam_io_take() - the next frame; with @wait, sleeps until there is something to tell */
MUST_USE int seam_io_take(struct seam_io *io, bool wait, struct seam_item **ret_item);
void seam_item_free(struct seam_item *item);

/** seam_io_wake() - end a wait of seam_io_take(), from any thread */
void seam_io_wake(struct seam_io *io);

/**
 * seam_io_step_begin() - name the sequences of the step that is about to run
 *
 * @any: stop for a cancel of any of them; else only when all have been cancelled
 *
 * From here to seam_io_step_end() such cancel frames, an urgent plan, or the end of the seam, set
 * the flag at once.
 * Return: false when unread frames wait: read them first.
 */
MUST_USE bool seam_io_step_begin(struct seam_io *io, const uint64_t *seqs, size_t n, bool any);
void seam_io_step_end(struct seam_io *io);
const atomic_bool *seam_io_cancel_flag(const struct seam_io *io);

/**
 * seam_io_flush() - write all of out and empty it
 *
 * Waits while the broker does not read: the runner stops rather than grow.
 * Return: 0 or a negative errno (-EPIPE: the broker is gone).
 */
MUST_USE int seam_io_flush(struct seam_io *io, struct buf *out);

#endif
