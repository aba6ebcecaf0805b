/* libonebit: ask the language models that onebitd keeps resident on this machine.
 *
 * Include this header; it needs no other, and brings onebit_batch.h and onebit_canceller.h, which
 * lie beside it. Link with `pkg-config --libs onebit`.
 *
 * A connection carries any number of requests at once, up to what the daemon allows. It can be used
 * in two ways, which mix freely:
 *  - blocking: onebit_run(), onebit_list(), ... return when the answer is complete;
 *  - from an event loop: onebit_generate() and onebit_ask() only queue; poll onebit_get_fd() for
 *    reading and call onebit_dispatch(conn, 0), which runs the callbacks.
 * It outlives its socket: what may be sent again is, over a new one; see struct onebit_retry.
 *
 * Errors. A function that can fail returns int: 0 is success; a negative number is an errno (the
 * system or the connection failed); a positive number is an enum onebit_error (the daemon refused
 * or failed the request), explained by onebit_error_info().
 *
 * Threads. A connection belongs to one thread at a time; different connections are independent.
 * From any thread, and from signal handlers: onebit_canceller_trip() and
 * onebit_canceller_tripped(). From any thread: onebit_error_info(), onebit_error_by_name(),
 * onebit_version(), onebit_socket_path(). The library installs no signal handler, raises no
 * SIGPIPE, writes no log and never exits.
 *
 * Callbacks run inside onebit_dispatch() and the blocking functions. Everything a callback is given
 * (structs, strings, arrays) is valid until it returns; copy what you keep. Strings end with a NUL
 * and are valid UTF-8. A callback may call onebit_generate(), onebit_ask(), onebit_cancel() and
 * onebit_cancel_request(); onebit_dispatch() and the blocking functions answer -EBUSY there, and
 * onebit_disconnect() does nothing.
 *
 * Growth. Structs that you fill begin with `size`; the init functions set it, so a program built
 * against an older header keeps working. Structs only grow at their end, never into their
 * padding. */
#ifndef ONEBIT_H
#define ONEBIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ONEBIT_API __attribute__((visibility("default")))
#define ONEBIT_CHECKED ONEBIT_API __attribute__((warn_unused_result)) /* its int says how it went */
#else
#define ONEBIT_API
#define ONEBIT_CHECKED
#endif

/* Why the daemon refused or failed a request. Numbers and names never change their meaning. */
enum onebit_error {
    ONEBIT_OK = 0,
    ONEBIT_ERR_BAD_REQUEST = 1,
    ONEBIT_ERR_BAD_FRAME = 2,
    ONEBIT_ERR_BAD_PROTOCOL = 3,
    ONEBIT_ERR_UNKNOWN_QUANTIZATION = 4,
    ONEBIT_ERR_UNSUPPORTED = 5,
    ONEBIT_ERR_UNKNOWN_PEER = 6,
    ONEBIT_ERR_FORBIDDEN = 7,
    ONEBIT_ERR_NO_MODEL = 8,
    ONEBIT_ERR_NO_REQUEST = 9,
    ONEBIT_ERR_QUANTIZATION_MISMATCH = 10,
    ONEBIT_ERR_DUPLICATE_ID = 11,
    ONEBIT_ERR_MODEL_BUSY = 12,
    ONEBIT_ERR_NO_TEMPLATE = 13,
    ONEBIT_ERR_CONTEXT_TOO_LONG = 14,
    ONEBIT_ERR_FRAME_TOO_LONG = 15,
    ONEBIT_ERR_QUEUE_FULL = 16,
    ONEBIT_ERR_RATE_LIMITED = 17,
    ONEBIT_ERR_TOO_MANY_CONNECTIONS = 18,
    ONEBIT_ERR_CANCELLED = 19,
    ONEBIT_ERR_INTERNAL = 20,
    ONEBIT_ERR_REQUEST_CRASHED = 21,
    ONEBIT_ERR_MODEL_MALFORMED = 22,
    ONEBIT_ERR_MODEL_UNSUPPORTED = 23,
    ONEBIT_ERR_NOT_FINITE = 24,
    ONEBIT_ERR_OVERLOADED = 25,
    ONEBIT_ERR_DRAINING = 26,
    ONEBIT_ERR_ENGINE_UNAVAILABLE = 27,
    ONEBIT_ERR_BREAKER_OPEN = 28,
    ONEBIT_ERR_DEADLINE = 29,
    ONEBIT_ERR_TIMEOUT = 30,
    ONEBIT_ERR_MODEL_TOO_BIG = 31,
    ONEBIT_ERR_NO_SESSION = 32,
    ONEBIT_ERR_SESSION_BUSY = 33,
    ONEBIT_ERR_SESSION_MISMATCH = 34,
    ONEBIT_ERR_SESSIONS_FULL = 35,
    ONEBIT_ERR_MODEL_CHANGED = 36,
    ONEBIT_ERR_CACHE_UNWRITABLE = 37,
    ONEBIT_ERR_EVICTED = 38
};

