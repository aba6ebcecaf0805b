#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/engine/tiny.h"

#define N_IDS 35u /* more than a block of KV */
#define N_BATCH 8u

static const struct tiny models[] = {
    {.arch = "llama", .format = "F32", .head = "F32"},
    {.arch = "qwen3", .format = "F16", .head = "F16", .untied = true},
    {.arch = "llama", .format = "BF16", .head = "BF16"},
    {.arch = "qwen3", .format = "Q8_0", .head = "Q8_0"},
    {.arch = "qwen3", .format = "Q1_0", .head = "Q8_0"},
    {.arch = "qwen3", .format = "Q1_0", .head = "Q1_0"},
    {.arch = "llama", .format = "TQ2_0", .head = "F16", .untied = true},
    {.arch = "llama", .format = "TQ2_0", .head = "TQ2_0"},
};

struct rig {
    struct engine *engine;
    struct kv_pool *pool;
    struct stepper *stepper;
};

static struct rig rig_up(const struct model *m, enum cpu_level cpu, unsigned n_threads,
                         enum kv_type kv)
{
    const struct engine_options options = {.cpu = cpu, .n_threads = n_threads};
    const struct stepper_limits limits = {.n_tokens_max = N_BATCH * N_IDS, .n_logits_max = N_IDS};
    struct rig r = {0};

    assert_int_equal(engine_new(&r.engine, &options), 0);
    assert_int_equal(kv_pool_new(&r.pool, m, kv, 4 * N_BATCH), 0);
    assert_int_equal(stepper_new(&r.stepper, r.engine, m, &limits), 0);
    return r;
}

static void rig_down(struct rig *r)
{
    stepper_free(r->stepper);
    kv_pool_free(r->pool);
    engine_free(r->engine);
}

static void ids_of(unsigned which, int32_t ids[N_IDS])
{
    for (unsigned i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)((which * 31 + i * i * 7 + 5) % TINY_VOCAB);
    }
}

/* All rows of one prompt, cut into steps of at most `chunk` tokens. */
static void run_chunks(struct rig *r, unsigned which, size_t chunk, float *ret)
{
    int32_t ids[N_IDS];
    struct step_item it = {0};

    ids_of(which, ids);
    assert_int_equal(seq_new(&it.seq, r->pool, N_IDS), 0);
    for (size_t at = 0; at < N_IDS; at += it.n_ids) {
        it.ids = ids + at;
        it.n_ids = N_IDS - at < chunk ? N_IDS - at : chunk;
        it.n_logits = it.n_ids;
        assert_int_equal(stepper_run(r->stepper, &it, 1, NULL), STEP_OK);
        memcpy(ret + at * TINY_VOCAB, it.logits, it.n_ids * TINY_VOCAB * sizeof(*ret));
        assert_int_equal(seq_len(it.seq), at + it.n_ids);
    }
    seq_free(it.seq);
}

/* The last row of prompt 0, which shares its steps with seven others. */
static void run_batch(struct rig *r, float *ret)
{
    static int32_t ids[N_BATCH][N_IDS];
    struct step_item items[N_BATCH] = {0};
    size_t at = 0;

    for (unsigned i = 0; i < N_BATCH; i++) {
        ids_of(i, ids[i]);
        assert_int_equal(seq_new(&items[i].seq, r->pool, N_IDS), 0);
    }
    while (at < N_IDS) {
        const size_t n = at + 10 < N_IDS ? 10 : N_IDS - at;
        for (unsigned i = 0; i < N_BATCH; i++) {
            items[i].ids = ids[i] + at;
            items[i].n_ids = i == 0 ? n : 1 + i % 3;
            items[i].n_logits = at + n == N_IDS;
        }
        assert_int_equal(stepper_run(r->stepper, items, N_BATCH, NULL), STEP_OK);
        at += n;
    }
    memcpy(ret, items[0].logits, TINY_VOCAB * sizeof(*ret));
    for (unsigned i = 0; i < N_BATCH; i++) {
        seq_free(items[i].seq);
    }
}

/* Goal: one prompt has one answer, to the bit. Method: for every format, with one cache or the
 * other, the rows of a prompt run at the scalar level in one step on one thread are what every
 * other way must give: each CPU level of the machine, two threads, several ways of cutting, and a
 * batch of eight. */
static void logits_never_depend_on_how_they_were_run(void **state)
{
    static const size_t chunks[] = {1, 7, 32};
    enum { BYTES = N_IDS * TINY_VOCAB * sizeof(float) };
    static float want[N_IDS * TINY_VOCAB], got[N_IDS * TINY_VOCAB];
    static float last[TINY_VOCAB];
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        struct model *m = tiny_open(&models[i]);
        const enum kv_type kv = i % 2 ? KV_F32 : KV_F16;
        struct rig r = rig_up(m, CPU_SCALAR, 1, kv);
        run_chunks(&r, 0, N_IDS, want);
        assert_true(want[0] != want[1]);
        rig_down(&r);
        for (unsigned level = 0; level < CPU_LEVELS; level++) {
            for (unsigned n_threads = 1; n_threads <= 2; n_threads++) {
                if (!cpu_level_present((enum cpu_level)level)) {
                    continue;
                }
                r = rig_up(m, (enum cpu_level)level, n_threads, kv);
                for (size_t c = n_threads - 1; c < ARRAY_SIZE(chunks); c++) {
                    memset(got, 0, BYTES);
                    engine_threads_limit(r.engine, c % 2); /* of two threads one may rest */
                    run_chunks(&r, 0, chunks[c], got);
                    assert_memory_equal(got, want, BYTES);
                }
                run_batch(&r, last);
                assert_memory_equal(last, want + (size_t)(N_IDS - 1) * TINY_VOCAB,
                                    TINY_VOCAB * sizeof(float));
                rig_down(&r);
            }
        }
        model_free(m);
    }
}

