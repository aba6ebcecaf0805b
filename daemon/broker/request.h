/* What a client has asked for and not been answered yet. Each ends with exactly one terminal frame,
 * or with its connection. */
#ifndef BROKER_REQUEST_H
#define BROKER_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/list.h"
#include "daemon/broker/answer.h"
#include "daemon/broker/config.h"
#include "daemon/broker/gate.h"
#include "daemon/broker/queue.h"
#include "ipc/error.h"
#include "ipc/message.h"

struct broker;
struct conn;
struct answer_reuse;
struct model;
struct session_turn;

enum request_kind { REQUEST_GENERATE, REQUEST_LOAD, REQUEST_LIST };

struct request {
    struct job job; /* of a generate; in the broker's queue */
    enum request_kind kind;
    struct broker *broker;               /* borrowed */
    struct conn *conn;                   /* borrowed; outlives its requests */
    struct list conn_link;               /* in the connection's requests */
    struct list scan_link;               /* in the broker's scan_waiters or scan_late */
    struct list model_link;              /* in the model's users, once it has one */
    uint32_t id;                         /* the client's */
    struct model *model;                 /* borrowed while in model_link */
    char name[MODEL_NAME_MAX + 1];       /* of the model asked for; empty: the default */
    char quantization[MSG_NAME_MAX + 1]; /* expected; empty: any */
    uint8_t *body;                       /* owned: the generate frame's body as received */
    size_t n_body;
    uint64_t seed;
    bool no_cache; /* neither finds nor leaves KV blocks or answers */
    uint32_t n_logprobs;
    struct answer answer;
    struct session_turn *turn;  /* owned; NULL: no session */
    struct answer_reuse *reuse; /* owned; NULL: its answer is not kept */
    bool kept;                  /* it got an answer that was kept: the engine had no part in it */
    uint64_t arrived_ns, started_ns, first_ns; /* 0: not yet */
    uint64_t last_ns;                          /* of the latest new token; 0: none yet */
    uint64_t progress_ns;                      /* when the client last heard of its prompt */
    uint64_t deadline_ns;                      /* to the first token; UINT64_MAX: none */
    uint32_t prompt_tokens, cached_tokens;
    uint32_t n_trimmed; /* messages that the engine left out */
    uint32_t restarts;
    uint32_t max_tokens;     /* of the answer, as asked for or as configured */
    struct ticket ticket;    /* of a generate: at the gate */
    size_t ledger_bytes;     /* charged to its identity */
    bool probe, fault;       /* it tries a model that rested; it ended by its model's fault */
    enum error_code outcome; /* how it ended; ERR_NONE: answered */
};

/** request_new() - in the connection's list, nowhere else; NULL: no memory */
struct request *request_new(struct conn *c, uint32_t id, enum request_kind kind);

/** request_find() - by the client's id on one connection, or NULL */
struct request *request_find(struct conn *c, uint32_t id);

/** request_fail() - the terminal frame `error`, then it is gone */
void request_fail(struct request *r, enum error_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
void request_fail_as(struct request *r, const struct msg_error *e);

/** request_done() - the terminal frames in `out`, then it is gone. Takes the bytes. */
void request_done(struct request *r, struct buf *out);

/** request_drop() - gone without a word: its connection is closing */
void request_drop(struct request *r);

/** request_attach() - it waits for this model from now on; *m takes it as a user */
void request_attach(struct request *r, struct model *m);

/** request_progress() - tell the client, unless it does not read */
void request_progress(struct request *r, enum progress_phase phase, uint64_t done, uint64_t total);

/** request_waits() - likewise, and why: "memory", "heat" */
void request_waits(struct request *r, enum progress_phase phase, const char *reason);

#endif
