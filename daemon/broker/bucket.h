/* Rate limits: token buckets for requests and tokens per second, and a quota of tokens a day. Pure
 * code: time is an argument, so the simulator, the tests and the loop run the very same. */
#ifndef BROKER_BUCKET_H
#define BROKER_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

/* Both clocks, read once by who calls. */
struct moment {
    uint64_t now_ns; /* monotonic */
    uint64_t unix_s; /* wall clock, for the quota's day */
};

#define RATES_MAX UINT64_C(1000000000) /* of each rate */
#define RATES_BURST_S 10u
#define RATES_BURST_S_MAX 86400u

/* What the configuration allows one identity, or all of them together. 0: no limit. */
struct rates {
    uint64_t requests_per_s, tokens_per_s;
    uint64_t burst_s;        /* how many seconds' worth a full bucket holds; at least one unit */
    uint64_t tokens_per_day; /* by the day of UTC */
};

struct bucket {
    double rate;     /* units per second; 0: unlimited */
    double capacity; /* units, at least 1 */
    double level;    /* units there at `at_ns`; negative: a debt */
    uint64_t at_ns;  /* monotonic */
};

/**
 * bucket_set() - give a bucket its rate; for a new one and after a reload
 *
 * A new or so far unlimited bucket starts full; else what is in it stays, up to the new capacity.
 */
void bucket_set(struct bucket *b, uint64_t per_s, uint64_t burst_s, uint64_t now_ns);

/**
 * bucket_wait() - how long until n units can be taken, ns; 0: now
 * @ahead: units that others take before
 *
 * What is larger than the bucket is let through by a full one and leaves a debt: a request longer
 * than the burst is slow to follow, but not impossible. The rate holds in the long run.
 */
MUST_USE uint64_t bucket_wait(const struct bucket *b, uint64_t ahead, uint64_t n, uint64_t now_ns);

/** bucket_take() - take them; bucket_wait() has just said 0 */
void bucket_take(struct bucket *b, uint64_t n, uint64_t now_ns);

/** bucket_return() - of what was taken, n were not used (or, negative, more than was taken) */
void bucket_return(struct bucket *b, int64_t n, uint64_t now_ns);

/** bucket_full() - true also for an unlimited one */
bool bucket_full(const struct bucket *b, uint64_t now_ns);

struct quota {
    uint64_t limit; /* tokens a day; 0: unlimited */
    uint64_t used;  /* on `day` */
    uint64_t day;   /* days since 1970, UTC */
};

/* Which limit makes a request wait. The names stand in refusals and metrics. */
enum rate_limit {
    RATE_NONE = 0,
    RATE_REQUESTS,
    RATE_TOKENS,
    RATE_DAY,
    RATE_ALL_REQUESTS, /* those of all identities together */
    RATE_ALL_TOKENS,
    RATE_ALL_DAY,
    RATE_LIMITS,
};

/** rate_limit_name() - "requests_per_s", "global tokens_per_s", ...; static */
const char *rate_limit_name(enum rate_limit l);

/* The three limits of one identity, or of all. A zeroed one limits nothing. */
struct buckets {
    struct bucket requests, tokens;
    struct quota quota;
};

/** buckets_set() - as configured; for new ones and after a reload */
void buckets_set(struct buckets *b, const struct rates *r, const struct moment *at);

/** buckets_idle() - nothing would be forgotten with these: full, and no quota in use today */
bool buckets_idle(const struct buckets *b, const struct moment *at);

/* What a request has taken from the buckets, for giving back what it did not use. */
struct charge {
    bool taken;
    uint64_t tokens;
    uint64_t day; /* whose quota paid */
};

/* Those who take before, in the same line. */
struct ahead {
    uint64_t requests, tokens;
};

/**
 * buckets_wait() - which limit makes one request of so many tokens wait, and how long
 * @all, @own:       the buckets of all identities and of this one
 * @tokens:          an estimate: of the prompt and of the longest answer
 * @before_all, @before_own: those who take before, from both
 * @ret_wait_ns:     unless RATE_NONE: when to try again
 *
 * Return: RATE_NONE, or the limit that is farthest away.
 */
MUST_USE enum rate_limit buckets_wait(const struct buckets *all, const struct ahead *before_all,
                                      const struct buckets *own, const struct ahead *before_own,
                                      uint64_t tokens, const struct moment *at,
                                      uint64_t *ret_wait_ns);

/**
 * buckets_take() - one request and so many tokens from all six limits, or from none
 *
 * Return: RATE_NONE: taken, and *ret_charge says what; else as buckets_wait() for somebody who is
 * the first in every line.
 */
MUST_USE enum rate_limit buckets_take(struct buckets *all, struct buckets *own, uint64_t tokens,
                                      const struct moment *at, struct charge *ret_charge,
                                      uint64_t *ret_wait_ns);

/**
 * buckets_settle() - the request is over and has really used so many tokens; harmless for a charge
 * that was never taken, and the second time. A request that did no work at all (used is 0) gets the
 * request itself back too.
 */
void buckets_settle(struct buckets *all, struct buckets *own, struct charge *c, uint64_t used,
                    const struct moment *at);

#endif
