/* The error table: every refusal and failure a client can meet, with what to do about it. */
#ifndef IPC_ERROR_H
#define IPC_ERROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/strview.h"

/* Stable: names and numbers never change their meaning. Several names share an HTTP-like number. */
enum error_code {
    ERR_NONE = 0,
    ERR_BAD_REQUEST,          /* 400 a field is missing, of the wrong type or out of range */
    ERR_BAD_FRAME,            /* 400 bytes that are no frame of this protocol */
    ERR_BAD_PROTOCOL,         /* 400 no common protocol version, or a required feature is unknown */
    ERR_UNKNOWN_QUANTIZATION, /* 400 a quantization name that does not exist */
    ERR_UNSUPPORTED,          /* 400 known to the protocol, not offered by this server */
    ERR_UNKNOWN_PEER,         /* 401 the policy names neither this uid nor its groups */
    ERR_FORBIDDEN,            /* 403 the policy does not allow it */
    ERR_NO_MODEL,             /* 404 */
    ERR_NO_REQUEST,           /* 404 cancel of a request that does not exist */
    ERR_QUANTIZATION_MISMATCH, /* 409 the file has another quantization than the request expects */
    ERR_DUPLICATE_ID,          /* 409 the request id is in use on this connection */
    ERR_MODEL_BUSY,            /* 409 unload while requests use it */
    ERR_NO_TEMPLATE,           /* 409 chat with a model whose template is not known */
    ERR_CONTEXT_TOO_LONG,      /* 413 prompt and answer do not fit; details say both counts */
    ERR_FRAME_TOO_LONG,        /* 413 */
    ERR_QUEUE_FULL,            /* 429 too many requests wait, of this identity or in all */
    ERR_RATE_LIMITED,          /* 429 a token bucket is empty; details name it */
    ERR_TOO_MANY_CONNECTIONS,  /* 429 */
    ERR_CANCELLED,             /* 499 */
    ERR_INTERNAL,              /* 500 */
    ERR_REQUEST_CRASHED,       /* 500 the engine died on this request, alone, again */
    ERR_MODEL_MALFORMED,       /* 500 the file is damaged */
    ERR_MODEL_UNSUPPORTED,     /* 500 a format, graph or tokenizer this engine does not run */
    ERR_NOT_FINITE,            /* 500 the model computed a number that is not finite */
    ERR_OVERLOADED,            /* 503 memory, heat or load; retry later */
    ERR_DRAINING,              /* 503 the daemon is stopping */
    ERR_ENGINE_UNAVAILABLE,    /* 503 the engine process cannot be started */
    ERR_BREAKER_OPEN,          /* 503 the model failed repeatedly; one probe is let through later */
    ERR_DEADLINE,              /* 504 no first token before the request's deadline */
    ERR_TIMEOUT,               /* 504 the peer was silent or too slow on the connection */
    ERR_MODEL_TOO_BIG,         /* 507 needed and available bytes in the details */
    ERR_NO_SESSION,            /* 404 no session of that name, of this user */
    ERR_SESSION_BUSY,          /* 409 a request of the session runs */
    ERR_SESSION_MISMATCH,      /* 409 the session is pinned to another model or quantization */
    ERR_SESSIONS_FULL,         /* 507 the sessions' bound is reached; details say both counts */
    ERR_MODEL_CHANGED,         /* 409 the model's file was replaced in the middle of the answer */
    ERR_CACHE_UNWRITABLE,      /* 507 the packed file cannot be written; details: needed, free */
    ERR_EVICTED,               /* 503 it ran, and memory is too short for it to go on */
    ERR_CODES,
};

struct error_info {
    enum error_code code;
    uint16_t number;     /* 400, 401, ... */
    bool retryable;      /* may the same request succeed later, unchanged? */
    uint8_t exit_code;   /* of the CLI */
    const char *name;    /* "bad_request" */
    const char *meaning; /* one sentence */
    const char *hint;    /* what to do about it */
};

/** error_info() - the row of a code; an unknown one gives ERR_INTERNAL's. Static, never NULL. */
const struct error_info *error_info(enum error_code code);

/** error_by_name() - ERR_NONE when there is no such name */
enum error_code error_by_name(struct strview name);

#endif
