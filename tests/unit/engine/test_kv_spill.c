/* KV blocks on disk: what was written is found again, by whom it may be, and nothing unsound is
 * believed. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/kv.h"
#include "engine/kv_spill.h"
#include "tests/unit/engine/tiny.h"

#define N_LONG 150u /* ids: four full blocks and some */
#define PLENTY ((uint64_t)64 << 20)

static const struct tiny q8 = {.arch = "qwen3", .format = "Q8_0", .head = "Q8_0"};
static const struct tiny other = {.arch = "llama", .format = "Q8_0", .head = "Q8_0"};
static const uint8_t everybody[KV_SALT], alice[KV_SALT] = {1}, bob[KV_SALT] = {2};

static struct model *model;
static struct engine *engine;
static struct stepper *stepper;

static int setup(void **state)
{
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = 1};
    const struct stepper_limits limits = {.n_tokens_max = TINY_CTX, .n_logits_max = 1};
    (void)state;

    model = tiny_open(&q8);
    assert_int_equal(engine_new(&engine, &options), 0);
    assert_int_equal(stepper_new(&stepper, engine, model, &limits), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stepper_free(stepper);
    engine_free(engine);
    model_free(model);
    return 0;
}

static void on_written(void *arg)
{
    atomic_fetch_add((atomic_uint *)arg, 1);
}

static atomic_uint n_written;