/* One row of the error table. */
struct onebit_error_info {
    enum onebit_error code;
    uint16_t number;     /* HTTP-like: 400, 404, 429, ... */
    bool retryable;      /* may the same request succeed later, unchanged? */
    uint8_t exit_code;   /* what the command `onebit` exits with */
    const char *name;    /* stable: "context_too_long" */
    const char *meaning; /* one sentence */
    const char *hint;    /* what to do about it */
};

/** onebit_error_info() - the row of a code; NULL when there is no such code. Static. */
ONEBIT_API const struct onebit_error_info *onebit_error_info(int code);

/** onebit_error_by_name() - the code of a stable name; ONEBIT_OK when there is no such name */
ONEBIT_API enum onebit_error onebit_error_by_name(const char *name);

/** onebit_version() - of the library, "0.1.0". Static. */
ONEBIT_API const char *onebit_version(void);

/* ---- the connection ------------------------------------------------------------------------ */

struct onebit_conn;      /* opaque */
struct onebit_canceller; /* opaque; see onebit_canceller.h */

#define ONEBIT_SOCKET_PATH_MAX 108 /* bytes of a socket's path, its NUL included */
/**
 * onebit_socket_path() - which socket onebit_connect() would use
 * @path: a path, or NULL: $ONEBIT_SOCKET, else $XDG_RUNTIME_DIR/onebit.sock when it exists, else
 *        /run/onebit.sock. A user's daemon without $XDG_RUNTIME_DIR has no default socket.
 * @ret:  room for ONEBIT_SOCKET_PATH_MAX bytes
 *
 * Return: 0, or -ENAMETOOLONG.
 */
ONEBIT_API int onebit_socket_path(const char *path, char *ret);

/* How often and when a request is sent again. It is, when the daemon refused or failed it with 429,
 * 500 or 503 and says that the same request may succeed later, or when the connection was lost;
 * never after its first token (but see hold_bytes of struct onebit_request), never past its
 * deadline, and never when sending it twice could do harm (ONEBIT_UNLOAD, ONEBIT_SESSION_DROP,
 * cancels). The n-th time comes after a random wait of 0 to first_ms 2^(n-1), at most most_ms; not
 * before the daemon's retry_after_ms, and not at all when that is past most_ms. */
struct onebit_retry {
    size_t size;
    uint32_t retries;     /* times; 0: none, and a lost connection stays lost */
    uint32_t retries_429; /* times, when the last failure was a 429 */
    uint32_t first_ms, most_ms;
};

/** onebit_retry_init() - the defaults; set a member to 0 to mean zero */
static inline void onebit_retry_init(struct onebit_retry *retry)
{
    memset(retry, 0, sizeof(*retry));
    retry->size = sizeof(*retry);
    retry->retries = 3;
    retry->retries_429 = 5;
    retry->first_ms = 1000;
    retry->most_ms = 60000;
}

/* How to connect. Start with onebit_options_init(). All but the canceller is borrowed for the
 * call. */
struct onebit_options {
    size_t size;
    const char *path;                   /* as for onebit_socket_path() */
    const struct onebit_retry *retry;   /* NULL: the defaults */
    struct onebit_canceller *canceller; /* as onebit_set_canceller(); NULL: none */
    uint32_t connect_ms;                /* from connecting to the daemon's greeting, each time */
};

