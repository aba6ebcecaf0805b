/* The index lives in memory and is made from the heads of the slots when the file is opened, by the
 * thread that then writes: at the engine's side nothing waits for the disk but a read that was
 * asked for, and, right after the file was given, a look that could miss for no other reason than
 * that the index is not whole yet: at most SCAN_WAIT_MS in all.
 *
 * One lock guards the index. The writer has one block at a time, in a copy of its own; while it
 * writes a slot, that slot is in no bucket, and the slot that is being read is not chosen for
 * writing.
 *
 * When all slots are full, the one that was used longest ago is taken. Whoever uses a block uses
 * those before it, too, so writing or reading one makes its whole chain younger than itself: ends
 * of chains go first.
 *
 * A failure of the disk (full, gone) ends the writing, and nothing else. */
#include "engine/kv_spill.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/clock.h"
#include "base/fdio.h"
#include "base/wipe.h"

#define NONE UINT32_MAX
#define NICE_WRITER 15
#define SCAN_WAIT_MS 200u
#define CHAIN_MAX 4096u /* of blocks that one use makes younger: a hostile chain may be a ring */

_Static_assert(sizeof(struct spill_head) <= SPILL_HEAD_BYTES, "a head fits its place");
_Static_assert(sizeof(struct spill_file) <= SPILL_HEADER_BYTES, "the header fits its place");

struct slot {
    uint64_t hash[2], before[2];
    uint64_t used;
    uint32_t next; /* in its bucket */
    bool full;     /* in a bucket */
};

struct kv_spill {
    struct spill_file file;
    int fd; /* owned */
    size_t slot_bytes;
    kv_written_fn *written;
    void *arg; /* borrowed */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t something; /* staged or stop */
    pthread_cond_t whole;     /* scanned */
    uint64_t wait_until_ns;   /* for that */

    /* Under the lock. */
    struct slot *slots; /* owned: (n_slots) */
    uint32_t *buckets;  /* owned: (n_buckets) */
    uint32_t n_slots, n_buckets;
    uint64_t tick;
    uint32_t reading; /* slot, or NONE */
    bool staged;      /* stage is the writer's */
    bool scanned;     /* the index is whole */
    bool stop, failed;

    uint8_t *stage; /* owned: (slot_bytes) */
};

/* ---- the index, under the lock ---- */

static uint32_t *bucket_of(struct kv_spill *s, const uint64_t hash[2])
{
    return &s->buckets[hash[0] & (s->n_buckets - 1)];
}

static uint32_t index_find(struct kv_spill *s, const uint64_t hash[2])
{
    for (uint32_t i = *bucket_of(s, hash); i != NONE; i = s->slots[i].next) {
        if (s->slots[i].hash[0] == hash[0] && s->slots[i].hash[1] == hash[1]) {
            return i;
        }
    }
    return NONE;
}

static void index_leave(struct kv_spill *s, uint32_t i)
{
    uint32_t *at = bucket_of(s, s->slots[i].hash);

    while (*at != i) {
        at = &s->slots[*at].next;
    }
    *at = s->slots[i].next;
    s->slots[i] = (struct slot){0};
}

/* The slot and all before it are younger than any other, the first of the chain youngest. */
static void index_use(struct kv_spill *s, uint32_t i)
{
    for (unsigned n = 0; i != NONE && n < CHAIN_MAX; n++) {
        s->slots[i].used = ++s->tick;
        i = index_find(s, s->slots[i].before);
    }
}

static void index_enter(struct kv_spill *s, uint32_t i, const struct spill_head *head)
{
    struct slot *slot = &s->slots[i];
    uint32_t *bucket = bucket_of(s, head->hash);

    memcpy(slot->hash, head->hash, sizeof(slot->hash));
    memcpy(slot->before, head->before, sizeof(slot->before));
    slot->full = true;
    slot->used = ++s->tick;
    slot->next = *bucket;
    *bucket = i;
}

/* A slot to write to; it is in no bucket any more. NONE: the only one is being read. */
static uint32_t index_take(struct kv_spill *s)
{
    uint32_t worst = NONE;

    for (uint32_t i = 0; i < s->n_slots; i++) {
        if (i != s->reading && (worst == NONE || s->slots[i].used < s->slots[worst].used)) {
            worst = i; /* one that is not full has never been used */
        }
    }
    if (worst != NONE && s->slots[worst].full) {
        index_leave(s, worst);
    }
    return worst;
}

/* ---- the file ---- */

static off_t slot_at(const struct kv_spill *s, uint32_t i)
{
    return (off_t)(SPILL_HEADER_BYTES + (uint64_t)i * s->slot_bytes);
}

