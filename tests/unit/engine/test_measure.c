#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/measure.h"
#include "tests/unit/engine/tiny.h"

#define N_IDS 40u

struct rig {
    struct model *model;
    struct engine *engine;
    struct kv_pool *pool;
    struct stepper *stepper;
};

static struct rig rig_up(enum kv_type kv)
{
    const struct tiny tiny = {.arch = "qwen3", .format = "Q1_0", .head = "Q8_0"};
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = 2};
    const struct stepper_limits limits = {.n_tokens_max = N_IDS, .n_logits_max = 1};
    struct rig r = {.model = tiny_open(&tiny)};

    assert_int_equal(engine_new(&r.engine, &options), 0);
    assert_int_equal(kv_pool_new(&r.pool, r.model, kv, 8), 0);
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

/* The last row of logits of N_IDS tokens after what seq has. */
static void run(struct rig *r, struct seq *seq, float *ret)
{
    int32_t ids[N_IDS];
    struct step_item it = {.seq = seq, .ids = ids, .n_ids = N_IDS, .n_logits = 1};

    for (unsigned i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)(i * 37 % TINY_VOCAB);
    }
    assert_int_equal(stepper_run(r->stepper, &it, 1, NULL), STEP_OK);
    memcpy(ret, it.logits, TINY_VOCAB * sizeof(*ret));
}

/* What a step reads beside its products: the vectors of floats. */
static uint64_t norms_bytes(const struct model *m)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < model_tensor_count(m); i++) {
        struct model_tensor t;
        model_tensor(m, i, &t);
        sum += t.n_rows == 1 ? t.n_cols * sizeof(float) : 0;
    }
    return sum;
}

/* Goal: the parts are all there is, and measuring changes nothing.
 * Method: the same prompt without a profile, with one, and without again; the sum of the parts
 * against the clock around the step, and the facts against what the model is said to cost. */
static void a_profile_adds_up_and_changes_nothing(void **state)
{
    struct rig r = rig_up(KV_F16);
    const struct model_use use = {.kv = KV_F16,
                                  .n_seqs = 1,
                                  .n_ctx = 64,
                                  .n_threads = 2,
                                  .limits = {.n_tokens_max = N_IDS, .n_logits_max = 1}};
    struct model_cost cost;
    struct step_profile profile, before;
    float plain[TINY_VOCAB], timed[TINY_VOCAB];
    uint64_t ns = 0, weights = 0;
    struct seq *seq;
    (void)state;

    assert_int_equal(model_cost(r.model, &use, &cost), 0);
    assert_int_equal(seq_new(&seq, r.pool, 256), 0);
    run(&r, seq, plain);
    seq_rewind(seq, 0);
    stepper_profile(r.stepper, &profile);
    const uint64_t start = clock_now_ns();
    run(&r, seq, timed);
    const uint64_t elapsed = clock_now_ns() - start;
    assert_memory_equal(plain, timed, sizeof(plain));
    for (unsigned i = 0; i < STEP_PARTS; i++) {
        assert_true(profile.ns[i] > 0);
        assert_true(profile.wait_ns[i] <= profile.ns[i]);
        ns += profile.ns[i];
        weights += profile.weights[i];
    }
    assert_true(ns <= elapsed);
    assert_int_equal(weights + norms_bytes(r.model), cost.token_weights);
    assert_true(profile.macs[PART_HEAD] > 0 && profile.macs[PART_NORM] == 0);

    stepper_profile(r.stepper, NULL);
    before = profile;
    seq_rewind(seq, 0);
    run(&r, seq, timed);
    assert_memory_equal(plain, timed, sizeof(plain));
    assert_memory_equal(&before, &profile, sizeof(before));
    seq_free(seq);
    rig_down(&r);
}

/* Goal: a filled sequence is like one that was computed, in length, memory and limits.
 * Method: fill, ask for what does not fit, and compute a prompt behind it in each type. */
static void a_filled_sequence_goes_on_like_any(void **state)
{
    static const enum kv_type types[] = {KV_F32, KV_F16, KV_I8};
    (void)state;

    for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
        struct rig r = rig_up(types[t]);
        float after[TINY_VOCAB], alone[TINY_VOCAB];
        struct seq *seq, *other;
        assert_int_equal(seq_new(&seq, r.pool, 200), 0);
        assert_int_equal(seq_new(&other, r.pool, 256), 0);
        assert_true(seq_fill(seq, 100));
        assert_int_equal(seq_len(seq), 100);
        assert_int_equal(kv_pool_free_blocks(r.pool), 4);
        assert_false(seq_fill(seq, 99));
        assert_false(seq_fill(seq, 201));
        assert_false(seq_fill(other, 129)); /* five blocks, and four are free */
        assert_int_equal(seq_len(seq), 100);
        assert_int_equal(kv_pool_free_blocks(r.pool), 4);
        run(&r, seq, after);
        assert_int_equal(seq_len(seq), 100 + N_IDS);
        for (unsigned i = 0; i < TINY_VOCAB; i++) {
            assert_true(isfinite(after[i]));
        }
        run(&r, other, alone);
        assert_memory_not_equal(after, alone,
                                sizeof(after)); /* what was filled in is attended to */
        seq_free(seq);
        seq_free(other);
        rig_down(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_profile_adds_up_and_changes_nothing),
        cmocka_unit_test(a_filled_sequence_goes_on_like_any),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
