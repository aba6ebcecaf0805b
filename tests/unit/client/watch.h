/* Callbacks that remember what they saw, for tests. */
#ifndef TESTS_UNIT_CLIENT_WATCH_H
#define TESTS_UNIT_CLIENT_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/onebit.h"
#include "tests/unit/client/fake.h"

/* The `user` of one request with the handler of watch(). */
struct seen {
    char text[256];
    char order[64]; /* a letter for each callback */
    int32_t ids[16];
    size_t n_ids;
    int code;
    char name[64], message[128], hint[256];
    uint64_t have, limit;
    uint32_t retry_after_ms, answer_tokens;
    char cpu[16], model[64];
    uint64_t request;
    uint32_t delays[8];          /* of each retry, ms */
    uint32_t n_retries, retries; /* as told while it ran, and at its end */
    bool ended;
    int (*in_delta)(struct onebit_conn *conn, uint32_t id); /* called once, in the first delta */
    int in_delta_gave;
};

struct onebit_handler watch(void);
struct onebit_request ask(const char *prompt);       /* plain completion */
struct onebit_conn *connected(const struct fake *f); /* sends nothing twice */

#endif
