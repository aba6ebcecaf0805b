/* The messages between a client and the daemon. PROTOCOL.md is the contract; this is its code.
 *
 * Reading: message_read() checks a frame's body whole and fills a struct whose views borrow from
 * that body. Packing: message_put_*() append one complete frame to a buffer. Unknown keys are
 * ignored, so that a newer peer can say more; unknown types are an outcome of their own. */
#ifndef IPC_MESSAGE_H
#define IPC_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/cursor.h"
#include "base/diag.h"
#include "base/strview.h"
#include "ipc/error.h"

#define PROTOCOL_MAJOR 1u
#define PROTOCOL_MINOR 1u

#define MSG_NAME_MAX 255u     /* bytes: model, client, class names */
#define MSG_MESSAGES_MAX 256u /* chat messages in one request */
#define MSG_STOPS_MAX 16u
#define MSG_STOP_BYTES_MAX 256u
#define MSG_FEATURES_MAX 32u
#define MSG_LOGPROBS_MAX 20u
#define MSG_LOGPROBS_ROW_MAX 21u /* the chosen token and the alternatives */
#define MSG_SESSION_MAX 64u      /* bytes of a session's name */
#define MSG_REASON_MAX 32u       /* bytes: why somebody waits, a word */
#define MSG_TOKENS_MAX 1048576u  /* ids in a request; max_tokens; positions of a context */
#define MSG_TEMPERATURE_MAX 10   /* of a request, and of a model by configuration */

enum message_type {
    MSG_HELLO,    /* both ways; the first frame of each side */
    MSG_GENERATE, /* client: */
    MSG_CANCEL,
    MSG_LIST,
    MSG_PS,
    MSG_STATUS,
    MSG_LOAD,
    MSG_UNLOAD,
    MSG_METRICS,
    MSG_SESSIONS,
    MSG_SESSION,
    MSG_SESSION_DROP,
    MSG_ACCEPTED, /* server: */
    MSG_PROGRESS,
    MSG_DELTA,
    MSG_DONE,
    MSG_ERROR,
    MSG_TYPES,
};

enum request_class { CLASS_LOW = 0, CLASS_NORMAL, CLASS_HIGH, CLASSES };
const char *request_class_name(enum request_class c);
MUST_USE bool request_class_parse(struct strview name, enum request_class *ret);

/* A run of integers inside a frame, checked when the frame was read: each is in 0..2^31-1. */
struct msg_ids {
    struct cursor at; /* borrowed: positioned on the first element */
    uint32_t n;
};
/** msg_ids_copy() - write all n ids to ret (room for ids->n) */
void msg_ids_copy(const struct msg_ids *ids, int32_t *ret);

struct msg_hello {
    uint32_t major, minor;
    struct strview name; /* client: its name for logs; server: "onebitd VERSION" */
    struct strview features[MSG_FEATURES_MAX]; /* offered */
    size_t n_features;
    struct strview required[MSG_FEATURES_MAX]; /* client only: refuse me if you lack one */
    size_t n_required;
    /* server only: */
    uint32_t frame_bytes_max;     /* body bytes it accepts */
    uint32_t requests_max;        /* in flight on one connection */
    uint32_t uid, gid, pid;       /* the client, as the server sees it */
    struct strview default_model; /* empty: none */
};

struct msg_chat_message {
    struct strview role, content;
};

struct msg_generate {
    struct strview model;                               /* empty: the default model */
    enum { PROMPT_TEXT, PROMPT_CHAT, PROMPT_IDS } kind; /* exactly one of prompt, messages, ids */
    struct strview prompt; /* plain completion: control tokens are not recognised */
    struct msg_chat_message messages[MSG_MESSAGES_MAX];
    size_t n_messages;
    struct msg_ids ids;
    struct strview chat_template; /* override, by name; empty: the model's own */
    bool no_thinking;
    struct strview quantization; /* expected; empty: any */
    enum request_class class_;   /* default normal */
    uint32_t max_tokens;         /* 0: the default */
    bool ignore_eos;
    bool has_temperature, has_top_k, has_top_p, has_min_p, has_repeat_penalty, has_seed;
    float temperature, top_p, min_p, repeat_penalty;
    int32_t top_k;
    uint64_t seed;
    struct strview stops[MSG_STOPS_MAX];
    size_t n_stops;
    uint32_t n_logprobs; /* 0: none; else that many alternatives a token (1..20) */
    bool has_deadline;
    uint32_t deadline_ms; /* to the first token, from receipt; 0 means at once */
    bool has_session;
    struct strview session; /* go on in this conversation; empty: begin one */
    bool trim;              /* leave out the session's oldest turns where it does not fit */
    bool no_cache;          /* neither use nor keep prefixes and answers */
};

struct msg_cancel {
    uint32_t target; /* request id on this connection, or 0 with `global` */
    uint64_t global; /* the daemon's own request number, for another connection's; 0: none */
};

struct msg_model { /* load, unload */
    struct strview model;
};

struct msg_session { /* session, session_drop */
    struct strview session;
};

/** session_name_valid() - 1 to MSG_SESSION_MAX of letters, digits, '.', '_', '-'; no leading dot */
MUST_USE bool session_name_valid(struct strview name);

struct msg_accepted {
    uint64_t global;      /* the daemon's number of the request: logs, ps, cancel from elsewhere */
    uint32_t position;    /* requests ahead in the queue; 0: starts now */
    struct strview model; /* the model that will answer */
    struct strview session; /* its session's name; empty: none */
};

