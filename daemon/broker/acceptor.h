/* New connections, a few in each turn of the loop, and what becomes of them when the process can
 * hold no more. */
#ifndef BROKER_ACCEPTOR_H
#define BROKER_ACCEPTOR_H

#include <stdbool.h>
#include <uv.h>

#include "base/compiler.h"

#define ACCEPTS_PER_TURN 16 /* between two turns those already accepted are served */

struct acceptor {
    uv_poll_t poll;   /* on fd; open from start to stop */
    uv_timer_t pause; /* runs while nothing can be accepted or shed */
    bool open, held;
    int fd;    /* owned: listening; -1: none */
    int spare; /* owned: given up to take a connection that must be closed; -1: none */
    void (*take)(void *user, int fd);
    void *user; /* borrowed */
};

/**
 * acceptor_start() - hand on each connection of a listening socket
 * @fd:   taken over, also on failure
 * @take: gets each connection and owns it
 *
 * Return: 0 or a negative errno; acceptor_stop() in either case.
 */
MUST_USE int acceptor_start(struct acceptor *a, uv_loop_t *loop, int fd,
                            void (*take)(void *user, int fd), void *user);

/** acceptor_hold() - accept nothing until told otherwise: who connects waits in the backlog.
 * Harmless on a stopped one. */
void acceptor_hold(struct acceptor *a, bool hold);

/** acceptor_stop() - no more; idempotent, and harmless on a zeroed one. Its handles close. */
void acceptor_stop(struct acceptor *a);

#endif
