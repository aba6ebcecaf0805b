/* The pool is one reserved mapping; the system gives it memory page by page as blocks are first
 * written. Free blocks are a stack, so a block that was just given back is taken first, while it is
 * still in the cache. Only when none is free an idle one is evicted. A block that several sequences
 * hold, or that can be found, is never written: a sequence that was rewound into one goes on in a
 * copy. */
#include "engine/kv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/kv_spill.h"
#include "engine/model.h"

#define KV_BLOCKS_MAX ((size_t)1 << 24)

/* Blocks of this size and more come in huge pages: a token looks at a few KiB of each head of each
 * layer in each block, and finding small pages costs time. The last block taken may bring up to one
 * page more than it has. */
#define KV_HUGE_BYTES ((size_t)1 << 20)

static const char *const type_names[] = {[KV_F32] = "f32", [KV_F16] = "f16", [KV_I8] = "int8"};

const char *kv_type_name(enum kv_type type)
{
    assert(type < ARRAY_SIZE(type_names));
    return type_names[type];
}

bool kv_type_parse(struct strview name, enum kv_type *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(type_names); i++) {
        if (strview_is(name, type_names[i])) {
            *ret = (enum kv_type)i;
            return true;
        }
    }
    return false;
}

static size_t head_bytes_of(const struct model *model, enum kv_type type)
{
    const size_t values = (size_t)KV_BLOCK * model->shape.head_dim;

    switch (type) {
    case KV_F32:
        return values * sizeof(float);
    case KV_F16:
        return values * sizeof(uint16_t);
    default:
        return values + KV_BLOCK * sizeof(float);
    }
}

uint64_t kv_block_bytes(const struct model *model, enum kv_type type)
{
    const struct shape *s = &model->shape;

    /* at most 2^10 layers of 2^20 values and 2^9 bytes: no overflow */
    return (uint64_t)head_bytes_of(model, type) * 2 * s->n_head_kv * s->n_layer;
}

int kv_pool_new(struct kv_pool **ret, const struct model *model, enum kv_type type, size_t n_blocks)
{
    struct kv_pool *p;
    uint64_t bytes;

    if (n_blocks == 0 || n_blocks > KV_BLOCKS_MAX || type > KV_I8 ||
        __builtin_mul_overflow(kv_block_bytes(model, type), (uint64_t)n_blocks, &bytes) ||
        bytes > SIZE_MAX / 2) {
        return -EINVAL;
    }
    p = calloc(1, sizeof(*p));
    if (!p) {
        return -ENOMEM;
    }
    *p = (struct kv_pool){
        .model = model,
        .type = type,
        .mem_bytes = (size_t)bytes,
        .block_bytes = (size_t)kv_block_bytes(model, type),
        .head_bytes = head_bytes_of(model, type),
        .n_blocks = n_blocks,
        .n_head_kv = model->shape.n_head_kv,
        .head_dim = model->shape.head_dim,
        .n_buckets = 1,
        .free_blocks = calloc(n_blocks, sizeof(*p->free_blocks)),
        .blocks = calloc(n_blocks, sizeof(*p->blocks)),
    };
    while (p->n_buckets < n_blocks) {
        p->n_buckets *= 2;
    }
    p->buckets = calloc(p->n_buckets, sizeof(*p->buckets));
    void *mem = mmap(NULL, p->mem_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem != MAP_FAILED) {
        p->mem = mem;
        if (p->block_bytes >= KV_HUGE_BYTES) {
            (void)madvise(mem, p->mem_bytes, MADV_HUGEPAGE); /* where the system has them */
        }
    }
    if (!p->mem || !p->free_blocks || !p->blocks || !p->buckets) {
        kv_pool_free(p);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n_blocks; i++) {
        p->free_blocks[i] = (uint32_t)(n_blocks - 1 - i); /* the first block is on top */
    }
    for (size_t i = 0; i < p->n_buckets; i++) {
        p->buckets[i] = KV_NONE;
    }
    p->n_free = n_blocks;
    *ret = p;
    return 0;
}

void kv_pool_free(struct kv_pool *pool)
{
    if (!pool) {
        return;
    }
    kv_spill_free(pool->spill);
    if (pool->mem) {
        (void)munmap(pool->mem, pool->mem_bytes);
    }
    free(pool->free_blocks);
    free(pool->blocks);
    free(pool->buckets);
    free(pool);
}

size_t kv_pool_free_blocks(const struct kv_pool *pool)
{
    return pool->n_free;
}

size_t kv_pool_idle_blocks(const struct kv_pool *pool)
{
    return pool->n_idle;
}

void kv_block_ref(struct kv_pool *pool, uint32_t block)
{
    struct kv_block *b = &pool->blocks[block];

    if (b->n_refs++ == 0 && b->kept) {
        pool->n_idle--;
    }
}

