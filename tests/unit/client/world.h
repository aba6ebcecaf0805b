/* A clock that tests move, and chance that they choose. */
#ifndef TESTS_UNIT_CLIENT_WORLD_H
#define TESTS_UNIT_CLIENT_WORLD_H

#include <stdint.h>

#include "client/conn.h"
#include "tests/unit/client/fake.h"

/* A wait that has an end up to `leap_ms` passes at once when nothing comes for a moment: those are
 * the waits before a retry. Longer ones are for the daemon, and are waited for in truth. */
struct world {
    struct client_env env;
    uint64_t now_ns;
    uint32_t random; /* what chance gives; UINT32_MAX: each wait is as long as it may be */
    int leap_ms;
};

void world_init(struct world *w);

/** world_connect() - to f, in that world; @retry: NULL: the defaults */
struct onebit_conn *world_connect(struct world *w, const struct fake *f,
                                  const struct onebit_retry *retry);

/** world_dispatch() - dispatch with waiting turned off until *counter is not 0; at most 10 s */
void world_dispatch(struct onebit_conn *conn, const uint32_t *counter);

#endif