static void checksum(const struct spill_head *head, const uint8_t *block, size_t n, uint64_t ret[2])
{
    const size_t from = sizeof(head->check);
    const XXH128_hash_t own = XXH3_128bits((const uint8_t *)head + from, sizeof(*head) - from);
    const XXH128_hash_t all = XXH3_128bits_withSeed(block, n, own.low64 ^ own.high64);

    ret[0] = all.low64;
    ret[1] = all.high64 ^ own.high64;
}

/* ---- the writer ---- */

/* The file as it is: for this very model, or begun anew. */
static bool scan(struct kv_spill *s)
{
    struct spill_file file;
    struct spill_head head;
    struct stat st;

    if (fd_read_all_at(s->fd, &file, sizeof(file), 0) < 0 ||
        memcmp(&file, &s->file, sizeof(file)) != 0) {
        return ftruncate(s->fd, 0) == 0 &&
               fd_write_all_at(s->fd, &s->file, sizeof(s->file), 0) == 0;
    }
    if (fstat(s->fd, &st) < 0) {
        return false;
    }
    if ((uint64_t)st.st_size > (uint64_t)slot_at(s, s->n_slots) &&
        ftruncate(s->fd, slot_at(s, s->n_slots)) < 0) { /* it may be smaller now */
        return false;
    }
    for (uint32_t i = 0; i < s->n_slots && slot_at(s, i + 1) <= st.st_size; i++) {
        if (fd_read_all_at(s->fd, &head, sizeof(head), slot_at(s, i)) < 0) {
            return true;
        }
        (void)pthread_mutex_lock(&s->lock);
        const bool stop = s->stop;
        if ((head.hash[0] | head.hash[1]) != 0 && index_find(s, head.hash) == NONE) {
            index_enter(s, i, &head);
        }
        (void)pthread_mutex_unlock(&s->lock);
        if (stop) {
            return true;
        }
    }
    return true;
}

/* Under the lock but for the write itself. */
static bool write_stage(struct kv_spill *s)
{
    struct spill_head head;

    memcpy(&head, s->stage, sizeof(head));
    const uint32_t i = index_find(s, head.hash) == NONE ? index_take(s) : NONE;
    if (i == NONE) {
        return true;
    }
    (void)pthread_mutex_unlock(&s->lock);
    checksum(&head, s->stage + SPILL_HEAD_BYTES, (size_t)s->file.block_bytes, head.check);
    memcpy(s->stage, &head, sizeof(head));
    const bool ok = fd_write_all_at(s->fd, s->stage, s->slot_bytes, slot_at(s, i)) == 0;
    (void)pthread_mutex_lock(&s->lock);
    if (ok) {
        index_enter(s, i, &head);
        index_use(s, i);
    }
    return ok;
}

static void *writer_main(void *arg)
{
    struct kv_spill *s = arg;

    (void)setpriority(PRIO_PROCESS, 0, NICE_WRITER); /* of this thread alone */
    const bool scanned = scan(s);
    (void)pthread_mutex_lock(&s->lock);
    s->failed = !scanned;
    s->scanned = true;
    (void)pthread_cond_signal(&s->whole);
    while (!s->stop && !s->failed) {
        (void)pthread_mutex_unlock(&s->lock);
        s->written(s->arg); /* ready for the next */
        (void)pthread_mutex_lock(&s->lock);
        while (!s->staged && !s->stop) {
            (void)pthread_cond_wait(&s->something, &s->lock);
        }
        if (s->stop) {
            break;
        }
        s->failed = !write_stage(s);
        wipe(s->stage, s->slot_bytes); /* it may stay so for long, and the block pass to another */
        s->staged = false;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- the engine's side ---- */

static bool spill_size(struct kv_spill *s, uint64_t bytes_max)
{
    const uint64_t slot = (SPILL_HEAD_BYTES + s->file.block_bytes + 4095) & ~(uint64_t)4095;
    uint64_t n = bytes_max > SPILL_HEADER_BYTES ? (bytes_max - SPILL_HEADER_BYTES) / slot : 0;

    n = n < SPILL_SLOTS_MAX ? n : SPILL_SLOTS_MAX;
    s->slot_bytes = (size_t)slot;
    s->n_slots = (uint32_t)n;
    for (s->n_buckets = 1; s->n_buckets < n;) {
        s->n_buckets *= 2;
    }
    return n > 0 && bytes_max < INT64_MAX;
}

static void whole_init(struct kv_spill *s)
{
    pthread_condattr_t attr;

    (void)pthread_condattr_init(&attr); /* none of these can fail on Linux */
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->whole, &attr);
    (void)pthread_condattr_destroy(&attr);
    s->wait_until_ns = clock_now_ns() + SCAN_WAIT_MS * NS_PER_MS;
}

int kv_spill_new(struct kv_spill **ret, const struct spill_file *file, int fd, uint64_t bytes_max,
                 kv_written_fn *written, void *arg)
{
    struct kv_spill *s = calloc(1, sizeof(*s));
    int r = -ENOMEM;

    if (!s) {
        return r;
    }
    s->file = *file;
    s->fd = fd;
    s->written = written;
    s->arg = arg;
    s->reading = NONE;
    if (!spill_size(s, bytes_max)) {
        r = -EINVAL;
        goto out;
    }
    s->slots = calloc(s->n_slots, sizeof(*s->slots));
    s->buckets = malloc(s->n_buckets * sizeof(*s->buckets));
    s->stage = calloc(1, s->slot_bytes);
    if (!s->slots || !s->buckets || !s->stage) {
        goto out;
    }
    memset(s->buckets, 0xff, s->n_buckets * sizeof(*s->buckets)); /* NONE */
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->something, NULL);
    whole_init(s);
    r = -pthread_create(&s->thread, NULL, writer_main, s);
    if (r == 0) {
        *ret = s;
        return 0;
    }
    (void)pthread_cond_destroy(&s->whole);
    (void)pthread_cond_destroy(&s->something);
    (void)pthread_mutex_destroy(&s->lock);
out:
    free(s->slots);
    free(s->buckets);
    free(s->stage);
    free(s);
    return r;
}