static inline void onebit_options_init(struct onebit_options *options)
{
    memset(options, 0, sizeof(*options));
    options->size = sizeof(*options);
    options->connect_ms = 10000;
}

/**
 * onebit_connect() - connect to the daemon and greet it
 * @ret_conn: written only on success; end it with onebit_disconnect()
 * @path:     as for onebit_socket_path()
 *
 * Waits at most 10 seconds for the daemon's greeting, and tries once; a daemon that hangs up before
 * it is asked again, for less than a second in all.
 *
 * Return: 0; -ENOENT or -ECONNREFUSED (no daemon there), -EACCES (the socket is not for this user),
 * -ETIMEDOUT, -EPROTO (no daemon answers there), or another errno; or the daemon's refusal, such as
 * ONEBIT_ERR_BAD_PROTOCOL (versions that do not fit), ONEBIT_ERR_UNKNOWN_PEER.
 */
ONEBIT_CHECKED int onebit_connect(struct onebit_conn **ret_conn, const char *path);

/** onebit_connect_with() - onebit_connect() with all options; NULL: the defaults. Return: also
 * -ECANCELED (tripped), -EINVAL (no `size`), ONEBIT_ERR_UNSUPPORTED (an option not known here) */
ONEBIT_CHECKED int onebit_connect_with(struct onebit_conn **ret_conn,
                                       const struct onebit_options *options);

/**
 * onebit_reconnect() - make a connection again that is over, and wait for the greeting
 *
 * Only needed where retries are 0 or a loss was final: else the next request does it. Does nothing
 * when there is a connection. Return: as onebit_connect_with(); -EBUSY from a callback.
 */
ONEBIT_CHECKED int onebit_reconnect(struct onebit_conn *conn);

/** onebit_set_retry() - from now on; NULL: the defaults. 0, -EINVAL or ONEBIT_ERR_UNSUPPORTED */
ONEBIT_CHECKED int onebit_set_retry(struct onebit_conn *conn, const struct onebit_retry *retry);

/** onebit_disconnect() - close and free; the daemon cancels what was still running. No callback is
 * run any more. NULL is fine. */
ONEBIT_API void onebit_disconnect(struct onebit_conn *conn);

/* What the daemon said of itself and of us. */
struct onebit_server {
    const char *name;          /* "onebitd 0.1.0" */
    uint32_t major, minor;     /* of the protocol */
    uint32_t frame_bytes_max;  /* of one request, packed */
    uint32_t requests_max;     /* at once on this connection; 0: not said */
    uint32_t uid, gid, pid;    /* this process, as the daemon sees it */
    const char *default_model; /* "" when there is none */
};

/** onebit_server() - borrowed; valid until onebit_disconnect(). A new greeting rewrites it. */
ONEBIT_API const struct onebit_server *onebit_server(const struct onebit_conn *conn);

/** onebit_get_fd() - for poll() and its kin only; it stays the connection's, and stays the same
 * over reconnections. Readable when onebit_dispatch() has something to do, timers included. */
ONEBIT_API int onebit_get_fd(const struct onebit_conn *conn);

/** onebit_wants() - POLLIN, and POLLOUT while something is unsent. Polling onebit_get_fd() for
 * POLLIN is enough: it is readable then, too. */
ONEBIT_API short onebit_wants(const struct onebit_conn *conn);

/** onebit_timeout_ms() - how long onebit_dispatch() may be put off when its descriptor says
 * nothing: until a retry or a deadline is due; -1: for ever. A loop that polls the descriptor need
 * not ask. */
ONEBIT_API int onebit_timeout_ms(const struct onebit_conn *conn);

/**
 * onebit_dispatch() - send and read what is possible, connect again when due, and run callbacks
 * @timeout_ms: when nothing is possible yet, wait once: 0 not at all, -1 without end
 *
 * When the socket is lost, the requests that may be sent again wait for a new one; the others end
 * with their error callback first.
 *
 * Return: 0 (also when nothing came in time); -EINTR when a signal came, the connection is fine;
 * -EBUSY from a callback; -ENOTCONN when asked to wait without a socket or anything in flight: the
 * next request connects again. Everything else says that the connection is over, and why:
 * -ECONNRESET (the daemon went away, and retries are 0), -EPROTO (it sent what is no message), or a
 * positive enum onebit_error that the daemon closed it with. onebit_reconnect() can make it anew.
 */
