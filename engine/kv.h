/* Blocks of keys and values, and the sequences that hold them: what the step loop sees of them.
 *
 * A block is KV_BLOCK positions of everything: (layer, KV head, K then V, position, head_dim). The rows
 * of one head are neighbours, so attention walks memory forwards. In int8 every row has a scale, a float, and
 * the scales of a head's rows stand behind them. */
#ifndef ENGINE_KV_H
#define ENGINE_KV_H

#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

struct kv_pool {
    const struct model *model; /* borrowed */
    enum kv_type type;
    uint8_t *mem; /* owned mapping: (n_blocks, block_bytes) */
    size_t mem_bytes;
    size_t block_bytes;
    size_t
        head_bytes; /* of one head's K, or V, rows in a block, with the scales of int8 behind them */
    size_t head_dim;
    size_t n_blocks;
    size_t n_head_kv;
    uint32_t *free_blocks; /* owned: (n_free) a stack, room for n_blocks */
    size_t n_free;
    bool *dirty; /* owned: (n_blocks) has held somebody's positions */
};

struct seq {
    struct kv_pool *pool; /* borrowed */
    size_t n_ctx;         /* positions it may have */
    size_t len;           /* positions it has */
    size_t n_blocks;
    bool in_step;      /* marks the items of the step that is being checked */
    uint32_t blocks[]; /* (n_blocks) room for n_ctx positions */
};

/** seq_trim() - give back the blocks beyond the first n_blocks */
void seq_trim(struct seq *seq, size_t n_blocks);

/** kv_scales() - of an int8 pool: (KV_BLOCK) scales behind the K or V rows of one head that begin at half */
static inline float *kv_scales(const struct kv_pool *pool, const uint8_t *half)
{
    return (float *)(uintptr_t)(half + (size_t)KV_BLOCK * pool->head_dim);
}

/** kv_keys() - K rows of one head in the block of position KV_BLOCK * block_i; V rows follow them by
 * pool->head_bytes */
static inline uint8_t *kv_keys(const struct seq *seq, size_t layer, size_t head, size_t block_i)
{
    const struct kv_pool *p = seq->pool;

    return p->mem + seq->blocks[block_i] * p->block_bytes +
           (layer * p->n_head_kv + head) * 2 * p->head_bytes;
}

#endif