static int file_new(void)
{
    const int fd = memfd_create("kv", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

/* A pool over the file, which stays open for the next one. */
static struct kv_pool *pool_of(const struct model *m, enum kv_type kv, size_t n_blocks, int fd,
                               uint64_t bytes_max)
{
    struct kv_pool *p = NULL;
    const int own = dup(fd);

    assert_int_equal(kv_pool_new(&p, m, kv, n_blocks), 0);
    assert_int_equal(kv_pool_spill(p, own, bytes_max, on_written, &n_written), 0);
    for (unsigned ms = 0; ms < 60000 && !kv_spill_ready(p->spill); ms++) {
        (void)usleep(1000);
    }
    return p;
}

/* Everything that can be is written. */
static void settle(struct kv_pool *p)
{
    do {
        while (!kv_spill_ready(p->spill)) {
            (void)usleep(1000);
        }
    } while (kv_pool_spill_next(p));
}

static void ids_of(unsigned which, int32_t ids[N_LONG])
{
    for (unsigned i = 0; i < N_LONG; i++) {
        ids[i] = (int32_t)((which * 31 + i * i * 7 + 5) % TINY_VOCAB);
    }
}

/* Computes a prompt. Return: positions that were found. */
static size_t prompt(struct kv_pool *p, const uint8_t *salt, unsigned which, float *ret_logits)
{
    int32_t ids[N_LONG];
    struct step_item it = {.n_logits = 1};
    size_t found = 0;

    ids_of(which, ids);
    assert_int_equal(seq_new(&it.seq, p, N_LONG), 0);
    if (salt) {
        do {
            found += seq_attach(it.seq, salt, ids, N_LONG);
        } while (seq_on_disk(it.seq));
        assert_int_equal(seq_len(it.seq), found);
    }
    it.ids = ids + found;
    it.n_ids = N_LONG - found;
    assert_int_equal(stepper_run(stepper, &it, 1, NULL), STEP_OK);
    memcpy(ret_logits, it.logits, TINY_VOCAB * sizeof(float));
    seq_free(it.seq);
    return found;
}

/* Goal: what was evicted comes back bit by bit, in every type of cache, in the same pool and in the
 * next one; the salt still says whose it is. */
static void evicted_blocks_come_back_from_the_file(void **state)
{
    float want[TINY_VOCAB], got[TINY_VOCAB], unused[TINY_VOCAB];
    (void)state;

    for (unsigned kv = KV_F32; kv <= KV_I8; kv++) {
        const int fd = file_new();
        struct kv_pool *p = pool_of(model, (enum kv_type)kv, 5, fd, PLENTY);
        assert_int_equal(prompt(p, NULL, 0, want), 0);
        assert_int_equal(prompt(p, alice, 0, got), 0);
        settle(p);
        for (unsigned round = 0; round < 2; round++) {
            assert_int_equal(prompt(p, bob, 1, unused), round * 4 * KV_BLOCK); /* needs all of it */
            settle(p);
            assert_int_equal(prompt(p, alice, 0, got), 4 * KV_BLOCK);
            assert_memory_equal(got, want, sizeof(want));
        }
        assert_int_equal(prompt(p, bob, 0, got), 0);
        assert_memory_equal(got, want, sizeof(want));
        kv_pool_free(p);

        p = pool_of(model, (enum kv_type)kv, 5, fd, PLENTY);
        assert_int_equal(prompt(p, alice, 0, got), 4 * KV_BLOCK);
        assert_memory_equal(got, want, sizeof(want));
        kv_pool_free(p);
        (void)close(fd);
    }
}

/* Goal: the first prompt after a restart finds what there is, although the index is still being
 * made. Method: nobody waits for it. */
static void the_first_look_into_a_file_waits_for_its_index(void **state)
{
    float want[TINY_VOCAB], got[TINY_VOCAB];
    const int fd = file_new();
    struct kv_pool *p = pool_of(model, KV_F16, 5, fd, PLENTY);
    (void)state;

    assert_int_equal(prompt(p, alice, 0, want), 0);
    settle(p);
    kv_pool_free(p);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(kv_pool_new(&p, model, KV_F16, 5), 0);
        assert_int_equal(kv_pool_spill(p, dup(fd), PLENTY, on_written, &n_written), 0);
        assert_int_equal(prompt(p, alice, 0, got), 4 * KV_BLOCK);
        assert_memory_equal(got, want, sizeof(want));
        kv_pool_free(p);
    }
    (void)close(fd);
}

/* Goal: as long as it is the same that is public; what is no more lies there for nobody. */
static void public_blocks_come_back_for_everybody(void **state)
{
    static const uint8_t label[KV_SALT] = {9, 1}, later[KV_SALT] = {9, 2};
    float want[TINY_VOCAB], got[TINY_VOCAB];
    const int fd = file_new();
    struct kv_pool *p = pool_of(model, KV_F16, 5, fd, PLENTY);
    (void)state;

    kv_pool_publish(p, label);
    assert_int_equal(prompt(p, everybody, 0, want), 0);
    settle(p);
    kv_pool_free(p);
    for (unsigned round = 0; round < 4; round++) {
        p = pool_of(model, KV_F16, 12, fd, PLENTY);
        kv_pool_publish(p, round == 1 ? later : label);
        assert_int_equal(prompt(p, round == 1 ? alice : bob, 0, got),
                         round == 1 ? 0 : 4 * KV_BLOCK);
        assert_memory_equal(got, want, sizeof(want));
        if (round == 2) { /* while it is in use */
            kv_pool_publish(p, later);
            assert_int_equal(prompt(p, bob, 0, got), 0);
            assert_memory_equal(got, want, sizeof(want));
        }
        kv_pool_free(p);
    }
    (void)close(fd);
}

/* Goal: a byte that is wrong anywhere costs a cache miss and nothing else. Method: each slot's head
 * and block bent in turn; then a file of noise, one that is cut off, one for another model, one for
 * another type. */
static void what_is_not_sound_is_computed_anew(void **state)
{
    float want[TINY_VOCAB], got[TINY_VOCAB];
    const int fd = file_new();
    struct kv_pool *p = pool_of(model, KV_F16, 5, fd, PLENTY);
    struct stat st;
    (void)state;

    assert_int_equal(prompt(p, alice, 0, want), 0);
    settle(p);
    const size_t slot = (SPILL_HEAD_BYTES + p->block_bytes + 4095) & ~(size_t)4095;
    kv_pool_free(p);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, SPILL_HEADER_BYTES + 4 * slot);
    uint8_t *sound = malloc((size_t)st.st_size);
    assert_non_null(sound);
    assert_int_equal(pread(fd, sound, (size_t)st.st_size, 0), st.st_size);

    const size_t at[] = {0, 20, 40, 60, SPILL_HEAD_BYTES, SPILL_HEAD_BYTES + 1000};
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = 0; k < ARRAY_SIZE(at); k++) {
            const size_t where = SPILL_HEADER_BYTES + i * slot + at[k];
            const uint8_t bent = sound[where] ^ 0x40;
            assert_int_equal(pwrite(fd, sound, (size_t)st.st_size, 0), st.st_size);
            assert_int_equal(pwrite(fd, &bent, 1, (off_t)where), 1);
            p = pool_of(model, KV_F16, 5, fd, PLENTY);
            assert_int_equal(prompt(p, alice, 0, got), i * KV_BLOCK);
            assert_memory_equal(got, want, sizeof(want));
            kv_pool_free(p);
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        struct model *m = i == 2 ? tiny_open(&other) : model;
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, sound, (size_t)st.st_size, 0), st.st_size);
        if (i == 3) {
            memset(sound + SPILL_HEADER_BYTES, 0x5a, (size_t)st.st_size - SPILL_HEADER_BYTES);
            assert_int_equal(pwrite(fd, sound, (size_t)st.st_size, 0), st.st_size);
            assert_int_equal(pread(fd, sound, 1, 0), 1);
        } else if (i == 1) {
            assert_int_equal(ftruncate(fd, SPILL_HEADER_BYTES + 10), 0);
        }
        p = pool_of(m, i == 0 ? KV_I8 : KV_F16, 5, fd, PLENTY);
        int32_t ids[N_LONG];
        struct seq *seq = NULL;
        ids_of(0, ids);
        assert_int_equal(seq_new(&seq, p, N_LONG), 0);
        assert_int_equal(seq_attach(seq, alice, ids, N_LONG), 0);
        seq_free(seq);
        kv_pool_free(p);
        if (m != model) {
            model_free(m);
        }
    }
    free(sound);
    (void)close(fd);
}

