/* libonebit, cancelling from another thread or a signal handler. Part of onebit.h, which includes
 * it. */
#ifndef ONEBIT_CANCELLER_H
#define ONEBIT_CANCELLER_H

#include "onebit.h"

#ifdef __cplusplus
extern "C" {
#endif

/** onebit_canceller_new() - a flag that another thread or a signal handler can raise
 * Return: 0, -ENOMEM, -EMFILE, ... It takes one descriptor. */
ONEBIT_CHECKED int onebit_canceller_new(struct onebit_canceller **ret);

/** onebit_canceller_free() - no connection may still have it. NULL is fine. */
ONEBIT_API void onebit_canceller_free(struct onebit_canceller *canceller);

/**
 * onebit_canceller_trip() - cancel whatever the connections that have it are doing
 *
 * Async-signal-safe, from any thread, any number of times; errno is kept. It stays tripped until
 * onebit_canceller_reset(). Each request of the connections that have it ends with
 * ONEBIT_ERR_CANCELLED (or done, when it was just finished), after a second at the latest even when
 * the daemon is silent; what waits to be sent again ends at once; new ones are refused with
 * ONEBIT_ERR_CANCELLED; onebit_connect_with() and onebit_reconnect() return -ECANCELED.
 */
ONEBIT_API void onebit_canceller_trip(struct onebit_canceller *canceller);

/** onebit_canceller_tripped() - async-signal-safe, from any thread */
ONEBIT_API bool onebit_canceller_tripped(const struct onebit_canceller *canceller);

/** onebit_canceller_reset() - lower the flag, when the calls that it cancelled have returned */
ONEBIT_API void onebit_canceller_reset(struct onebit_canceller *canceller);

/**
 * onebit_set_canceller() - whose flag the connection watches
 * @canceller: borrowed until another one, or NULL for none, is set; may serve many connections
 * Return: 0; or a negative errno, and the connection has none then. */
ONEBIT_CHECKED int onebit_set_canceller(struct onebit_conn *conn,
                                        struct onebit_canceller *canceller);

#ifdef __cplusplus
}
#endif

#endif
