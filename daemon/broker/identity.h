/* The identities that the daemon knows: who shares a turn, a queue bound, buckets and a cache. Pure
 * code but for what salts.h draws from the kernel. */
#ifndef BROKER_IDENTITY_H
#define BROKER_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "base/list.h"
#include "daemon/broker/gate.h"
#include "daemon/broker/policy.h"
#include "daemon/broker/salts.h"
#include "daemon/broker/sched.h"
#include "ipc/seam.h"

#define IDENTITIES_MAX 4096u
#define IDENTITY_IDLE_NS UINT64_C(60000000000)

/* One uid in one system service or container; every session of a user is one. It outlives its
 * connections, so that coming again is no new start. */
struct identity {
    struct list link; /* in the table */
    uid_t uid;
    char unit[UNIT_MAX + 1]; /* "": none */
    uint8_t salt[SEAM_SALT]; /* of its KV blocks and answers; never all zero */
    size_t n_conns;          /* a request has one, too */
    uint64_t used_ns;        /* when the last connection closed */
    struct sched_account account;

    /* What the policy gives it; by the connection that came last. */
    struct grant grant;
    struct gate_line line; /* its buckets, and its requests that wait for one */

    /* The ledger: bytes charged to it. */
    uint64_t queue_bytes; /* bodies of its requests */
    uint64_t
        kv_bytes; /* of the sequences the engine holds for it, as of the last metrics_ledger() */
    uint64_t output_bytes;               /* written to its connections, not yet taken by them */
    uint64_t input_bytes;                /* of frames that have not come whole */
    uint64_t n_tokens, n_prompt_tokens;  /* computed for it, ever */
    double lately_prompt, lately_cached; /* prompt tokens of its last few requests, and how many of
                                          * them were found cached */
};

struct identities {
    struct list all;    /* owned: struct identity */
    struct salts salts; /* kept when their identities are forgotten */
    size_t n;
};

void identities_init(struct identities *t);
void identities_deinit(struct identities *t);

/** identity_find() - or NULL */
struct identity *identity_find(const struct identities *t, uid_t uid, const char *unit);

/**
 * identity_get() - of a peer that connects; made when absent
 * @grant: what the policy says about it now
 *
 * Counts the connection: identity_put() when it closes. A full table forgets the one that has been
 * idle for longest. NULL: no memory, or every one of IDENTITIES_MAX is in use.
 */
struct identity *identity_get(struct identities *t, uid_t uid, const char *unit,
                              const struct grant *grant, const struct moment *at);
void identity_put(struct identity *id, const struct moment *at);

/** identity_grant() - the policy says something else now */
void identity_grant(struct identity *id, const struct grant *grant, const struct moment *at);

/**
 * identities_sweep() - forget those with full buckets and no connection for IDENTITY_IDLE_NS
 *
 * Return: when to look again, ns from now; UINT64_MAX: nobody is idle.
 */
uint64_t identities_sweep(struct identities *t, const struct moment *at);

#endif
