/* bucket: levels that are brought up to date when somebody looks, so that no timer fills them.
 *
 * A waiter is an entry in a line with a time, never a blocked thread. All limits are asked before
 * any is charged: a request that waits holds nothing that another could use. */
#include "daemon/broker/bucket.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>

#include "base/clock.h"

#define NS_PER_S_F 1e9
#define DAY_S UINT64_C(86400)

static double level_at(const struct bucket *b, uint64_t now_ns)
{
    const uint64_t passed = now_ns > b->at_ns ? now_ns - b->at_ns : 0;

    return fmin(b->capacity, b->level + b->rate * (double)passed / NS_PER_S_F);
}

static void refresh(struct bucket *b, uint64_t now_ns)
{
    b->level = level_at(b, now_ns);
    b->at_ns = now_ns > b->at_ns ? now_ns : b->at_ns;
}

void bucket_set(struct bucket *b, uint64_t per_s, uint64_t burst_s, uint64_t now_ns)
{
    const double capacity = fmax(1, (double)per_s * (double)burst_s);
    const bool fresh = b->rate == 0;

    if (!fresh) {
        refresh(b, now_ns);
    }
    b->rate = (double)per_s;
    b->capacity = capacity;
    b->level = fresh ? capacity : fmin(capacity, b->level);
    b->at_ns = now_ns;
}

uint64_t bucket_wait(const struct bucket *b, uint64_t ahead, uint64_t n, uint64_t now_ns)
{
    if (b->rate == 0) {
        return 0;
    }
    const double missing = (double)ahead + fmin((double)n, b->capacity) - level_at(b, now_ns);
    if (missing <= 0) {
        return 0;
    }
    const double ns = ceil(missing / b->rate * NS_PER_S_F);
    /* One more covers the rounding of level_at(): whoever comes back then is served. */
    return ns < (double)(UINT64_MAX / 2) ? (uint64_t)ns + 1 : UINT64_MAX / 2;
}

void bucket_take(struct bucket *b, uint64_t n, uint64_t now_ns)
{
    assert(bucket_wait(b, 0, n, now_ns) == 0);
    if (b->rate > 0) {
        refresh(b, now_ns);
        b->level -= (double)n;
    }
}

void bucket_return(struct bucket *b, int64_t n, uint64_t now_ns)
{
    if (b->rate > 0) {
        refresh(b, now_ns);
        b->level = fmin(b->capacity, b->level + (double)n);
    }
}

bool bucket_full(const struct bucket *b, uint64_t now_ns)
{
    return b->rate == 0 || level_at(b, now_ns) >= b->capacity;
}

/* ---- the quota ---- */

static uint64_t day_of(const struct moment *at)
{
    return at->unix_s / DAY_S;
}

static uint64_t used_today(const struct quota *q, const struct moment *at)
{
    /* Any other day begins anew, an earlier one too: a clock that was set back must not lock
     * somebody out until it catches up. */
    return q->day == day_of(at) ? q->used : 0;
}

static uint64_t quota_wait(const struct quota *q, uint64_t ahead, uint64_t n,
                           const struct moment *at)
{
    uint64_t used = used_today(q, at);
    const uint64_t need = n < q->limit ? n : q->limit; /* more than a day's: on a fresh day */

    if (__builtin_add_overflow(used, ahead, &used)) {
        used = UINT64_MAX;
    }
    if (q->limit == 0 || (used <= q->limit && need <= q->limit - used)) {
        return 0;
    }
    return (DAY_S - at->unix_s % DAY_S) * NS_PER_S;
}

static void quota_take(struct quota *q, uint64_t n, const struct moment *at)
{
    q->used = used_today(q, at);
    q->day = day_of(at);
    if (__builtin_add_overflow(q->used, n, &q->used)) {
        q->used = UINT64_MAX;
    }
}

static void quota_settle(struct quota *q, const struct charge *c, uint64_t used)
{
    if (q->day != c->day) {
        return; /* that day is over */
    }
    q->used = q->used > c->tokens ? q->used - c->tokens : 0;
    if (__builtin_add_overflow(q->used, used, &q->used)) {
        q->used = UINT64_MAX;
    }
}

