/* The inside of a connection, shared by the files of libonebit. */
#ifndef CLIENT_CONN_H
#define CLIENT_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "client/onebit.h"
#include "ipc/frame.h"
#include "ipc/message.h"

/* A blocking function that waits for one request; lives on its stack. */
struct waiter {
    bool ended;
    int outcome;  /* 0, or the failure's code */
    char *result; /* owned: a copy of done.result, when `wants_result` */
    bool wants_result;
};

/* A request in flight. */
struct pending {
    struct list link;
    uint32_t id;
    struct onebit_handler
        handler;           /* a copy; callbacks the caller's struct does not have are NULL */
    void *user;            /* borrowed: the application's */
    struct waiter *waiter; /* borrowed, or NULL */
    bool cancelled;        /* a cancel has been queued */
    bool wants_text;       /* the result is a string, and told as it is */
};

struct onebit_conn {
    int fd;     /* owned */
    int failed; /* not 0: the connection is over, and why */
    bool greeted;
    bool dispatching; /* callbacks may be running */
    bool deaf;        /* the daemon reads no more; what it still wrote can be read */
    uint32_t last_id;
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
    char why[256]; /* one line about `failed`, where there is more to say than its number */
    struct onebit_server server; /* its strings are in the two arrays */
    char server_name[MSG_NAME_MAX + 1];
    char default_model[MSG_NAME_MAX + 1];
};

/* Requests in flight that we keep track of, whatever the daemon would allow; cancels have room of
 * their own beside it, one for each. */
#define REQUESTS_MAX 1024u

/* Bytes queued and unsent: two of the largest frames. */
#define OUT_BYTES_MAX (2 * (size_t)(FRAME_HEADER + FRAME_BODY_MAX))

/** pending_add() - remember a request that is about to be queued: 0, -EAGAIN or -ENOMEM */
MUST_USE int pending_add(struct onebit_conn *conn, const struct onebit_handler *handler, void *user,
                         struct waiter *waiter, struct pending **ret);
void pending_drop(struct onebit_conn *conn, struct pending *p);      /* unlink and free */
struct pending *pending_find(struct onebit_conn *conn, uint32_t id); /* NULL: none */

/**
 * conn_queued() - what becomes of a message_put_*() that returned r and began at `mark` in conn->out
 *
 * Undoes a frame that cannot be sent. Return: 0, -ENOMEM, -E2BIG (larger than the daemon accepts), or
 * -EAGAIN (it may fit once more has been sent).
 */
MUST_USE int conn_queued(struct onebit_conn *conn, size_t mark, int r);

/** conn_fail() - the connection is over: remember why, close nothing, end every request */
void conn_fail(struct onebit_conn *conn, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/** conn_wait() - dispatch until w has ended; returns its outcome */
MUST_USE int conn_wait(struct onebit_conn *conn, struct waiter *w);

/** deliver() - one message from the daemon to the callbacks it concerns. @body_n: bytes of the frame
 * Return: 0, -ENOMEM, or -EPROTO after conn->why has been set */
MUST_USE int deliver(struct onebit_conn *conn, const struct message *m, size_t body_n);

/** deliver_lost() - end every request with conn->failed */
void deliver_lost(struct onebit_conn *conn);

#endif