void kv_block_free(struct kv_pool *pool, uint32_t block)
{
    struct kv_block *b = &pool->blocks[block];

    *b = (struct kv_block){.dirty = b->dirty}; /* its ids are somebody's words */
    pool->free_blocks[pool->n_free++] = block;
}

void kv_block_unref(struct kv_pool *pool, uint32_t block)
{
    struct kv_block *b = &pool->blocks[block];

    assert(b->n_refs > 0);
    if (--b->n_refs > 0) {
        return;
    }
    if (b->kept) {
        b->used = ++pool->tick;
        pool->n_idle++;
    } else {
        kv_block_free(pool, block);
    }
}

uint32_t kv_block_take(struct kv_pool *p)
{
    if (p->n_free == 0) {
        kv_cache_evict(p);
    }
    const uint32_t block = p->free_blocks[--p->n_free];
    struct kv_block *b = &p->blocks[block];
    if (b->dirty) {
        memset(p->mem + block * p->block_bytes, 0, p->block_bytes);
    }
    b->dirty = true;
    b->n_refs = 1;
    return block;
}

static size_t blocks_for(size_t n)
{
    return n / KV_BLOCK + (n % KV_BLOCK != 0);
}

int seq_new(struct seq **ret, struct kv_pool *pool, size_t n_ctx)
{
    struct seq *seq;

    if (n_ctx == 0 || n_ctx > pool->model->shape.n_ctx) {
        return -EINVAL;
    }
    seq = calloc(1, sizeof(*seq) + blocks_for(n_ctx) * sizeof(seq->blocks[0]));
    if (!seq) {
        return -ENOMEM;
    }
    seq->pool = pool;
    seq->n_ctx = n_ctx;
    *ret = seq;
    return 0;
}

void seq_free(struct seq *seq)
{
    if (!seq) {
        return;
    }
    seq_trim(seq, 0);
    free(seq);
}

size_t seq_len(const struct seq *seq)
{
    return seq->len;
}

void seq_trim(struct seq *seq, size_t n_blocks)
{
    while (seq->n_blocks > n_blocks) { /* from the end: what is found less often is let go first */
        kv_block_unref(seq->pool, seq->blocks[--seq->n_blocks]);
    }
    seq->n_kept = seq->n_kept < n_blocks ? seq->n_kept : n_blocks;
}

void seq_rewind(struct seq *seq, size_t n)
{
    assert(n <= seq->len);
    seq->len = n;
    seq_trim(seq, blocks_for(n));
    seq->n_kept = seq->n_kept < n / KV_BLOCK ? seq->n_kept : n / KV_BLOCK;
}

/* Is the block that the next position goes to one that must not be written? */
static bool wants_copy(const struct seq *seq)
{
    const size_t i = seq->len / KV_BLOCK;

    if (i >= seq->n_blocks) {
        return false;
    }
    const struct kv_block *b = &seq->pool->blocks[seq->blocks[i]];
    return b->kept || b->n_refs > 1;
}

static void copy_block(struct seq *seq)
{
    struct kv_pool *p = seq->pool;
    uint32_t *at = &seq->blocks[seq->len / KV_BLOCK];
    const uint32_t block = kv_block_take(p), old = *at;

    memcpy(p->mem + block * p->block_bytes, p->mem + old * p->block_bytes, p->block_bytes);
    memcpy(p->blocks[block].ids, p->blocks[old].ids, sizeof(p->blocks[old].ids));
    *at = block;
    kv_block_unref(p, old);
}

bool seq_reserve(struct seq *seq, size_t n)
{
    const struct kv_pool *p = seq->pool;
    const size_t want = blocks_for(n);
    const bool copy = n > seq->len && wants_copy(seq);
    const size_t more = (want > seq->n_blocks ? want - seq->n_blocks : 0) + (copy ? 1 : 0);

    if (n > seq->n_ctx || more > p->n_free + p->n_idle) {
        return false;
    }
    if (copy) {
        copy_block(seq);
    }
    while (seq->n_blocks < want) {
        seq->blocks[seq->n_blocks++] = kv_block_take(seq->pool);
    }
    return true;
}

void seq_accept(struct seq *seq, const int32_t *ids, size_t n)
{
    seq_advance(seq, ids, n);
}

void seq_advance(struct seq *seq, const int32_t *ids, size_t n)
{
    assert(seq->len + n <= seq->n_blocks * KV_BLOCK);
    for (size_t i = 0; i < n; i++, seq->len++) {
        seq->pool->blocks[seq->blocks[seq->len / KV_BLOCK]].ids[seq->len % KV_BLOCK] = ids[i];
    }
    if (seq->keeps) {
        kv_cache_keep(seq);
    }
}
