/* The cache of int8 against the one of floats. */
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/engine/tiny.h"

#define N_IDS 70u /* more than two blocks of KV */

/* Rounded to one in 127 of its largest value, a key or a value is off by some thousandths; what
 * that makes of the logits was measured as 0.02 of their deviation at most. */
#define FAR 0.05

static const struct tiny models[] = {
    {.arch = "llama", .format = "F32", .head = "F32"},
    {.arch = "qwen3", .format = "F32", .head = "F32", .uneven = true},
    {.arch = "bitnet", .format = "F32", .head = "F32"},
};

static void run(const struct model *m, enum cpu_level level, enum kv_type kv, float *ret)
{
    const struct engine_options options = {.cpu = level, .n_threads = 1};
    const struct stepper_limits limits = {.n_tokens_max = N_IDS, .n_logits_max = N_IDS};
    int32_t ids[N_IDS];
    struct step_item it = {.ids = ids, .n_ids = N_IDS, .n_logits = N_IDS};
    struct engine *engine = NULL;
    struct kv_pool *pool = NULL;
    struct stepper *stepper = NULL;

    for (unsigned i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)((i * i * 7 + 5) % TINY_VOCAB);
    }
    assert_int_equal(engine_new(&engine, &options), 0);
    assert_int_equal(kv_pool_new(&pool, m, kv, 3), 0);
    assert_int_equal(stepper_new(&stepper, engine, m, &limits), 0);
    assert_int_equal(seq_new(&it.seq, pool, N_IDS), 0);
    assert_int_equal(stepper_run(stepper, &it, 1, NULL), STEP_OK);
    memcpy(ret, it.logits, (size_t)N_IDS * TINY_VOCAB * sizeof(*ret));
    seq_free(it.seq);
    stepper_free(stepper);
    kv_pool_free(pool);
    engine_free(engine);
}

/* Root of the mean square of the difference in one row, in deviations of the wanted row. */
static double distance(const float *got, const float *want)
{
    double mean = 0, square = 0, diff = 0;

    for (size_t i = 0; i < TINY_VOCAB; i++) {
        mean += (double)want[i] / TINY_VOCAB;
        diff += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
    }
    for (size_t i = 0; i < TINY_VOCAB; i++) {
        square += ((double)want[i] - mean) * ((double)want[i] - mean);
    }
    return sqrt(diff / square);
}

/* Goal: a cache of int8 holds what one of floats holds, to its own precision: every position has
 * the scale that it was kept with. Method: every row of a prompt with one and with the other. */
static void a_cache_of_int8_is_near_one_of_floats(void **state)
{
    static float want[N_IDS * TINY_VOCAB], got[N_IDS * TINY_VOCAB];
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        struct model *m = tiny_open(&models[i]);
        double most = 0;
        run(m, CPU_SCALAR, KV_F32, want);
        run(m, CPU_SCALAR, KV_I8, got);
        for (size_t row = 0; row < N_IDS; row++) {
            const double far = distance(got + row * TINY_VOCAB, want + row * TINY_VOCAB);
            most = far > most || isnan(far) ? far : most;
        }
        print_message("%s: %.2g deviations\n", models[i].arch, most);
        assert_true(most < FAR);
        assert_true(most > 0);
        model_free(m);
    }
}

/* Goal: integer attention gives one answer at every CPU level. */
static void a_cache_of_int8_gives_the_same_bits_at_every_level(void **state)
{
    static float want[N_IDS * TINY_VOCAB], got[N_IDS * TINY_VOCAB];
    struct model *m = tiny_open(&models[1]);
    (void)state;

    run(m, CPU_SCALAR, KV_I8, want);
    for (unsigned level = 0; level < CPU_LEVELS; level++) {
        if (cpu_level_present((enum cpu_level)level)) {
            run(m, (enum cpu_level)level, KV_I8, got);
            assert_memory_equal(got, want, sizeof(want));
        }
    }
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cache_of_int8_is_near_one_of_floats),
        cmocka_unit_test(a_cache_of_int8_gives_the_same_bits_at_every_level),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
