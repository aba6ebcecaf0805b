/* Blocks that can be found again. A full block is entered under a hash of (salt, the chain before
 * it, its ids); a sequence that begins with the same ids under the same salt takes it as it is,
 * since a position's keys and values depend on nothing but the ids up to it. The hash only leads to
 * a candidate: salt, ids and the parent, which is a block and not a hash, are compared, so by
 * induction over the chain all ids before it are equal too, and a collision leads nowhere.
 *
 * A sequence that holds a block holds all those before it. So an idle block has only idle ones
 * behind it, and evicting from the ends of chains never leaves a block without its parent.
 *
 * Public blocks have a salt too, the pool's label, which changes with what is public: so what was
 * found by everybody once is found by nobody under the next label, on the disk neither. In memory
 * such blocks go at once, with all that lies behind them; a sequence that holds some goes on, and
 * keeps nothing any more.
 *
 * What is least worth goes first: what was used longest ago, where a hit counts as much as a whole
 * pool of blocks let go since, at most eight times. Public blocks are what the operator asked for,
 * and go last. */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xxhash.h>

#include "engine/image.h"
#include "engine/kv.h"
#include "engine/kv_spill.h"
#include "engine/model.h"
#include "engine/resident.h"

#define FETCH_BYTES ((size_t)8 << 20) /* one call reads from the disk, or one block */
#define HITS_MAX 8u
#define VALUE_PUBLIC (UINT64_C(1) << 62)

static const uint8_t everybodys[KV_SALT]; /* stands for the pool's label */

/* What is looked for: the block of these ids behind that one. */
struct wanted {
    const uint8_t *salt;
    uint32_t parent; /* KV_NONE: the first of a chain */
    const int32_t *ids;
    uint64_t hash[2];
};

static void wanted_hash(const struct kv_pool *p, struct wanted *w)
{
    struct {
        uint8_t salt[KV_SALT];
        uint64_t before[2];
        int32_t ids[KV_BLOCK];
    } in = {0};

    memcpy(in.salt, w->salt, KV_SALT);
    if (w->parent != KV_NONE) {
        memcpy(in.before, p->blocks[w->parent].hash, sizeof(in.before));
    }
    memcpy(in.ids, w->ids, sizeof(in.ids));
    const XXH128_hash_t h = XXH3_128bits(&in, sizeof(in));
    w->hash[0] = h.low64;
    w->hash[1] = h.high64;
}

static uint32_t *bucket_of(struct kv_pool *p, const uint64_t hash[2])
{
    return &p->buckets[hash[0] & (p->n_buckets - 1)];
}

/* Sets the hash; KV_NONE when it is not there. */
static uint32_t find(struct kv_pool *p, struct wanted *w)
{
    wanted_hash(p, w);
    for (uint32_t i = *bucket_of(p, w->hash); i != KV_NONE; i = p->blocks[i].next) {
        const struct kv_block *b = &p->blocks[i];
        if (b->hash[0] == w->hash[0] && b->hash[1] == w->hash[1] && b->parent == w->parent &&
            memcmp(b->salt, w->salt, KV_SALT) == 0 && memcmp(b->ids, w->ids, sizeof(b->ids)) == 0) {
            return i;
        }
    }
    return KV_NONE;
}

static void enter(struct kv_pool *p, uint32_t block, const struct wanted *w)
{
    struct kv_block *b = &p->blocks[block];
    uint32_t *bucket = bucket_of(p, w->hash);

    assert(!b->kept && b->n_refs > 0);
    b->kept = true;
    memcpy(b->salt, w->salt, KV_SALT);
    memcpy(b->hash, w->hash, sizeof(b->hash));
    b->parent = w->parent;
    b->n_children = b->n_hits = 0;
    b->used = ++p->tick;
    b->on_disk = false;
    p->n_unspilled++;
    b->next = *bucket;
    *bucket = block;
    if (w->parent != KV_NONE) {
        p->blocks[w->parent].n_children++;
    }
}

