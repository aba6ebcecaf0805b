/* The inside of a connection, shared by the files of libonebit.
 *
 * A connection outlives its socket. When a socket is lost, or the daemon refuses, the requests that
 * may be sent again wait with their packed frames until they are due; a new socket is made for the
 * first that is. One epoll descriptor, which never changes, stands for everything that can wake
 * us. */
#ifndef CLIENT_CONN_H
#define CLIENT_CONN_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/list.h"
#include "client/onebit.h"
#include "ipc/frame.h"
#include "ipc/message.h"

#define NEVER_NS UINT64_MAX

/* Where time, chance and waiting come from. Tests give their own. */
struct client_env {
    uint64_t (*now_ns)(void *arg); /* monotonic */
    uint32_t (*random)(void *arg); /* uniform in 0 .. 2^32-1 */
    int (*wait)(void *arg, struct pollfd *fds, size_t n, int timeout_ms); /* as poll(), errno too */
    void *arg;
};
extern const struct client_env client_env_real;

/* A blocking function that waits for one request; lives on its stack. */
struct waiter {
    bool ended;
    int outcome;  /* 0, or the failure's code */
    char *result; /* owned: a copy of done.result, when `wants_result` */
    bool wants_result;
};

/* A request that has not ended. */
struct pending {
    struct list link;
    uint32_t id;
    struct onebit_handler
        handler;           /* a copy; callbacks the caller's struct does not have are NULL */
    void *user;            /* borrowed: the application's */
    struct waiter *waiter; /* borrowed, or NULL */
    bool cancelled;        /* a cancel has been queued, or needs none */
    bool wants_text;       /* the result is a string, and told as it is */
    bool repeatable;       /* sent twice it does no harm */
    bool starts_at_once;   /* its deadline was 0: met when the daemon accepts it */
    bool waits;            /* it is not with the daemon: to be sent at due_ns */
    bool hit;              /* scratch of one loss: it was concerned */
    bool push_back_ends;   /* a 429 or 503 is its user's to act on */
    struct buf frame;      /* owned: as packed, while it may have to be sent; else empty */
    struct buf held;       /* owned: deltas that are not told yet; its ceiling is hold_bytes */
    bool holds;            /* they are held back */
    bool once;             /* it changes something: not again once it was begun to be answered */
    uint32_t retries;      /* times it was put off until now */
    uint64_t due_ns;
    uint64_t first_by_ns; /* the first token must come before; NEVER_NS: no deadline, or met */
    uint64_t give_up_ns;  /* ends here, whatever the daemon says, as give_up_code; or NEVER_NS */
    int give_up_code;
};

struct onebit_conn {
    const struct client_env *env; /* borrowed */
    int fd;                       /* owned: the socket; -1: there is none now */
    int epoll_fd;                 /* owned: the socket, the timer and the canceller */
    int timer_fd;                 /* owned: -1 until something is to be done later */
    uint32_t epoll_out;           /* EPOLLOUT when the socket is watched for that, else 0 */
    uint64_t timer_ns;            /* what the timer is set to; NEVER_NS: off */
    int failed;                   /* not 0: the connection is over for good, and why */
    int lost;        /* not 0: this socket is over, and why; it is closed before dispatch returns */
    bool connecting; /* a socket is wanted or greeted, until the daemon's hello */
    bool greeted;
    bool dispatching; /* callbacks may be running */
    bool deaf;        /* the daemon reads no more; what it still wrote can be read */
    bool watched;     /* the canceller is in epoll_fd */
    bool trip_seen;   /* it was tripped, and what it had to cancel has been cancelled */
    uint32_t last_id;
    uint64_t connect_at_ns, connect_by_ns; /* while connecting */
    struct frame_reader reader;
    struct buf out;  /* frames not yet sent */
    struct buf text; /* scratch of one message: its strings with their NULs */
    int32_t *ids;    /* scratch, owned */
    size_t ids_room;
    struct onebit_token_logprobs *tokens; /* scratch, owned */
    size_t tokens_room;
    struct onebit_logprob *logprobs; /* scratch, owned */
    size_t logprobs_room;
    struct list requests; /* of struct pending, owned */
    size_t n_requests;
    size_t kept_bytes; /* in the frames of all requests */
    struct onebit_retry retry;
    uint32_t connect_ms;
    struct onebit_canceller *canceller; /* borrowed, or NULL */
    char path[ONEBIT_SOCKET_PATH_MAX];
    char why[256];               /* one line about `failed` or `lost` */
    struct onebit_server server; /* its strings are in the two arrays */
    char server_name[MSG_NAME_MAX + 1];
    char default_model[MSG_NAME_MAX + 1];
};

