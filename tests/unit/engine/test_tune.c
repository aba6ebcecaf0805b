#include "tests/support/test.h"

#include <string.h>

#include "engine/tune.h"
#include "tests/unit/engine/tiny.h"

#define N_IDS 20u

/* ---- choosing, by a cost function with noise ---- */

/* What counts {4, 3, 2, 1} truly cost, and how much a measurement errs: uniform up to `noise`, with
 * a hiccup that slows a whole round now and then, and now and then a single figure. */
struct fake {
    double cost[4];
    double noise;
};

static double draw(uint64_t *at)
{
    return ((double)tiny_random((*at)++) + 1) / 2;
}

static struct tune_samples samples_of(const struct fake *f, size_t n_rounds, uint64_t seed)
{
    struct tune_samples s = {.n_counts = 4, .n_rounds = n_rounds, .counts = {4, 3, 2, 1}};
    uint64_t at = seed * 1000;

    for (size_t r = 0; r < n_rounds; r++) {
        const double all = draw(&at) < 0.1 ? 3 : 1;
        for (size_t i = 0; i < 4; i++) {
            const double one = draw(&at) < 0.05 ? 2 : 1;
            s.ns[r][i] = f->cost[i] * all * one * (1 + f->noise * draw(&at));
        }
    }
    return s;
}

/* Times that a count whose true cost is above the default's was chosen. */
static unsigned worse_chosen(const struct fake *f, size_t n_rounds)
{
    unsigned n = 0;

    for (uint64_t seed = 0; seed < 2000; seed++) {
        const struct tune_samples s = samples_of(f, n_rounds, seed);
        const unsigned chosen = tune_choose(&s);
        for (size_t i = 0; i < 4; i++) {
            n += s.counts[i] == chosen && f->cost[i] > f->cost[0];
        }
    }
    return n;
}

/* Goal: a tuning is never worse than the fixed count. Method: machines whose other counts cost a
 * little or much more, with noise far above the difference, measured two thousand times each. */
static void noise_never_chooses_what_is_worse(void **state)
{
    static const struct fake fakes[] = {
        {{1.0, 1.02, 1.05, 1.9}, 0.04}, {{1.0, 1.01, 1.01, 1.01}, 0.02},
        {{1.0, 1.3, 1.6, 3.0}, 0.30},   {{1.0, 1.05, 1.05, 1.05}, 0.08},
        {{1.0, 1.02, 1.3, 2.0}, 0.0},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(fakes); i++) {
        for (size_t n = 1; n <= TUNE_ROUNDS_MAX; n++) {
            assert_true(worse_chosen(&fakes[i], n) <= (n < 9 ? 2 : 0));
        }
    }
}

/* Goal: what is better beyond noise is found, and the best of it. */
static void what_is_clearly_better_is_chosen(void **state)
{
    static const struct fake fake = {{1.0, 0.8, 0.9, 1.5}, 0.04};
    unsigned n = 0;
    (void)state;

    for (uint64_t seed = 0; seed < 1000; seed++) {
        const struct tune_samples s = samples_of(&fake, TUNE_ROUNDS_MAX, seed);
        n += tune_choose(&s) == 3;
    }
    assert_true(n > 900);
}

static void too_few_rounds_or_too_small_a_margin_leave_the_default(void **state)
{
    static const struct fake better = {{1.0, 0.5, 0.9, 1.5}, 0.0}, alike = {{1, 0.98, 0.98, 1}, 0};
    struct tune_samples s = {.n_counts = 1, .counts = {4}};
    (void)state;

    assert_int_equal(tune_choose(&s), 4); /* nothing was measured */
    for (size_t r = 0; r < TUNE_ROUNDS_MAX; r++) {
        s = (struct tune_samples){.n_counts = 2, .n_rounds = r, .counts = {4, 3}};
        for (size_t i = 0; i < r; i++) {
            s.ns[i][0] = better.cost[0];
            s.ns[i][1] = better.cost[1];
        }
        assert_int_equal(tune_choose(&s), r < 5 ? 4 : 3);
        for (size_t i = 0; i < r; i++) {
            s.ns[i][1] = alike.cost[1];
        }
        assert_int_equal(tune_choose(&s), 4);
        for (size_t i = 0; i < r; i++) {
            s.ns[i][1] = 0; /* given up */
        }
        assert_int_equal(tune_choose(&s), 4);
    }
}

static void what_is_slower_twice_is_given_up(void **state)
{
    struct tune_samples s = {.n_counts = 2, .n_rounds = 1, .counts = {4, 1}};
    (void)state;

    s.ns[0][0] = s.ns[1][0] = s.ns[2][0] = 1;
    s.ns[0][1] = s.ns[1][1] = 2;
    assert_false(tune_hopeless(&s, 1));
    s.n_rounds = 2;
    assert_true(tune_hopeless(&s, 1));
    assert_false(tune_hopeless(&s, 0)); /* the default is not slower than itself */
    s.n_rounds = 3;
    s.ns[2][1] = 1.01;
    assert_false(tune_hopeless(&s, 1));
}