ONEBIT_CHECKED int onebit_dispatch(struct onebit_conn *conn, int timeout_ms);

/* ---- a request ----------------------------------------------------------------------------- */

struct onebit_message {
    const char *role;    /* "system", "user", "assistant" */
    const char *content; /* UTF-8 */
};

enum onebit_class {
    ONEBIT_CLASS_NORMAL = 0,
    ONEBIT_CLASS_LOW = 1,
    ONEBIT_CLASS_HIGH = 2 /* the daemon's policy may refuse it */
};

/* Bits of onebit_request.has: fields where 0 is a value of its own. */
enum {
    ONEBIT_HAS_TEMPERATURE = 1 << 0,
    ONEBIT_HAS_TOP_K = 1 << 1,
    ONEBIT_HAS_TOP_P = 1 << 2,
    ONEBIT_HAS_MIN_P = 1 << 3,
    ONEBIT_HAS_REPEAT_PENALTY = 1 << 4,
    ONEBIT_HAS_SEED = 1 << 5,
    ONEBIT_HAS_DEADLINE = 1 << 6
};

/* What to generate. Start with onebit_request_init(), then set exactly one of messages, prompt and
 * ids. Everything is borrowed for the call only. */
struct onebit_request {
    size_t size;
    const char *model; /* NULL: the daemon's default */

    const struct onebit_message *messages; /* a chat, rendered by the model's own template */
    size_t n_messages;                     /* at most 256 */
    const char *prompt;                    /* plain completion: control tokens in it are text */
    size_t prompt_bytes;                   /* 0: prompt ends with a NUL */
    const int32_t *ids;                    /* token ids */
    size_t n_ids;

    const char *
        chat_template; /* by name ("chatml", ...); NULL: the configured one, else the model's own */
    const char *quantization; /* what the file must have ("binary", ...); NULL: any */
    const char *const *stops; /* strings that end the answer; not part of it */
    size_t n_stops;           /* at most 16 */
    enum onebit_class request_class;
    uint32_t max_tokens; /* 0: the daemon's default */
    uint32_t n_logprobs; /* alternatives told per token: 0 (none) to 20 */

    uint32_t has; /* ONEBIT_HAS_* bits: which of the following are set */
    float temperature, top_p, min_p, repeat_penalty;
    int32_t top_k;
    uint32_t deadline_ms; /* to the first token, all retries included; 0: now or not at all */
    uint64_t seed;

    bool no_thinking; /* templates that can: without the thinking part */
    bool ignore_eos;  /* go on to max_tokens */

    /* Go on in the conversation of this name, which the daemon keeps: `messages` has the new ones
     * alone. 1 to 64 letters, digits, '.', '_' and '-', no dot first. "": begin one, whose name
     * onebit_accepted tells. NULL: no session. */
    const char *session;
    bool trim; /* a session that does not fit the context any more: leave out its oldest turns */
    bool no_cache; /* compute everything anew, and keep nothing for later requests */
    /* Hold the answer's pieces back until it is complete, as long as they take no more bytes than
     * this: `delta` is then called for them just before `done`, and a connection that is lost in
     * the midst of the answer has the request sent again like one that is lost before it. An answer
     * that takes more comes as it does without. In a session what was begun is not sent again. */
    size_t hold_bytes;
};

static inline void onebit_request_init(struct onebit_request *request)
{
    memset(request, 0, sizeof(*request));
    request->size = sizeof(*request);
}

struct onebit_accepted {
    uint64_t request;    /* the daemon's number of it: in its log, in `onebit ps`, for cancelling */
    uint32_t position;   /* requests ahead in the queue; 0: it starts now */
    const char *model;   /* which one will answer */
    const char *session; /* its session's name; "": none */
};