static void leave(struct kv_pool *p, uint32_t block)
{
    struct kv_block *b = &p->blocks[block];
    uint32_t *at = bucket_of(p, b->hash);

    assert(b->kept && b->n_children == 0);
    while (*at != block) {
        at = &p->blocks[*at].next;
    }
    *at = b->next;
    if (b->parent != KV_NONE) {
        p->blocks[b->parent].n_children--;
    }
    p->n_unspilled -= b->on_disk ? 0 : 1;
    b->kept = false;
}

static bool is_public(const struct kv_pool *p, const uint8_t salt[KV_SALT])
{
    return memcmp(salt, p->label, KV_SALT) == 0;
}

/* ---- eviction ---- */

static uint64_t value_of(const struct kv_pool *p, const struct kv_block *b)
{
    const uint64_t hits = b->n_hits < HITS_MAX ? b->n_hits : HITS_MAX;

    return b->used + hits * p->n_blocks + (is_public(p, b->salt) ? VALUE_PUBLIC : 0);
}

void kv_cache_evict(struct kv_pool *pool)
{
    uint32_t worst = KV_NONE;
    uint64_t worst_value = UINT64_MAX;

    /* Some thousand blocks at most, for each of them a memset of a whole block: a scan is no
     * cost. */
    for (uint32_t i = 0; i < pool->n_blocks; i++) {
        const struct kv_block *b = &pool->blocks[i];
        if (!b->kept || b->n_refs > 0 || b->n_children > 0) {
            continue;
        }
        const uint64_t value = value_of(pool, b);
        if (value < worst_value) {
            worst = i;
            worst_value = value;
        }
    }
    assert(worst != KV_NONE); /* the chain of an idle block ends in one */
    leave(pool, worst);
    pool->n_idle--;
    kv_block_free(pool, worst);
}

/* The whole pages of so many blocks from `first` on. Their contents are zeros or as they were: a
 * block is cleared before it is used again. */
static void drop_pages(const struct kv_pool *p, size_t first, size_t n)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)p->mem + first * p->block_bytes + page - 1) & ~(page - 1);
    const uintptr_t end = ((uintptr_t)p->mem + (first + n) * p->block_bytes) & ~(page - 1);

    if (n > 0 && end > begin) {
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
    }
}

uint64_t kv_pool_give_back(struct kv_pool *pool, uint64_t bytes)
{
    const uint64_t before = kv_pool_resident(pool);
    size_t first = 0;

    for (uint64_t n = bytes / pool->block_bytes; n > 0 && pool->n_idle > 0; n--) {
        kv_cache_evict(pool);
    }
    for (size_t i = 0; i <= pool->n_blocks; i++) {
        const struct kv_block *b = i < pool->n_blocks ? &pool->blocks[i] : NULL;
        if (!b || b->n_refs > 0 || b->kept) {
            drop_pages(pool, first, i - first);
            first = i + 1;
        }
    }
    const uint64_t after = kv_pool_resident(pool);
    return before > after ? before - after : 0;
}

/* ---- what is public ---- */

static bool begins_public(const struct kv_pool *p, uint32_t block)
{
    while (p->blocks[block].parent != KV_NONE) {
        block = p->blocks[block].parent;
    }
    return is_public(p, p->blocks[block].salt);
}

/* The end of a chain, and what is an end then. */
static void forget_chain(struct kv_pool *p, uint32_t block)
{
    while (block != KV_NONE && p->blocks[block].n_children == 0) {
        const uint32_t parent = p->blocks[block].parent;
        leave(p, block);
        if (p->blocks[block].n_refs == 0) {
            p->n_idle--;
            kv_block_free(p, block);
        }
        block = parent;
    }
}

void kv_pool_publish(struct kv_pool *pool, const uint8_t label[KV_SALT])
{
    if (is_public(pool, label)) {
        return;
    }
    for (uint32_t i = 0; i < pool->n_blocks; i++) {
        const struct kv_block *b = &pool->blocks[i];
        if (b->kept && b->n_children == 0 && begins_public(pool, i)) {
            forget_chain(pool, i);
        }
    }
    memcpy(pool->label, label, KV_SALT);
}