static void saturation_is_the_fewest_streams_near_the_best_rate(void **state)
{
    /* tokens: 1, 2, 4, 8, 16 */
    static const double memory[] = {1, 1, 1, 1, 1}, products[] = {1, 2, 4, 8, 16};
    static const double both[] = {10, 11, 15, 26, 52}, broken[] = {1, 0, 2, 0, 0};
    static const double none[] = {0, 0, 0, 0, 0}, one[] = {0, 0, 0, 5, 0};
    (void)state;

    assert_int_equal(tune_saturation(memory), 16);
    assert_int_equal(tune_saturation(products), 1);
    assert_int_equal(tune_saturation(both), 8);
    assert_int_equal(tune_saturation(broken), 4);
    assert_int_equal(tune_saturation(none), 0);
    assert_int_equal(tune_saturation(one), 0);
}

/* ---- keeping ---- */

static struct engine *engine_of(enum cpu_level cpu, unsigned n, unsigned most)
{
    const struct engine_options options = {.cpu = cpu, .n_threads = n, .n_threads_most = most};
    struct engine *e = NULL;

    assert_int_equal(engine_new(&e, &options), 0);
    return e;
}

/* Goal: what is read is what was written, on the machine that wrote it; of anything else nothing is
 * believed. Method: every bit turned, every length, and engines that differ in one thing. */
static void a_kept_tuning_is_believed_only_whole_and_at_home(void **state)
{
    const struct tuning t = {.n_generate = 2, .n_prompt = 3, .n_streams = 8, .disturbed = 1};
    struct engine *e = engine_of(CPU_SCALAR, 2, 3);
    uint8_t bytes[TUNING_BYTES], turned[TUNING_BYTES + 1] = {0};
    struct tuning got = {0};
    (void)state;

    tuning_write(&t, e, bytes);
    assert_int_equal(tuning_read(&got, e, bytes, sizeof(bytes)), TUNING_OK);
    assert_memory_equal(&got, &t, sizeof(t));

    got = (struct tuning){.n_generate = 77};
    for (size_t bit = 0; bit < 8 * TUNING_BYTES; bit++) {
        memcpy(turned, bytes, sizeof(bytes));
        turned[bit / 8] = (uint8_t)(turned[bit / 8] ^ 1u << bit % 8);
        assert_int_equal(tuning_read(&got, e, turned, TUNING_BYTES), TUNING_MALFORMED);
    }
    memcpy(turned, bytes, sizeof(bytes));
    for (size_t n = 0; n <= sizeof(turned); n++) {
        assert_true(n == TUNING_BYTES || tuning_read(&got, e, turned, n) == TUNING_MALFORMED);
    }
    assert_int_equal(got.n_generate, 77); /* untouched */

    static const struct tuning wrong[] = {{0, 1, 1}, {1, 0, 1},  {4, 1, 1},
                                          {1, 4, 1}, {1, 1, 65}, {1, 1, 1, 2}};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        tuning_write(&wrong[i], e, turned);
        assert_int_equal(tuning_read(&got, e, turned, TUNING_BYTES), TUNING_MALFORMED);
    }

    struct engine *others[] = {engine_of(CPU_SCALAR, 1, 3), engine_of(CPU_SCALAR, 2, 4),
                               engine_of(cpu_level_best(), 2, 3)};
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        if (i < 2 || cpu_level_best() != CPU_SCALAR) {
            assert_int_equal(tuning_read(&got, others[i], bytes, sizeof(bytes)), TUNING_STALE);
        }
        engine_free(others[i]);
    }
    engine_free(e);
}

/* ---- measuring ---- */

struct rig {
    struct model *model;
    struct engine *engine;
    struct kv_pool *pool;
    struct stepper *stepper;
};

static struct rig rig_up(size_t n_blocks, size_t n_tokens_max)
{
    const struct tiny tiny = {.arch = "qwen3", .format = "Q1_0", .head = "Q8_0"};
    const struct stepper_limits limits = {.n_tokens_max = n_tokens_max, .n_logits_max = 1};
    struct rig r = {.model = tiny_open(&tiny), .engine = engine_of(cpu_level_best(), 2, 3)};

    assert_int_equal(kv_pool_new(&r.pool, r.model, KV_F16, n_blocks), 0);
    assert_int_equal(stepper_new(&r.stepper, r.engine, r.model, &limits), 0);
    return r;
}

static void rig_down(struct rig *r)
{
    stepper_free(r->stepper);
    kv_pool_free(r->pool);
    engine_free(r->engine);
    model_free(r->model);
}

