/* Whole answers, kept for requests that are asked again and can have but one answer. Pure code: who
 * asks, and what makes two requests equal, is in the key. */
#ifndef BROKER_ANSWER_CACHE_H
#define BROKER_ANSWER_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/list.h"
#include "base/strview.h"

#define ANSWER_CACHE_BUCKETS 4096u /* power of two */
#define ANSWER_CACHE_SHARE 4u      /* one answer takes at most a fourth of the cache */

struct kept_answer {
    struct strview text, finish_reason;
    const int32_t *ids; /* (n_ids) */
    size_t n_ids;
    uint32_t prompt_tokens;
    uint64_t seed;
};

struct answer_cache {
    struct list buckets[ANSWER_CACHE_BUCKETS]; /* struct entry, owned by `all` */
    struct list all;                           /* owned: the longest unused first */
    size_t n;
    uint64_t bytes, bytes_max; /* of entries, their keys and bookkeeping */
    uint64_t hits, misses;
};

void answer_cache_init(struct answer_cache *c, uint64_t bytes_max);
void answer_cache_clear(struct answer_cache *c);

/** answer_cache_limit() - another bound, kept from now on */
void answer_cache_limit(struct answer_cache *c, uint64_t bytes_max);

/* What an answer belongs to. Borrowed for the call. */
struct answer_key {
    struct strview bytes; /* who asks, and what; compared whole, so that two of one hash are two */
    struct strview model; /* its name */
    uint64_t mark;        /* of the model: another file or other settings are another mark */
};

/**
 * answer_cache_find() - is there an answer to this very key?
 * @ret: views of the entry, valid until the next call that changes the cache
 */
MUST_USE bool answer_cache_find(struct answer_cache *c, const struct answer_key *key,
                                struct kept_answer *ret);

/** answer_cache_put() - keep a copy, in place of the longest unused; one that is too large, or that
 * there is no memory for, is not kept */
void answer_cache_put(struct answer_cache *c, const struct answer_key *key,
                      const struct kept_answer *a);

/** answer_cache_forget() - drop what this model answered under another mark */
void answer_cache_forget(struct answer_cache *c, struct strview model, uint64_t mark);

#endif