/* ---- all of them ---- */

const char *rate_limit_name(enum rate_limit l)
{
    static const char *const names[RATE_LIMITS] = {
        [RATE_NONE] = "none",
        [RATE_REQUESTS] = "requests_per_s",
        [RATE_TOKENS] = "tokens_per_s",
        [RATE_DAY] = "tokens_per_day",
        [RATE_ALL_REQUESTS] = "global requests_per_s",
        [RATE_ALL_TOKENS] = "global tokens_per_s",
        [RATE_ALL_DAY] = "global tokens_per_day",
    };

    return names[l < RATE_LIMITS ? l : RATE_NONE];
}

void buckets_set(struct buckets *b, const struct rates *r, const struct moment *at)
{
    bucket_set(&b->requests, r->requests_per_s, r->burst_s, at->now_ns);
    bucket_set(&b->tokens, r->tokens_per_s, r->burst_s, at->now_ns);
    b->quota.limit = r->tokens_per_day;
}

bool buckets_idle(const struct buckets *b, const struct moment *at)
{
    return bucket_full(&b->requests, at->now_ns) && bucket_full(&b->tokens, at->now_ns) &&
           (b->quota.limit == 0 || used_today(&b->quota, at) == 0);
}

enum rate_limit buckets_wait(const struct buckets *all, const struct ahead *before_all,
                             const struct buckets *own, const struct ahead *before_own,
                             uint64_t tokens, const struct moment *at, uint64_t *ret_wait_ns)
{
    const uint64_t now = at->now_ns;
    const uint64_t waits[RATE_LIMITS] = {
        [RATE_REQUESTS] = bucket_wait(&own->requests, before_own->requests, 1, now),
        [RATE_TOKENS] = bucket_wait(&own->tokens, before_own->tokens, tokens, now),
        [RATE_DAY] = quota_wait(&own->quota, before_own->tokens, tokens, at),
        [RATE_ALL_REQUESTS] = bucket_wait(&all->requests, before_all->requests, 1, now),
        [RATE_ALL_TOKENS] = bucket_wait(&all->tokens, before_all->tokens, tokens, now),
        [RATE_ALL_DAY] = quota_wait(&all->quota, before_all->tokens, tokens, at),
    };
    enum rate_limit longest = RATE_NONE;

    for (unsigned l = RATE_NONE + 1; l < RATE_LIMITS; l++) {
        if (waits[l] > waits[longest]) {
            longest = (enum rate_limit)l;
        }
    }
    if (longest != RATE_NONE) {
        *ret_wait_ns = waits[longest];
    }
    return longest;
}

enum rate_limit buckets_take(struct buckets *all, struct buckets *own, uint64_t tokens,
                             const struct moment *at, struct charge *ret_charge,
                             uint64_t *ret_wait_ns)
{
    const struct ahead nobody = {0};
    const enum rate_limit longest =
        buckets_wait(all, &nobody, own, &nobody, tokens, at, ret_wait_ns);

    if (longest != RATE_NONE) {
        return longest;
    }
    struct buckets *const both[] = {own, all};
    for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
        bucket_take(&both[i]->requests, 1, at->now_ns);
        bucket_take(&both[i]->tokens, tokens, at->now_ns);
        quota_take(&both[i]->quota, tokens, at);
    }
    *ret_charge = (struct charge){.taken = true, .tokens = tokens, .day = day_of(at)};
    return RATE_NONE;
}

void buckets_settle(struct buckets *all, struct buckets *own, struct charge *c, uint64_t used,
                    const struct moment *at)
{
    struct buckets *const both[] = {own, all};

    if (!c->taken) {
        return;
    }
    c->taken = false;
    for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
        bucket_return(&both[i]->requests, used == 0, at->now_ns);
        bucket_return(&both[i]->tokens, (int64_t)c->tokens - (int64_t)used, at->now_ns);
        quota_settle(&both[i]->quota, c, used);
    }
}