/* Does seq hold blocks that were public and cannot be found any more? What it computes behind them
 * cannot either. */
static bool chain_lost(const struct seq *seq)
{
    return seq->n_kept > 0 && !seq->pool->blocks[seq->blocks[0]].kept;
}

/* ---- keeping ---- */

void kv_cache_keep(struct seq *seq)
{
    struct kv_pool *p = seq->pool;

    if (chain_lost(seq)) {
        return;
    }
    while ((seq->n_kept + 1) * KV_BLOCK <= seq->len) {
        const size_t i = seq->n_kept;
        const uint32_t block = seq->blocks[i];
        struct wanted w = {.salt = seq->salt,
                           .parent = i > 0 ? seq->blocks[i - 1] : KV_NONE,
                           .ids = p->blocks[block].ids};
        const uint32_t same = find(p, &w);

        if (same == KV_NONE) {
            enter(p, block, &w);
        } else { /* somebody computed the same beside us */
            kv_block_ref(p, same);
            seq->blocks[i] = same;
            kv_block_unref(p, block);
        }
        seq->n_kept++;
    }
}

/* ---- finding ---- */

/* How far a chain goes on from seq's own blocks: by public blocks as far as they go, if these may
 * come first, then by the salt's own. Takes what it finds when `take`. Return: blocks found. */
static size_t follow(struct seq *seq, const int32_t *ids, size_t n_blocks, bool public_first,
                     bool take)
{
    struct kv_pool *p = seq->pool;
    const size_t begin = seq->n_kept;
    uint32_t parent = begin > 0 ? seq->blocks[begin - 1] : KV_NONE;
    bool in_public = public_first && (parent == KV_NONE || is_public(p, p->blocks[parent].salt));
    size_t i = begin;

    for (; i < n_blocks; i++) {
        struct wanted w = {.parent = parent, .ids = ids + i * KV_BLOCK};
        uint32_t block = KV_NONE;
        if (in_public) {
            w.salt = p->label;
            block = find(p, &w);
            in_public = block != KV_NONE;
        }
        if (block == KV_NONE) {
            w.salt = seq->salt;
            block = find(p, &w);
        }
        if (block == KV_NONE) {
            break;
        }
        if (take) {
            kv_block_ref(p, block);
            p->blocks[block].n_hits++;
            p->blocks[block].used = ++p->tick;
            seq->blocks[i] = block;
            seq->n_blocks = seq->n_kept = i + 1;
        }
        parent = block;
    }
    return i - begin;
}

/* ---- the disk ---- */

static struct spill_head head_of(const struct kv_pool *p, const struct wanted *w)
{
    struct spill_head h = {0};

    memcpy(h.hash, w->hash, sizeof(h.hash));
    memcpy(h.ids, w->ids, sizeof(h.ids));
    if (w->parent != KV_NONE) {
        memcpy(h.before, p->blocks[w->parent].hash, sizeof(h.before));
    }
    return h;
}

/* Is the next block of these ids on the disk, of the seq's own salt or the public one? */
static bool stored(const struct seq *seq, const int32_t *ids, struct wanted *ret)
{
    const struct kv_pool *p = seq->pool;
    const size_t i = seq->n_kept;
    const uint32_t parent = i > 0 ? seq->blocks[i - 1] : KV_NONE;
    const uint8_t *const salts[] = {seq->salt, p->label};
    const bool in_public = parent == KV_NONE || is_public(p, p->blocks[parent].salt);

    for (unsigned k = 0; k < (in_public ? 2 : 1); k++) {
        *ret = (struct wanted){.salt = salts[k], .parent = parent, .ids = ids + i * KV_BLOCK};
        wanted_hash(p, ret);
        if (kv_spill_has(p->spill, ret->hash)) {
            return true;
        }
    }
    return false;
}

