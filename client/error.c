/* error: the error table as applications see it. onebit.h carries numbers of its own so that it can
 * be installed alone; here they are held equal to the protocol's. */
#include "client/onebit.h"

#include <assert.h>
#include <pthread.h>

#include "base/compiler.h"
#include "ipc/error.h"

#define SAME(name) static_assert((int)ONEBIT_ERR_##name == (int)ERR_##name, "onebit.h: " #name)

SAME(BAD_REQUEST);
SAME(BAD_FRAME);
SAME(BAD_PROTOCOL);
SAME(UNKNOWN_QUANTIZATION);
SAME(UNSUPPORTED);
SAME(UNKNOWN_PEER);
SAME(FORBIDDEN);
SAME(NO_MODEL);
SAME(NO_REQUEST);
SAME(QUANTIZATION_MISMATCH);
SAME(DUPLICATE_ID);
SAME(MODEL_BUSY);
SAME(NO_TEMPLATE);
SAME(CONTEXT_TOO_LONG);
SAME(FRAME_TOO_LONG);
SAME(QUEUE_FULL);
SAME(RATE_LIMITED);
SAME(TOO_MANY_CONNECTIONS);
SAME(CANCELLED);
SAME(INTERNAL);
SAME(REQUEST_CRASHED);
SAME(MODEL_MALFORMED);
SAME(MODEL_UNSUPPORTED);
SAME(NOT_FINITE);
SAME(OVERLOADED);
SAME(DRAINING);
SAME(ENGINE_UNAVAILABLE);
SAME(BREAKER_OPEN);
SAME(DEADLINE);
SAME(TIMEOUT);
SAME(MODEL_TOO_BIG);
SAME(NO_SESSION);
SAME(SESSION_BUSY);
SAME(SESSION_MISMATCH);
SAME(SESSIONS_FULL);
SAME(MODEL_CHANGED);
SAME(CACHE_UNWRITABLE);
SAME(EVICTED);
static_assert((int)ONEBIT_ERR_EVICTED + 1 == (int)ERR_CODES,
              "onebit.h lacks a code of ipc/error.h");

/* The public rows are copied field by field, once: the two structs may grow apart. */
static struct onebit_error_info rows[ERR_CODES];
static pthread_once_t rows_once = PTHREAD_ONCE_INIT;

static void rows_fill(void)
{
    for (int code = 0; code < ERR_CODES; code++) {
        const struct error_info *e = error_info((enum error_code)code);
        rows[code] = (struct onebit_error_info){
            .code = (enum onebit_error)code,
            .number = e->number,
            .retryable = e->retryable,
            .exit_code = e->exit_code,
            .name = e->name,
            .meaning = e->meaning,
            .hint = e->hint,
        };
    }
}

const struct onebit_error_info *onebit_error_info(int code)
{
    (void)pthread_once(&rows_once, rows_fill);
    return code >= 0 && code < ERR_CODES ? &rows[code] : NULL;
}

enum onebit_error onebit_error_by_name(const char *name)
{
    return (enum onebit_error)error_by_name(strview_of(name));
}

const char *onebit_version(void)
{
    return ONEBIT_VERSION;
}
