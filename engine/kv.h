/* Blocks of keys and values, and the sequences that hold them: what the step loop sees of them.
 *
 * A block is KV_BLOCK positions of everything: (layer, KV head, K then V, position, head_dim). The
 * rows of one head are neighbours, so attention walks memory forwards. In int8 every row has a
 * scale, a float, and the scales of a head's rows stand behind them. */
#ifndef ENGINE_KV_H
#define ENGINE_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

#define KV_NONE UINT32_MAX /* no block */

/* What the pool knows of a block. A block is free (nobody's), held (n_refs > 0) or idle (nobody
 * holds it, but it can be found again). */
struct kv_block {
    uint32_t n_refs;       /* sequences that hold it */
    bool dirty;            /* has held somebody's positions */
    int32_t ids[KV_BLOCK]; /* of its positions, as far as they have been computed */

    /* Only of a block that can be found: */
    bool kept;
    uint8_t salt[KV_SALT];
    uint64_t hash[2]; /* of the salt, the chain before it and its ids */
    uint32_t
        parent; /* the block before it, which is kept as long as this one; KV_NONE: it is first */
    uint32_t n_children; /* kept blocks that have it as parent */
    uint32_t next;       /* in its bucket */
    uint32_t n_hits;     /* sequences that found it */
    bool on_disk;        /* it has been handed to the writer, or comes from there */
    uint64_t used;       /* the pool's tick when it was last found or let go */
};

struct kv_pool {
    const struct model *model; /* borrowed */
    enum kv_type type;
    uint8_t *mem; /* owned mapping: (n_blocks, block_bytes) */
    size_t mem_bytes;
    size_t block_bytes;
    size_t head_bytes; /* of one head's K, or V, rows in a block, with the scales of int8 behind
                     * them */
    size_t head_dim;
    size_t n_blocks;
    size_t n_head_kv;
    struct kv_block *blocks; /* owned: (n_blocks) */
    uint32_t *free_blocks;   /* owned: (n_free) a stack, room for n_blocks */
    size_t n_free, n_idle;
    uint32_t *buckets; /* owned: (n_buckets) first kept block by hash, or KV_NONE */
    size_t n_buckets;  /* a power of two */
    uint64_t tick;
    uint8_t label[KV_SALT]; /* the salt of public blocks; see kv_pool_publish() */
    struct kv_spill *spill; /* owned; NULL: none */
    size_t n_unspilled;     /* kept blocks that are not on disk */
};

struct seq {
    struct kv_pool *pool; /* borrowed */
    size_t n_ctx;         /* positions it may have */
    size_t len;           /* positions it has */
    size_t n_blocks;
    size_t n_kept; /* its first so many blocks can be found */
    bool keeps;    /* what it computes can be found by its salt */
    uint8_t salt[KV_SALT];
    bool on_disk;      /* see seq_on_disk() */
    bool in_step;      /* marks the items of the step that is being checked */
    uint32_t blocks[]; /* (n_blocks) room for n_ctx positions */
};

/** seq_trim() - give back the blocks beyond the first n_blocks */
void seq_trim(struct seq *seq, size_t n_blocks);

/** seq_advance() - n positions more have been computed, in blocks that were reserved: those of
 * these ids */
void seq_advance(struct seq *seq, const int32_t *ids, size_t n);

/* ---- kv_cache.c: blocks that can be found again ---- */

/** kv_cache_keep() - let the seq's full blocks be found by its salt; of two equal ones a single one
 * stays */
void kv_cache_keep(struct seq *seq);

/** kv_cache_evict() - make the least valuable idle block free; there has to be one */
void kv_cache_evict(struct kv_pool *pool);

/* ---- kv.c: for kv_cache.c ---- */

/** kv_block_take() - a block of zeros for one sequence. There has to be one that is free or
 * idle. */
uint32_t kv_block_take(struct kv_pool *pool);
void kv_block_ref(struct kv_pool *pool, uint32_t block);
/** kv_block_unref() - let go; a block that cannot be found is free when nobody holds it any more */
void kv_block_unref(struct kv_pool *pool, uint32_t block);
/** kv_block_free() - onto the stack of free blocks: nobody holds it, nobody can find it */
void kv_block_free(struct kv_pool *pool, uint32_t block);

/** kv_scales() - of an int8 pool: (KV_BLOCK) scales behind the K or V rows of one head that begin
 * at half */
static inline float *kv_scales(const struct kv_pool *pool, const uint8_t *half)
{
    return (float *)(uintptr_t)(half + (size_t)KV_BLOCK * pool->head_dim);
}

/** kv_keys() - K rows of one head in the block of position KV_BLOCK * block_i; V rows follow them
 * by pool->head_bytes */
static inline uint8_t *kv_keys(const struct seq *seq, size_t layer, size_t head, size_t block_i)
{
    const struct kv_pool *p = seq->pool;

    return p->mem + seq->blocks[block_i] * p->block_bytes +
           (layer * p->n_head_kv + head) * 2 * p->head_bytes;
}

#endif