void kv_spill_free(struct kv_spill *s)
{
    if (!s) {
        return;
    }
    (void)pthread_mutex_lock(&s->lock);
    s->stop = true;
    (void)pthread_cond_signal(&s->something);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->thread, NULL);
    (void)pthread_cond_destroy(&s->whole);
    (void)pthread_cond_destroy(&s->something);
    (void)pthread_mutex_destroy(&s->lock);
    (void)close(s->fd);
    free(s->slots);
    free(s->buckets);
    wipe_free(s->stage, s->slot_bytes);
    free(s);
}

bool kv_spill_ready(struct kv_spill *s)
{
    (void)pthread_mutex_lock(&s->lock);
    const bool ready = s->scanned && !s->staged && !s->failed;
    (void)pthread_mutex_unlock(&s->lock);
    return ready;
}

void kv_spill_put(struct kv_spill *s, const struct spill_head *head, const uint8_t *block)
{
    memcpy(s->stage, head, sizeof(*head)); /* ready: the writer does not look at it */
    memcpy(s->stage + SPILL_HEAD_BYTES, block, (size_t)s->file.block_bytes);
    (void)pthread_mutex_lock(&s->lock);
    s->staged = true;
    (void)pthread_cond_signal(&s->something);
    (void)pthread_mutex_unlock(&s->lock);
}

bool kv_spill_has(struct kv_spill *s, const uint64_t hash[2])
{
    const struct timespec until = {.tv_sec = (time_t)(s->wait_until_ns / NS_PER_S),
                                   .tv_nsec = (long)(s->wait_until_ns % NS_PER_S)};

    (void)pthread_mutex_lock(&s->lock);
    while (!s->scanned && index_find(s, hash) == NONE &&
           pthread_cond_timedwait(&s->whole, &s->lock, &until) == 0) {
    }
    const bool has = index_find(s, hash) != NONE;
    (void)pthread_mutex_unlock(&s->lock);
    return has;
}

bool kv_spill_get(struct kv_spill *s, const struct spill_head *want, uint8_t *block)
{
    struct spill_head head;
    uint64_t check[2];

    (void)pthread_mutex_lock(&s->lock);
    const uint32_t i = index_find(s, want->hash);
    s->reading = i;
    (void)pthread_mutex_unlock(&s->lock);
    if (i == NONE) {
        return false;
    }
    bool ok = fd_read_all_at(s->fd, &head, sizeof(head), slot_at(s, i)) == 0 &&
              fd_read_all_at(s->fd, block, (size_t)s->file.block_bytes,
                             slot_at(s, i) + SPILL_HEAD_BYTES) == 0;
    if (ok) {
        checksum(&head, block, (size_t)s->file.block_bytes, check);
        ok = memcmp(check, head.check, sizeof(check)) == 0 &&
             memcmp(head.hash, want->hash, sizeof(head.hash)) == 0 &&
             memcmp(head.before, want->before, sizeof(head.before)) == 0 &&
             memcmp(head.ids, want->ids, sizeof(head.ids)) == 0;
    }
    (void)pthread_mutex_lock(&s->lock);
    if (ok) {
        index_use(s, i);
    } else {
        index_leave(s, i);
    }
    s->reading = NONE;
    (void)pthread_mutex_unlock(&s->lock);
    return ok;
}