/* Goal: tokens beyond those that a product takes at once are no others. Method: a long prompt in
 * one step and in short ones, on a quantized model, whose activations have scales of their own. */
static void a_long_step_is_many_short_ones(void **state)
{
    enum { N_LONG = 150, N_SHORT = 6, N_ROWS = 5 };
    static float want[N_ROWS * TINY_VOCAB];
    struct model *m = tiny_open(&models[3]);
    struct rig r = rig_up(m, CPU_SCALAR, 1, KV_F16);
    struct step_item it = {0};
    int32_t ids[N_LONG];
    (void)state;

    for (unsigned i = 0; i < N_LONG; i++) {
        ids[i] = (int32_t)((i * i * 7 + 5) % TINY_VOCAB);
    }
    assert_int_equal(seq_new(&it.seq, r.pool, N_LONG), 0);
    for (size_t at = 0; at < N_LONG; at += N_SHORT) {
        it.ids = ids + at;
        it.n_ids = N_SHORT;
        it.n_logits = N_ROWS;
        assert_int_equal(stepper_run(r.stepper, &it, 1, NULL), STEP_OK);
    }
    memcpy(want, it.logits, sizeof(want));
    seq_rewind(it.seq, 0);
    it.ids = ids;
    it.n_ids = N_LONG;
    assert_int_equal(stepper_run(r.stepper, &it, 1, NULL), STEP_OK);
    assert_memory_equal(it.logits, want, sizeof(want));
    seq_free(it.seq);
    rig_down(&r);
    model_free(m);
}

/* Goal: nothing that a step needs lies in the scratch from one step to the next. Method: after each
 * step of a prompt it is taken away, and the logits are what they were. */
static void scratch_may_be_given_back_between_steps(void **state)
{
    enum { CHUNK = 5 };
    static float want[N_IDS * TINY_VOCAB], got[CHUNK * TINY_VOCAB];
    int32_t ids[N_IDS];
    (void)state;

    ids_of(0, ids);
    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        struct model *m = tiny_open(&models[i]);
        struct rig r = rig_up(m, CPU_SCALAR, 2, KV_F16);
        struct step_item it = {.n_ids = CHUNK, .n_logits = CHUNK};
        run_chunks(&r, 0, CHUNK, want);
        assert_int_equal(seq_new(&it.seq, r.pool, N_IDS), 0);
        for (size_t at = 0; at < N_IDS; at += CHUNK) {
            assert_true(stepper_give_back(r.stepper) > 0);
            assert_int_equal(stepper_give_back(r.stepper), 0);
            it.ids = ids + at;
            assert_int_equal(stepper_run(r.stepper, &it, 1, NULL), STEP_OK);
            memcpy(got, it.logits, sizeof(got));
            assert_memory_equal(got, want + at * TINY_VOCAB, sizeof(got));
        }
        seq_free(it.seq);
        rig_down(&r);
        model_free(m);
    }
}

/* Goal: a sequence that was rewound goes on as if it had never gone further. */
static void a_rewound_sequence_forgets(void **state)
{
    struct model *m = tiny_open(&models[3]);
    struct rig r = rig_up(m, CPU_SCALAR, 1, KV_F16);
    int32_t ids[N_IDS], other[N_IDS];
    struct step_item it = {.ids = ids, .n_ids = N_IDS, .n_logits = 1};
    float want[TINY_VOCAB];
    (void)state;

    ids_of(0, ids);
    ids_of(5, other);
    assert_int_equal(seq_new(&it.seq, r.pool, 2 * N_IDS), 0);
    assert_int_equal(stepper_run(r.stepper, &it, 1, NULL), STEP_OK);
    memcpy(want, it.logits, sizeof(want));
    seq_rewind(it.seq, 20);
    it.ids = other;
    assert_int_equal(stepper_run(r.stepper, &it, 1, NULL), STEP_OK);
    assert_memory_not_equal(want, it.logits, sizeof(want));
    seq_rewind(it.seq, 20);
    it.ids = ids + 20;
    it.n_ids = N_IDS - 20;
    assert_int_equal(stepper_run(r.stepper, &it, 1, NULL), STEP_OK);
    assert_memory_equal(want, it.logits, sizeof(want));
    seq_free(it.seq);
    rig_down(&r);
    model_free(m);
}