/* Blocks from the disk behind those that seq has. Return: how many. */
static size_t fetch(struct seq *seq, const int32_t *ids, size_t n_blocks)
{
    struct kv_pool *p = seq->pool;
    const size_t begin = seq->n_kept, most = 1 + FETCH_BYTES / p->block_bytes;
    struct wanted w;

    seq->on_disk = false;
    while (p->spill && seq->n_kept < n_blocks && p->n_free + p->n_idle > 0 &&
           stored(seq, ids, &w)) {
        if (seq->n_kept - begin == most) {
            seq->on_disk = true;
            break;
        }
        const struct spill_head want = head_of(p, &w);
        const uint32_t block = kv_block_take(p);
        struct kv_block *b = &p->blocks[block];
        if (!kv_spill_get(p->spill, &want, p->mem + block * p->block_bytes)) {
            kv_block_unref(p, block); /* zeroed before another use, as every block */
            continue;
        }
        memcpy(b->ids, w.ids, sizeof(b->ids));
        enter(p, block, &w);
        b->on_disk = true;
        b->n_hits = 1;
        p->n_unspilled--;
        seq->blocks[seq->n_kept] = block;
        seq->n_blocks = ++seq->n_kept;
    }
    return seq->n_kept - begin;
}

int kv_pool_spill(struct kv_pool *pool, int fd, uint64_t bytes_max, kv_written_fn *written,
                  void *arg)
{
    struct spill_file file = {.content = pool->model->header->hash,
                              .kv_type = (uint32_t)pool->type,
                              .block_positions = KV_BLOCK,
                              .block_bytes = pool->block_bytes};

    if (pool->spill) {
        return -EINVAL;
    }
    memcpy(file.magic, SPILL_MAGIC, sizeof(file.magic));
    file.check = XXH3_64bits(&file, offsetof(struct spill_file, check));
    return kv_spill_new(&pool->spill, &file, fd, bytes_max, written, arg);
}

bool kv_pool_spill_next(struct kv_pool *pool)
{
    if (!pool->spill || pool->n_unspilled == 0 || !kv_spill_ready(pool->spill)) {
        return false;
    }
    for (uint32_t i = 0; i < pool->n_blocks;
         i++) { /* a block is of no use without those before it */
        struct kv_block *b = &pool->blocks[i];
        if (!b->kept || b->on_disk || (b->parent != KV_NONE && !pool->blocks[b->parent].on_disk)) {
            continue;
        }
        struct wanted w = {.parent = b->parent, .ids = b->ids};
        memcpy(w.hash, b->hash, sizeof(w.hash));
        const struct spill_head head = head_of(pool, &w);
        kv_spill_put(pool->spill, &head, pool->mem + i * pool->block_bytes);
        b->on_disk = true;
        pool->n_unspilled--;
        return true;
    }
    return false;
}

bool seq_on_disk(const struct seq *seq)
{
    return seq->on_disk;
}

size_t seq_attach(struct seq *seq, const uint8_t salt[KV_SALT], const int32_t *ids, size_t n)
{
    const size_t n_blocks = n > 0 ? (n - 1) / KV_BLOCK : 0;
    const size_t len = seq->len;
    const bool everybody = memcmp(salt, everybodys, KV_SALT) == 0;

    assert(!seq->keeps || everybody || memcmp(seq->salt, salt, KV_SALT) == 0);
    assert(n <= seq->n_ctx);
    if (!seq->keeps) {
        memcpy(seq->salt, everybody ? seq->pool->label : salt, KV_SALT);
    }
    seq->keeps = true;
    seq->on_disk = false;
    kv_cache_keep(seq);
    if (len % KV_BLOCK != 0 || n_blocks <= seq->n_kept || chain_lost(seq)) {
        return 0;
    }
    seq_trim(seq, seq->n_kept); /* blocks that a step reserved and did not fill */
    const bool public_first =
        follow(seq, ids, n_blocks, true, false) > follow(seq, ids, n_blocks, false, false);
    size_t found = follow(seq, ids, n_blocks, public_first, true);
    found += fetch(seq, ids, n_blocks);
    seq->len += found * KV_BLOCK;
    return found * KV_BLOCK;
}