struct onebit_progress {
    const char *phase;    /* "queued", "loading", "prefill", "restarting", "paused" */
    uint64_t done, total; /* prompt tokens in "prefill"; total 0: not known */
    const char *reason;   /* of "paused", "queued": "memory", "heat"; "": none but others' turn */
};

struct onebit_logprob {
    int32_t id;
    float logprob; /* natural logarithm */
};

struct onebit_token_logprobs {
    const struct onebit_logprob *alternatives; /* the chosen token first */
    size_t n;
};

/* A piece of the answer, in order. Text may come later than its tokens (half a character, a
 * possible stop string), so one of text and ids may be empty. */
struct onebit_delta {
    const char *text;
    size_t text_bytes;
    const int32_t *ids;
    size_t n_ids;
    uint32_t first;                               /* index of ids[0] among the answer's tokens */
    const struct onebit_token_logprobs *logprobs; /* n_ids of them when asked for, else NULL */
};

struct onebit_done {
    const char *finish_reason; /* "stop", "stop_string", "length" */
    uint32_t prompt_tokens, cached_tokens, answer_tokens;
    uint64_t seed; /* as used: the same request with it gives the same answer */
    uint64_t queue_us, prefill_us, decode_us; /* as the daemon saw them */
    uint32_t restarts; /* times the engine was restarted under this request */
    const char *model, *formats, *quantization, *kv, *cpu; /* what computed it */
    const char
        *result; /* of a verb that asks: JSON text; of ONEBIT_METRICS Prometheus text; or NULL */
    size_t result_bytes;
    uint32_t trimmed;   /* messages of the session that were left out because of `trim` */
    bool cached_answer; /* kept from an earlier, equal request, not computed */
    uint32_t retries;   /* times the request had to be sent again */
};

/* Why a request ended without done. */
struct onebit_failure {
    int code;        /* an enum onebit_error, or a negative errno: the connection was lost */
    uint16_t number; /* HTTP-like; 0 for a lost connection */
    bool retryable;
    uint32_t retry_after_ms; /* 0: not said */
    const char *name;        /* stable; a newer daemon may know names that this library does not */
    const char *message;     /* one line about this very case */
    const char *hint;        /* what to do about it */
    uint64_t have, limit;    /* where the error is about two numbers, else 0 */
    uint32_t retries;        /* times it had been sent again before */
};

/* A request failed and will be sent again. */
struct onebit_retrying {
    const struct onebit_failure *failure; /* why; failure->retries does not count the one to come */
    uint32_t delay_ms;                    /* from now */
};

/* Callbacks; each may be NULL. Of a request that was queued, exactly one of done and error is
 * called, last, and once. A request that is sent again is accepted again. */
struct onebit_handler {
    size_t size;
    void (*accepted)(struct onebit_conn *conn, uint32_t id, const struct onebit_accepted *accepted,
                     void *user);
    void (*progress)(struct onebit_conn *conn, uint32_t id, const struct onebit_progress *progress,
                     void *user);
    void (*delta)(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                  void *user);
    void (*done)(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done, void *user);
    void (*error)(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                  void *user);
    void (*retry)(struct onebit_conn *conn, uint32_t id, const struct onebit_retrying *retrying,
                  void *user);
};

static inline void onebit_handler_init(struct onebit_handler *handler)
{
    memset(handler, 0, sizeof(*handler));
    handler->size = sizeof(*handler);
}

/**
 * onebit_generate() - queue a request; onebit_dispatch() sends it and runs its callbacks
 * @request: borrowed for the call
 * @handler: copied; NULL: none
 * @user:    passed to every callback
 * @ret_id:  the request's id on this connection; may be NULL. Written before any callback runs.
 *
 * Return: 0; ONEBIT_ERR_BAD_REQUEST when not exactly one of messages, prompt and ids is set or a
 * count is past its limit; -E2BIG when it does not fit a frame; -EAGAIN when as many requests are
 * in flight, or bytes unsent, as may be: dispatch, then try again; -EINVAL when `size` is not set;
 * otherwise what ended the connection.
 */
ONEBIT_CHECKED int onebit_generate(struct onebit_conn *conn, const struct onebit_request *request,
                                   const struct onebit_handler *handler, void *user,
                                   uint32_t *ret_id);