static void refused_steps_change_nothing(void **state)
{
    struct model *m = tiny_open(&models[3]);
    struct rig r = rig_up(m, CPU_SCALAR, 1, KV_F16);
    int32_t ids[N_IDS];
    struct step_item items[STEP_ITEMS_MAX + 1] = {0}, *it = &items[0];
    struct seq *hog = NULL, *small = NULL;
    atomic_bool cancel = true;
    (void)state;

    ids_of(0, ids);
    assert_int_equal(seq_new(&it->seq, r.pool, N_IDS), 0);
    it->ids = ids;
    it->n_ids = 5;
    it->n_logits = 1;
    ids[3] = (int32_t)TINY_VOCAB;
    assert_int_equal(stepper_run(r.stepper, items, 1, NULL), -22);
    ids[3] = -1;
    assert_int_equal(stepper_run(r.stepper, items, 1, NULL), -22);
    ids[3] = 3;
    assert_int_equal(stepper_run(r.stepper, items, 0, NULL), -22);
    it->n_logits = 6;
    assert_int_equal(stepper_run(r.stepper, items, 1, NULL), -22);
    it->n_logits = 1;
    items[1] = items[0]; /* one sequence twice */
    assert_int_equal(stepper_run(r.stepper, items, 2, NULL), -22);
    it->n_ids = N_BATCH * N_IDS + 1;
    assert_int_equal(stepper_run(r.stepper, items, 1, NULL), -22);
    it->n_ids = 5;
    assert_int_equal(stepper_run(r.stepper, items, 1, &cancel), STEP_CANCELLED);
    assert_int_equal(seq_len(it->seq), 0);

    assert_int_equal(seq_new(&small, r.pool, 3), 0);
    items[1] = (struct step_item){.seq = small, .ids = ids, .n_ids = 4};
    assert_int_equal(stepper_run(r.stepper, items, 2, NULL), STEP_KV_FULL); /* its n_ctx */
    seq_rewind(it->seq, 0);
    assert_int_equal(seq_new(&hog, r.pool, TINY_CTX), 0);
    assert_true(seq_reserve(hog, TINY_CTX));
    items[1] = (struct step_item){.seq = hog, .ids = ids, .n_ids = 1};
    while (kv_pool_free_blocks(r.pool) > 0) { /* leave nothing for the first item */
        struct seq *more = NULL;
        assert_int_equal(seq_new(&more, r.pool, KV_BLOCK), 0);
        assert_true(seq_reserve(more, 1));
        items[kv_pool_free_blocks(r.pool) + 2].seq = more;
    }
    assert_int_equal(stepper_run(r.stepper, items, 2, NULL), STEP_KV_FULL);
    assert_int_equal(seq_len(hog), 0);
    assert_int_equal(seq_len(it->seq), 0);
    for (size_t i = 2; i <= STEP_ITEMS_MAX; i++) {
        seq_free(items[i].seq);
    }
    assert_int_equal(stepper_run(r.stepper, items, 2, NULL), STEP_OK); /* and all is well again */
    assert_int_equal(seq_len(it->seq), 5);
    assert_int_equal(seq_len(hog), 1);
    seq_free(small);
    seq_free(hog);
    seq_free(it->seq);
    rig_down(&r);
    model_free(m);
}

static void absurd_steppers_are_refused(void **state)
{
    const struct engine_options options = {.cpu = CPU_SCALAR, .n_threads = 1};
    const struct stepper_limits bad[] = {{0, 1}, {1, 0}, {SIZE_MAX, 1}, {1, SIZE_MAX / 2}};
    struct model *m = tiny_open(&models[3]);
    struct engine *e = NULL;
    struct stepper *st = NULL;
    (void)state;

    assert_int_equal(engine_new(&e, &options), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(stepper_new(&st, e, m, &bad[i]), -22);
        assert_null(st);
    }
    engine_free(e);
    model_free(m);
}

/* Goal: rope scalings matter and are told apart (their values are held to recorded ones
 * elsewhere). */
static void rope_scalings_change_the_logits(void **state)
{
    static const char *const scalings[] = {NULL, "linear", "yarn"};
    static float rows[3][N_IDS * TINY_VOCAB];
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        struct tiny t = models[0];
        t.scaling = scalings[i];
        struct model *m = tiny_open(&t);
        struct rig r = rig_up(m, CPU_SCALAR, 1, KV_F32);
        run_chunks(&r, 1, N_IDS, rows[i]);
        rig_down(&r);
        model_free(m);
    }
    assert_memory_not_equal(rows[0], rows[1], sizeof(rows[0]));
    assert_memory_not_equal(rows[0], rows[2], sizeof(rows[0]));
    assert_memory_not_equal(rows[1], rows[2], sizeof(rows[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_never_depend_on_how_they_were_run),
        cmocka_unit_test(a_long_step_is_many_short_ones),
        cmocka_unit_test(scratch_may_be_given_back_between_steps),
        cmocka_unit_test(a_rewound_sequence_forgets),
        cmocka_unit_test(refused_steps_change_nothing),
        cmocka_unit_test(absurd_steppers_are_refused),
        cmocka_unit_test(rope_scalings_change_the_logits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