/* Requests in flight that we keep track of, whatever the daemon would allow; cancels have room of
 * their own beside it, one for each. */
#define REQUESTS_MAX 1024u

/* Bytes queued and unsent: two of the largest frames. */
#define OUT_BYTES_MAX (2 * (size_t)(FRAME_HEADER + FRAME_BODY_MAX))

/* Bytes of frames kept for sending again, over all requests of a connection. */
#define KEPT_BYTES_MAX ((size_t)32 << 20)

/* How long a request that is past its deadline, or cancelled by a canceller, waits for the daemon
 * to say so itself. */
#define GRACE_NS (NS_PER_S)

/* ---- pending.c: requests, from queued to ended ---- */

/** pending_add() - remember a request that is about to be queued: 0 or -ENOMEM */
MUST_USE int pending_add(struct onebit_conn *conn, const struct onebit_handler *handler, void *user,
                         struct waiter *waiter, struct pending **ret);
void pending_drop(struct onebit_conn *conn, struct pending *p);      /* unlink and free */
struct pending *pending_find(struct onebit_conn *conn, uint32_t id); /* NULL: none */
uint32_t next_id(struct onebit_conn *conn);                          /* one that is not in use */

/**
 * pending_packed() - p's frame was packed behind `mark` of conn->out, with outcome r
 *
 * Undoes a frame that cannot be sent. Without a socket, and when it may have to be sent again, the
 * frame is kept with p. Return: 0, -ENOMEM, -E2BIG (larger than the daemon accepts), or -EAGAIN (it
 * may fit once more has been sent). On a failure p is still there.
 */
MUST_USE int pending_packed(struct onebit_conn *conn, struct pending *p, size_t mark, int r);

/** pending_set_deadline() - before it is packed: the first token must come in that time */
void pending_set_deadline(struct onebit_conn *conn, struct pending *p, uint32_t deadline_ms);

/** pending_started() - its first token came: it has met its deadline, and unless its answer is held
 * back it is never sent again */
void pending_started(struct onebit_conn *conn, struct pending *p);

/** pending_failed() - put p off to be sent again, or end it with this failure
 * @lost: the failure is the connection's */
void pending_failed(struct onebit_conn *conn, struct pending *p, struct onebit_failure *failure,
                    bool lost);

/** pending_lost() - conn->lost happened to what the daemon had, and to what waited for a
 * connection */
void pending_lost(struct onebit_conn *conn);

/** pending_run() - end what is to be given up, send what is due
 * @ret_ended: set when something ended */
MUST_USE int pending_run(struct onebit_conn *conn, bool *ret_ended);

/** pending_due_ns() - when pending_run() will have something to do; NEVER_NS */
uint64_t pending_due_ns(const struct onebit_conn *conn);

/** pending_cancel() - ask the daemon, or end at the next dispatch what it does not have */
int pending_cancel(struct onebit_conn *conn, struct pending *p);
/** pending_cancel_soon() - and end it here when the daemon has not in GRACE_NS */
void pending_cancel_soon(struct onebit_conn *conn, struct pending *p);

/* ---- retry.c: the policy, pure ---- */