/**
 * onebit_run() - generate, and return when the answer is complete
 *
 * The callbacks run meanwhile, those of other requests too; signals do not interrupt it (a callback
 * may cancel). Arguments and return as for onebit_generate(), or how the request ended:
 * the `code` of its failure.
 */
ONEBIT_CHECKED int onebit_run(struct onebit_conn *conn, const struct onebit_request *request,
                              const struct onebit_handler *handler, void *user);

/**
 * onebit_cancel() - ask the daemon to end a request of this connection
 *
 * The request still ends by its own callback: error with ONEBIT_ERR_CANCELLED, or done when it had
 * just finished.
 *
 * Return: 0; ONEBIT_ERR_NO_REQUEST when no such request is in flight here; -EAGAIN, -ENOMEM or what
 * ended the connection.
 */
ONEBIT_CHECKED int onebit_cancel(struct onebit_conn *conn, uint32_t id);

/** onebit_cancel_request() - cancel by the daemon's own number (onebit_accepted.request), another
 * connection's requests too, as far as the policy allows. Queues like onebit_generate(). */
ONEBIT_CHECKED int onebit_cancel_request(struct onebit_conn *conn, uint64_t request,
                                         const struct onebit_handler *handler, void *user,
                                         uint32_t *ret_id);

/* ---- models and state ------------------------------------------------------------------------ */

enum onebit_verb {
    ONEBIT_LIST = 0,   /* the models there are */
    ONEBIT_PS = 1,     /* what is loaded and what runs */
    ONEBIT_STATUS = 2, /* the daemon itself */
    ONEBIT_LOAD = 3,   /* make a model resident */
    ONEBIT_UNLOAD = 4,
    ONEBIT_SESSIONS = 5,     /* this user's sessions */
    ONEBIT_SESSION = 6,      /* one of them */
    ONEBIT_SESSION_DROP = 7, /* forget it */
    ONEBIT_METRICS = 8       /* counts and times, as Prometheus text */
};

/**
 * onebit_ask() - queue one of the other verbs
 * @name: of the model for ONEBIT_LOAD and ONEBIT_UNLOAD, of the session for ONEBIT_SESSION and
 *        ONEBIT_SESSION_DROP; else NULL
 *
 * The answer, where there is one, is onebit_done.result. Everything else as onebit_generate().
 */
ONEBIT_CHECKED int onebit_ask(struct onebit_conn *conn, enum onebit_verb verb, const char *name,
                              const struct onebit_handler *handler, void *user, uint32_t *ret_id);

/** onebit_list(), onebit_ps(), onebit_status(), onebit_sessions() - ask and wait
 * @ret_json: on success the answer as JSON text; the caller frees it with free() */
ONEBIT_CHECKED int onebit_list(struct onebit_conn *conn, char **ret_json);
ONEBIT_CHECKED int onebit_ps(struct onebit_conn *conn, char **ret_json);
ONEBIT_CHECKED int onebit_status(struct onebit_conn *conn, char **ret_json);
ONEBIT_CHECKED int onebit_sessions(struct onebit_conn *conn, char **ret_json);

/** onebit_session() - one session of this user, likewise; ONEBIT_ERR_NO_SESSION */
ONEBIT_CHECKED int onebit_session(struct onebit_conn *conn, const char *name, char **ret_json);

/** onebit_session_drop() - forget a session, and wait until it is forgotten */
ONEBIT_CHECKED int onebit_session_drop(struct onebit_conn *conn, const char *name);

/** onebit_metrics() - likewise, but *ret_text is Prometheus text (0.0.4) */
ONEBIT_CHECKED int onebit_metrics(struct onebit_conn *conn, char **ret_text);

/** onebit_load(), onebit_unload() - ask, and wait until it is done */
ONEBIT_CHECKED int onebit_load(struct onebit_conn *conn, const char *model);
ONEBIT_CHECKED int onebit_unload(struct onebit_conn *conn, const char *model);

#ifdef __cplusplus
}
#endif

#include "onebit_batch.h"     /* onebit_batch(): many requests */
#include "onebit_canceller.h" /* onebit_canceller_trip(): cancelling from elsewhere */

#endif
