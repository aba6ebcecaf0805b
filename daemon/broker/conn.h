/* One client: its socket, its identity, its time limits and what it has asked for. */
#ifndef BROKER_CONN_H
#define BROKER_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/buf.h"
#include "base/list.h"
#include "daemon/broker/conn_memory.h"
#include "daemon/broker/peer.h"
#include "daemon/broker/policy.h"
#include "ipc/error.h"
#include "ipc/frame.h"
#include "ipc/message.h"

struct broker;
struct identity;

struct conn {
    uv_pipe_t pipe;        /* .data is this conn */
    uv_timer_t timer;      /* the nearest of its time limits */
    unsigned n_open;       /* handles libuv still holds; freed when it drops to 0 */
    struct broker *broker; /* borrowed; outlives every conn */
    struct list link;      /* in the broker's conns */
    struct list requests;  /* owned: struct request */
    size_t n_requests;
    struct peer peer;
    struct identity
        *identity;      /* borrowed from the broker's table, which counts us; NULL: refused */
    struct grant grant; /* what the policy says about the peer */
    char client[64];    /* its name, from its hello */
    struct frame_reader in;
    bool said_hello;
    bool finishing; /* no more input; closed as soon as the output is written */
    bool closing;
    bool doomed;  /* closed on the next turn of the loop: its output passed a limit */
    bool blocked; /* its output is over the soft limit: its streams pause */
    uint64_t accepted_ns, active_ns;
    uint64_t partial_ns;      /* first byte of the unfinished frame; 0: none */
    uint64_t queued, written; /* bytes given to send; bytes known to be written */
    uint64_t stall_ns;        /* when `written` last changed, or output began to wait */
    uint64_t held[MEMORIES];  /* bytes: conn_charge() */
};

/** conn_accept() - a connected socket becomes a conn, or is closed. @fd: taken over */
void conn_accept(struct broker *b, int fd);

/** conn_send() - queue one or more frames; takes the bytes of `out`, which is empty afterwards.
 * Never closes at once: a conn past its hard limit goes on the next turn of the loop. */
void conn_send(struct conn *c, struct buf *out);

/** conn_error() - an error frame; @id 0: about the connection */
void conn_error(struct conn *c, uint32_t id, const struct msg_error *e);

/** conn_refuse() - an error about the connection, then close once it is written */
void conn_refuse(struct conn *c, enum error_code code, const char *text);

/** conn_finish() - close once the output is written */
void conn_finish(struct conn *c);

/** conn_grant() - what has been waited for since before_ns may take so much longer */
void conn_spare(struct conn *c, uint64_t before_ns, uint64_t more_ns);

/** conn_close() - now; idempotent. Its requests are cancelled; the memory goes with the handles. */
void conn_close(struct conn *c);

/** conn_who() - the peer as the policy looks at it; borrows from the conn */
static inline struct policy_peer conn_who(const struct conn *c)
{
    return (struct policy_peer){
        .uid = c->peer.uid, .gids = c->peer.gids, .n_gids = c->peer.n_gids, .unit = c->peer.unit};
}

/** conn_grant() - the policy is new or has changed: what does it say about this peer? */
void conn_grant(struct conn *c);

/** conn_touch() - a request ended or began: the idle limit counts from here */
void conn_touch(struct conn *c);

#endif
