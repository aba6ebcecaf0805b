/* libonebit, batches: many requests, so many at a time. Part of onebit.h, which includes it. */
#ifndef ONEBIT_BATCH_H
#define ONEBIT_BATCH_H

#include "onebit.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a batch has done so far. */
struct onebit_batch_totals {
    size_t size;
    uint64_t items;        /* that `next` gave */
    uint64_t done, failed; /* of them; the rest is in flight */
    uint64_t retries;
    uint64_t prompt_tokens, cached_tokens, answer_tokens; /* of what is done */
    uint64_t elapsed_us;
    uint32_t concurrency, concurrency_least; /* the limit now; the lowest it was */
};

static inline void onebit_batch_totals_init(struct onebit_batch_totals *totals)
{
    memset(totals, 0, sizeof(*totals));
    totals->size = sizeof(*totals);
}

/* How one item ended; valid until the callback returns. */
struct onebit_batch_result {
    uint64_t index;                       /* 0 for the first item that `next` gave, then 1, ... */
    const struct onebit_request *request; /* as `next` gave it */
    void *item;                           /* likewise */
    const struct onebit_done *done;       /* it went well; else NULL */
    const struct onebit_failure *failure; /* it did not; else NULL */
    const char *text;                     /* the answer; of a failure what came of it; "" */
    size_t text_bytes;
    const struct onebit_batch_totals *totals; /* this item included */
};
/* Many requests. Start with onebit_batch_init(), then set next and result. */
struct onebit_batch {
    size_t size;
    /* The next item. Return 1 with *ret_request set (and *ret_item, if you like); 0: there are no
     * more; negative: stop, onebit_batch() returns that. The request, and everything that it points
     * to, must stay until the item's `result` has been called. Nothing else happens while this
     * runs. */
    int (*next)(uint64_t index, const struct onebit_request **ret_request, void **ret_item,
                void *user);
    /* An item has ended; once for each, in the order in which they end. Return 0 to go on; else the
     * batch stops and returns that. The rules of callbacks hold. */
    int (*result)(const struct onebit_batch_result *result, void *user);
    /* A piece of an answer; may be NULL. */
    void (*delta)(uint64_t index, void *item, const struct onebit_delta *delta, void *user);
    void *user;
    uint32_t concurrency;    /* items in flight at most, over all connections; 1 or more */
    uint32_t text_bytes_max; /* kept of one answer; 0: none, take it from delta */
    struct onebit_canceller *canceller; /* borrowed; tripping it stops the batch; NULL: none */
};

static inline void onebit_batch_init(struct onebit_batch *batch)
{
    memset(batch, 0, sizeof(*batch));
    batch->size = sizeof(*batch);
    batch->concurrency = 16;
    batch->text_bytes_max = 1U << 20;
}

#define ONEBIT_BATCH_CONNS_MAX 64
/**
 * onebit_batch() - run items until there are no more, and wait for all of them
 * @conns, @n_conns: 1 to ONEBIT_BATCH_CONNS_MAX connections of this thread; items go to the one
 *                   with the fewest. Their retry policies hold. Other requests on them go on
 *                   meanwhile.
 * @ret_totals:      written also on failure, as far as its size goes; may be NULL
 *
 * Memory is bounded: as many items as may be in flight, and their answers, are held at a time.
 * A 429 or 503 halves the number of items in flight, a burst of them once; it grows by one when as
 * many items as it allows have gone well. An answer longer than text_bytes_max fails its item with
 * -E2BIG. A daemon that is gone, when the policy has given up on it, stops the batch. Stopping, for
 * whatever reason, cancels what is in flight; each item still gets its result.
 *
 * Return: 0 when `next` had no more and each item has had its result, be it done or failure; else
 * why the batch stopped: what a callback returned, ONEBIT_ERR_CANCELLED, or what ended the last
 * connection. -EINVAL: an argument; -EBUSY: from a callback; -ENOMEM; ONEBIT_ERR_UNSUPPORTED as
 * elsewhere.
 */
ONEBIT_CHECKED int onebit_batch(struct onebit_conn *const *conns, size_t n_conns,
                                const struct onebit_batch *batch,
                                struct onebit_batch_totals *ret_totals);

#ifdef __cplusplus
}
#endif

#endif