#define RETRY_NEVER UINT64_MAX

/** retry_defaults() - what onebit_retry_init() sets */
void retry_defaults(struct onebit_retry *ret);

/** retry_pushed_back() - is the failure the daemon's wish for less: 429 or 503? */
bool retry_pushed_back(const struct onebit_failure *failure);

/** retry_lost() - may a connection that ended with `code` be made again? */
bool retry_lost(const struct onebit_retry *policy, int code);

/**
 * retry_delay_ms() - how long to wait before sending a request again
 * @failure: how it failed; @lost: with its connection
 * @retries: how often it was sent again until now
 * @random:  uniform in 0 .. 2^32-1
 *
 * Uniform in 0 .. min(first_ms 2^retries, most_ms), and at least failure->retry_after_ms.
 * RETRY_NEVER: not at all.
 */
uint64_t retry_delay_ms(const struct onebit_retry *policy, const struct onebit_failure *failure,
                        bool lost, uint32_t retries, uint32_t random);

/* ---- connect.c ---- */

/** conn_new() - a connection without a socket */
MUST_USE int conn_new(struct onebit_conn **ret, const struct client_env *env);
/** conn_free() - with all its requests; no callback is run */
void conn_free(struct onebit_conn *conn);
/** conn_adopt() - take over a connected socket, also when it fails */
MUST_USE int conn_adopt(struct onebit_conn *conn, int fd);
/** conn_open() - onebit_connect_with(), with another world */
MUST_USE int conn_open(struct onebit_conn **ret, const struct onebit_options *options,
                       const struct client_env *env);
/** conn_begin() - want a socket; dispatching makes it */
void conn_begin(struct onebit_conn *conn);
/** conn_try() - make the socket that is wanted, or try later; what cannot be mended goes to
 * conn_fail() */
MUST_USE int conn_try(struct onebit_conn *conn);
/** struct_known() - a caller's sized struct as this library knows it; members it lacks stay as *ret
 * has them. 0, -EINVAL without a size, ONEBIT_ERR_UNSUPPORTED when a member past ours is set. */
MUST_USE int struct_known(void *ret, size_t n, const void *from);

/* ---- conn.c ---- */

/** conn_fail() - this socket is over: remember why; requests wait for another one, or end */
void conn_fail(struct onebit_conn *conn, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/** conn_arm() - have epoll_fd wake for what we now wait for. 0 or a negative errno */
int conn_arm(struct onebit_conn *conn);

/** conn_wait() - dispatch until w has ended; returns its outcome */
MUST_USE int conn_wait(struct onebit_conn *conn, struct waiter *w);

static inline uint64_t conn_now_ns(const struct onebit_conn *conn)
{
    return conn->env->now_ns(conn->env->arg);
}

/** conn_ms_until() - how long poll() may wait for a time: -1 for NEVER_NS, 0 once it is due */
int conn_ms_until(const struct onebit_conn *conn, uint64_t due_ns);

/* ---- canceller.c ---- */

bool canceller_tripped(const struct onebit_canceller *c); /* NULL: no */
int canceller_fd(const struct onebit_canceller *c);
/** canceller_settle() - a wake that raced with a reset is taken back */
void canceller_settle(struct onebit_canceller *c);

/* ---- deliver.c ---- */

/** deliver() - one message from the daemon to the callbacks it concerns. @body: (body_n) the frame
 * that it was read from
 * Return: 0, -ENOMEM, or -EPROTO after conn->why has been set */
MUST_USE int deliver(struct onebit_conn *conn, const struct message *m, const uint8_t *body,
                     size_t body_n);

/** failure_describe() - name, number, hint and all that the table of errors says of its code, where
 * it knows it */
void failure_describe(struct onebit_failure *failure);

/** end_with_failure() - the last callback of p, which is gone afterwards */
void end_with_failure(struct onebit_conn *conn, struct pending *p,
                      const struct onebit_failure *failure);

#endif
