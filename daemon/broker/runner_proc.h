/* The engine process as the broker sees it: one child, one socketpair, frames both ways. */
#ifndef BROKER_RUNNER_PROC_H
#define BROKER_RUNNER_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "ipc/frame.h"
#include "ipc/seam.h"

#define RUNNER_OUT_MAX (64u << 20)  /* bytes waiting for the engine */
#define RUNNER_OUT_SOFT (16u << 20) /* no new sequence is started above this */
#define RUNNER_HELLO_MS 30000u      /* a start without a hello is a death */

enum runner_state {
    RUNNER_DOWN,
    RUNNER_STARTING, /* the child runs, its hello has not come */
    RUNNER_UP,
    RUNNER_DYING, /* killed, or its socket closed; its exit is awaited */
};

struct runner_proc;

struct runner_handlers {
    void (*message)(void *user, const struct seam_message *m);
    /* Every start ends with one of these. @killed: by a SIGKILL that was not ours. */
    void (*gone)(void *user, const char *how, bool killed);
};

struct runner_proc {
    enum runner_state state;
    uv_loop_t *loop; /* borrowed */
    uv_process_t process;
    uv_poll_t poll;   /* on fd; open in STARTING and UP */
    uv_timer_t hello; /* open from init to close */
    bool poll_open, exited, closing;
    bool killed; /* by a SIGKILL that was not ours */
    int fd;      /* owned; -1: none */
    struct frame_reader in;
    struct buf out;   /* bytes the kernel has not taken */
    int attach;       /* owned; -1: no descriptor waits */
    size_t attach_at; /* it goes with this byte of out */
    char how[96];     /* why it went */
    struct runner_handlers handlers;
    void *user; /* borrowed */
};

MUST_USE int runner_proc_init(struct runner_proc *r, uv_loop_t *loop,
                              const struct runner_handlers *handlers, void *user);

struct runner_options {
    const char *path;
    const char *cpu;  /* NULL: the best there is */
    uint64_t threads; /* 0: chosen by the runner */
    int pulse_fd;     /* borrowed: a page of ipc/pulse.h; -1: none */
};
/** runner_proc_start() - from DOWN. Each start ends with one `gone`, also one that fails. */
void runner_proc_start(struct runner_proc *r, const struct runner_options *o);

/** runner_proc_send() - queue one frame; a full queue kills the runner. @fd: taken over, -1: none.
 * Nothing happens unless the runner is UP. Parameters as seam_put(). */
void runner_proc_send(struct runner_proc *r, const struct seam_message *m, const int32_t *ids,
                      size_t n_ids, int fd);

/** runner_proc_kill() - it has gone wrong; `gone` follows */
void runner_proc_kill(struct runner_proc *r, const char *why);

/** runner_proc_spare() - where its hello or its end is waited for, it has all of its time again */
void runner_proc_spare(struct runner_proc *r);

int runner_proc_pid(const struct runner_proc *r); /* 0: none */

/** runner_proc_close() - for good: the child ends, the handles close; no handler is called again */
void runner_proc_close(struct runner_proc *r);
void runner_proc_deinit(struct runner_proc *r); /* after the loop has ended */

#endif