enum progress_phase {
    PHASE_QUEUED = 0,
    PHASE_LOADING,
    PHASE_PREFILL,
    PHASE_RESTARTING,
    PHASE_PAUSED,
    PHASES
};
const char *progress_phase_name(enum progress_phase p);

struct msg_progress {
    enum progress_phase phase;
    uint64_t done, total;  /* tokens in prefill; bytes or 0 elsewhere */
    struct strview reason; /* paused, queued: what the machine is short of, or empty */
};

struct msg_logprob {
    int32_t id;
    float logprob;
};

struct msg_delta {
    uint32_t n0;            /* index of the first id among the answer's tokens */
    struct msg_ids ids;     /* tokens of this delta; their text may come later (held back) */
    struct strview text;    /* valid UTF-8; may be empty */
    struct cursor logprobs; /* a row for each id, the chosen token first: msg_logprobs_next() */
    uint32_t n_logprobs;    /* rows: 0 or ids.n */
};

/** msg_logprobs_next() - read the next id's row of a frame that was read, and step `at` over it
 * @ret: room for MSG_LOGPROBS_ROW_MAX
 * Return: how many it has; all rows of a frame have as many */
uint32_t msg_logprobs_next(struct cursor *at, struct msg_logprob *ret);

struct msg_done {
    struct strview finish_reason; /* "stop" (end token), "stop_string", "length" */
    uint32_t prompt_tokens, cached_tokens, answer_tokens;
    uint64_t seed;
    uint64_t queue_us, prefill_us, decode_us; /* times as the daemon saw them */
    uint32_t restarts;                        /* engine deaths this request lived through */
    struct strview model, formats, quantization, kv, cpu; /* "Q1_0+Q8_0", "binary", "f16", "avx2" */
    uint32_t trimmed;   /* messages of the session that were left out */
    bool cached_answer; /* kept from an earlier, equal request */
};

struct msg_error {
    enum error_code code;
    struct strview message;    /* one line */
    uint32_t retry_after_ms;   /* 0: not said */
    struct strview name, hint; /* filled from the frame; a newer server may know names we do not */
    uint16_t number;
    bool retryable;
    uint64_t have, limit; /* both counts where the error is about two numbers (413, 507) */
};

struct message {
    enum message_type type;
    uint32_t id; /* chosen by the client, 1..2^32-1; 0 in hello and errors of the connection */
    union {
        struct msg_hello hello;
        struct msg_generate generate;
        struct msg_cancel cancel;
        struct msg_model load, unload;
        struct msg_session session, session_drop;
        struct msg_accepted accepted;
        struct msg_progress progress;
        struct msg_delta delta;
        struct msg_done done; /* of a generate, load, unload or cancel */
        struct msg_error error;
    };
    struct strview result; /* `done` of the queries and of session: the msgpack value, else empty */
};

enum { MESSAGE_OK = 0, MESSAGE_MALFORMED, MESSAGE_BAD_FIELD, MESSAGE_UNKNOWN };

/**
 * message_read() - check one frame's body and read it
 * @body: n bytes; @ret's views borrow from it
 *
 * MESSAGE_MALFORMED: no sound map, or no type: the peer does not speak this protocol.
 * MESSAGE_BAD_FIELD: a field is missing, ill-typed or out of bounds; ret->id is set when it could
 * be read, diag names the field. MESSAGE_UNKNOWN: a type this version does not know; ret->id as
 * above.
 */
MUST_USE int message_read(struct message *ret, const uint8_t *body, size_t n,
                          struct diag *ret_diag);

/* Each appends one frame: 0, -ENOMEM, or -E2BIG when it would not fit a frame or the buffer. */
MUST_USE int message_put_hello(struct buf *out, const struct msg_hello *m, bool server);
MUST_USE int message_put_generate(struct buf *out, uint32_t id, const struct msg_generate *m,
                                  const int32_t *ids, size_t n_ids);
MUST_USE int message_put_cancel(struct buf *out, uint32_t id, const struct msg_cancel *m);
MUST_USE int message_put_query(struct buf *out, uint32_t id,
                               enum message_type type); /* list, ps, status, metrics, sessions */
MUST_USE int message_put_model(struct buf *out, uint32_t id, enum message_type type,
                               struct strview model); /* load, unload */
MUST_USE int message_put_session(struct buf *out, uint32_t id, enum message_type type,
                                 struct strview session); /* session, session_drop */
MUST_USE int message_put_accepted(struct buf *out, uint32_t id, const struct msg_accepted *m);
MUST_USE int message_put_progress(struct buf *out, uint32_t id, const struct msg_progress *m);
/** @ids, @n_ids replace m->ids; @logprobs: n_ids x n_alternatives, or NULL */
MUST_USE int message_put_delta(struct buf *out, uint32_t id, const struct msg_delta *m,
                               const int32_t *ids, size_t n_ids, const struct msg_logprob *logprobs,
                               size_t n_alternatives);
/** of a generate; with @m NULL or without a finish_reason: of a load, an unload or a cancel, and
 * the id alone */
MUST_USE int message_put_done(struct buf *out, uint32_t id, const struct msg_done *m);
/** the answer to list, ps, status, metrics, sessions and session: @result is one complete msgpack
 * value, at most FRAME_BODY_MAX - 64 bytes */
MUST_USE int message_put_result(struct buf *out, uint32_t id, struct strview result);
/** name, number, retryable and hint come from the table; m->code, message, retry_after_ms, have,
 * limit count */
MUST_USE int message_put_error(struct buf *out, uint32_t id, const struct msg_error *m);

#endif