/* The last row of a prompt and of a token after it. */
static void run(struct rig *r, float *ret)
{
    int32_t ids[N_IDS + 1];
    struct step_item it = {.ids = ids, .n_ids = N_IDS, .n_logits = 1};

    for (unsigned i = 0; i <= N_IDS; i++) {
        ids[i] = (int32_t)(i * 37 % TINY_VOCAB);
    }
    assert_int_equal(seq_new(&it.seq, r->pool, N_IDS + 1), 0);
    assert_int_equal(stepper_run(r->stepper, &it, 1, NULL), STEP_OK);
    memcpy(ret, it.logits, TINY_VOCAB * sizeof(*ret));
    it.ids = ids + N_IDS;
    it.n_ids = 1;
    assert_int_equal(stepper_run(r->stepper, &it, 1, NULL), STEP_OK);
    memcpy(ret + TINY_VOCAB, it.logits, TINY_VOCAB * sizeof(*ret));
    seq_free(it.seq);
}

/* Goal: no number depends on a tuning or on its measurement. Method: the same steps before, between
 * slices, after, and with every pair of counts. */
static void numbers_do_not_depend_on_the_tuning(void **state)
{
    static float want[2 * TINY_VOCAB], got[2 * TINY_VOCAB];
    struct rig r = rig_up(4, 64);
    struct tuner *t = NULL;
    struct tuning found = {0};
    size_t n_slices = 0;
    (void)state;

    run(&r, want);
    assert_int_equal(tuner_new(&t, r.stepper, r.pool, UINT64_MAX), 0);
    while (tuner_slice(t)) {
        assert_int_equal(kv_pool_free_blocks(r.pool), 4);
        if (n_slices++ % 20 == 0) {
            run(&r, got);
            assert_memory_equal(got, want, sizeof(want));
        }
    }
    assert_true(n_slices > TUNE_ROUNDS_MAX * TUNE_SIZES);
    assert_true(tuner_result(t, &found));
    assert_in_range(found.n_generate, 1, 3);
    assert_in_range(found.n_prompt, 1, 3);
    assert_in_range(found.n_streams, found.disturbed ? 0 : 1, 16);
    tuner_free(t);
    for (uint8_t i = 0; i < 9; i++) {
        stepper_tune(r.stepper, &(struct tuning){.n_generate = 1 + i % 3, .n_prompt = 1 + i / 3});
        memset(got, 0, sizeof(got));
        run(&r, got);
        assert_memory_equal(got, want, sizeof(want));
    }
    rig_down(&r);
}

/* Goal: a table has what was measured. Method: all rounds; each count and size has a figure, or was
 * given up. */
static void a_table_shows_every_count_and_size(void **state)
{
    struct rig r = rig_up(1, 64);
    struct tune_table table;
    struct tuner *t = NULL;
    (void)state;

    assert_int_equal(tuner_new(&t, r.stepper, r.pool, UINT64_MAX), 0);
    while (tuner_slice(t)) {
    }
    tuner_table(t, &table);
    assert_int_equal(table.n_rounds, TUNE_ROUNDS_MAX);
    assert_int_equal(table.n_counts, 3);
    assert_int_equal(table.counts[0], 2);
    assert_true(table.one_ns[0] > 0 && table.many_ns[0] > 0 && table.spent_ns > 0);
    for (size_t i = 0; i < TUNE_SIZES; i++) {
        assert_true(table.size_ns[i] > 0);
    }
    tuner_free(t);
    rig_down(&r);
}

/* Goal: measuring takes nobody's place and no more than its time. */
static void without_room_or_time_nothing_is_measured(void **state)
{
    struct rig r = rig_up(1, 4);
    struct tuning found = {.n_generate = 9};
    struct tuner *t = NULL;
    struct seq *all = NULL;
    (void)state;

    assert_int_equal(seq_new(&all, r.pool, 32), 0);
    assert_true(seq_reserve(all, 32));
    assert_int_equal(tuner_new(&t, r.stepper, r.pool, UINT64_MAX), 0);
    while (tuner_slice(t)) {
    }
    assert_false(tuner_result(t, &found));
    assert_int_equal(found.n_generate, 2);
    assert_int_equal(found.n_streams, 0);
    tuner_free(t);
    seq_free(all);

    assert_int_equal(tuner_new(&t, r.stepper, r.pool, 1), 0);
    assert_true(tuner_slice(t));
    assert_false(tuner_slice(t));
    assert_false(tuner_result(t, &found));
    tuner_free(t);

    assert_int_equal(tuner_new(&t, r.stepper, r.pool, UINT64_MAX), 0); /* steps of four tokens */
    while (tuner_slice(t)) {
    }
    assert_true(tuner_result(t, &found));
    assert_int_equal(found.n_prompt, 2); /* never measured */
    tuner_free(t);
    rig_down(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noise_never_chooses_what_is_worse),
        cmocka_unit_test(what_is_clearly_better_is_chosen),
        cmocka_unit_test(too_few_rounds_or_too_small_a_margin_leave_the_default),
        cmocka_unit_test(what_is_slower_twice_is_given_up),
        cmocka_unit_test(saturation_is_the_fewest_streams_near_the_best_rate),
        cmocka_unit_test(a_kept_tuning_is_believed_only_whole_and_at_home),
        cmocka_unit_test(numbers_do_not_depend_on_the_tuning),
        cmocka_unit_test(a_table_shows_every_count_and_size),
        cmocka_unit_test(without_room_or_time_nothing_is_measured),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