/* Goal: the file keeps to its bound, and of what no longer fits the ends of old chains go first. */
static void a_full_file_forgets_the_oldest_ends(void **state)
{
    float unused[TINY_VOCAB];
    const int fd = file_new();
    struct kv_pool *p = pool_of(model, KV_F16, 5, fd, PLENTY);
    const size_t slot = (SPILL_HEAD_BYTES + p->block_bytes + 4095) & ~(size_t)4095;
    const uint64_t six = SPILL_HEADER_BYTES + 6 * slot;
    struct stat st;
    (void)state;

    kv_pool_free(p);
    p = pool_of(model, KV_F16, 5, fd, six);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(prompt(p, alice, i, unused), 0);
        settle(p);
    }
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, six);
    kv_pool_free(p);
    p = pool_of(model, KV_F16, 12, fd, six);
    assert_int_equal(prompt(p, alice, 0, unused), 2 * KV_BLOCK);
    assert_int_equal(prompt(p, alice, 1, unused), 4 * KV_BLOCK);
    kv_pool_free(p);
    p = pool_of(model, KV_F16, 5, fd,
                SPILL_HEADER_BYTES + 3 * slot); /* a smaller bound than before */
    assert_int_equal(fstat(fd, &st), 0);
    assert_true((uint64_t)st.st_size <= SPILL_HEADER_BYTES + 3 * slot);
    kv_pool_free(p);

    struct kv_pool *none = NULL;
    const int own = dup(fd);
    assert_int_equal(kv_pool_new(&none, model, KV_F16, 5), 0);
    assert_int_equal(kv_pool_spill(none, own, slot, on_written, &n_written),
                     -22); /* no room for one */
    kv_pool_free(none);
    (void)close(own);
    (void)close(fd);
}

/* Goal: a disk that fails ends the writing and nothing else. Method: a file that may only be
 * read. */
static void a_disk_that_fails_is_left_alone(void **state)
{
    float want[TINY_VOCAB], got[TINY_VOCAB];
    struct kv_pool *p = NULL;
    (void)state;

    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(kv_pool_new(&p, model, KV_F16, 5), 0);
    assert_int_equal(kv_pool_spill(p, fd, PLENTY, on_written, &n_written), 0);
    assert_int_equal(kv_pool_spill(p, fd, PLENTY, on_written, &n_written), -22); /* there is one */
    assert_int_equal(prompt(p, alice, 0, want), 0);
    (void)usleep(50000);
    assert_false(kv_pool_spill_next(p));
    assert_int_equal(prompt(p, bob, 1, got), 0);
    assert_int_equal(prompt(p, alice, 0, got), 0);
    assert_memory_equal(got, want, sizeof(want));
    kv_pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evicted_blocks_come_back_from_the_file),
        cmocka_unit_test(the_first_look_into_a_file_waits_for_its_index),
        cmocka_unit_test(public_blocks_come_back_for_everybody),
        cmocka_unit_test(what_is_not_sound_is_computed_anew),
        cmocka_unit_test(a_full_file_forgets_the_oldest_ends),
        cmocka_unit_test(a_disk_that_fails_is_left_alone),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
