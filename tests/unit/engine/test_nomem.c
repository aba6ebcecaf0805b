/* The engine without memory. */
#include "tests/support/test.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/kv.h"
#include "engine/requant.h"
#include "tests/support/nomem.h"
#include "tests/unit/engine/tiny.h"

#define ALLOCATIONS_MAX 5000u

static const struct tiny q8 = {.arch = "qwen3", .format = "Q8_0", .head = "Q8_0"};
/* with a copy of the head in five bits */
static const struct tiny twice = {
    .arch = "llama", .format = "TQ2_0", .head = "F16", .n_words = 1800, .n_layer = 1};

/* Goal: a failed allocation anywhere is -ENOMEM, leaks nothing and leaves outputs alone. Method:
 * let the first n allocations succeed, for every n until all do; a sanitizer watches for leaks. */
static void pack_and_open(const struct tiny *t)
{
    const int fd = tiny_write(t);
    int r = -12;
    size_t n = 0;

    for (; r == -12; n++) {
        struct model *m = NULL;
        assert_true(n < ALLOCATIONS_MAX);
        nomem_after(n);
        r = model_open_gguf(&m, fd, NULL, NULL);
        (void)nomem_off();
        assert_true((r == MODEL_OK) == (m != NULL));
        model_free(m);
    }
    assert_int_equal(r, MODEL_OK);
    assert_true(n > 10);
    (void)close(fd);
}

static void packing_and_opening_survive_every_failed_allocation(void **state)
{
    (void)state;

    pack_and_open(&q8);
    pack_and_open(&twice);
}

static void writing_in_other_formats_survives_every_failed_allocation(void **state)
{
    static const struct tiny f32 = {.arch = "qwen3", .format = "F32", .head = "F32"};
    const int fd = tiny_write(&f32);
    int r = -12;
    size_t n = 0;
    (void)state;

    for (; r == -12; n++) {
        const int out = memfd_create("requant", MFD_CLOEXEC);
        struct requant *q = NULL;
        assert_true(n < ALLOCATIONS_MAX);
        nomem_after(n);
        r = requant_open(&q, fd, NULL);
        assert_true((r == MODEL_OK) == (q != NULL));
        if (r == MODEL_OK) {
            r = requant_write(q, out, NULL, NULL, NULL);
        }
        (void)nomem_off();
        requant_free(q);
        (void)close(out);
    }
    assert_int_equal(r, MODEL_OK);
    assert_true(n > 10);
    (void)close(fd);
}

static int build_all(const struct model *model)
{
    const struct engine_options options = {.cpu = CPU_SCALAR, .n_threads = 1};
    const struct stepper_limits limits = {.n_tokens_max = 4, .n_logits_max = 1};
    struct engine *engine = NULL;
    struct kv_pool *pool = NULL;
    struct seq *seq = NULL;
    struct stepper *stepper = NULL;
    struct sampler *sampler = NULL;
    struct gguf_writer *w = NULL;
    int r;

    if ((r = engine_new(&engine, &options)) == 0 &&
        (r = kv_pool_new(&pool, model, KV_F16, 2)) == 0 && (r = seq_new(&seq, pool, 40)) == 0 &&
        (r = stepper_new(&stepper, engine, model, &limits)) == 0 &&
        (r = sampler_new(&sampler, TINY_VOCAB)) == 0 && (r = gguf_writer_new(&w)) == 0 &&
        (r = gguf_put_u32(w, "key", 1)) == 0) {
        r = gguf_put_tensor(w, "tensor", "F32", 4, 1, true);
    }
    gguf_writer_free(w);
    sampler_free(sampler);
    stepper_free(stepper);
    seq_free(seq);
    kv_pool_free(pool);
    engine_free(engine);
    return r;
}

static void constructors_survive_every_failed_allocation(void **state)
{
    struct model *m = tiny_open(&q8);
    int r = -12;
    size_t n = 0;
    (void)state;

    for (; r == -12; n++) {
        assert_true(n < ALLOCATIONS_MAX);
        nomem_after(n);
        r = build_all(m);
        (void)nomem_off();
    }
    assert_int_equal(r, 0);
    assert_true(n > 8);
    model_free(m);
}

static void step_and_sample(const struct tiny *t, size_t n_top)
{
    const struct engine_options options = {.cpu = CPU_SCALAR, .n_threads = 2};
    const struct stepper_limits limits = {.n_tokens_max = 40, .n_logits_max = 1};
    const struct sampler_params params = {
        .temperature = 1, .top_k = 5, .top_p = 0.9f, .min_p = 0.01f, .repeat_penalty = 1.1f};
    struct model *m = tiny_open(t);
    const uint32_t n_vocab = vocab_size(model_vocab(m));
    int32_t ids[40] = {1, 2, 3};
    struct step_item it = {.ids = ids, .n_ids = 40, .n_logits = 1};
    struct engine *engine = NULL;
    struct kv_pool *pool = NULL;
    struct stepper *stepper = NULL;
    struct sampler *sampler = NULL;
    struct sampler_choice choice;

    assert_int_equal(engine_new(&engine, &options), 0);
    assert_int_equal(kv_pool_new(&pool, m, KV_F16, 4), 0);
    assert_int_equal(seq_new(&it.seq, pool, 100), 0);
    assert_int_equal(stepper_new(&stepper, engine, m, &limits), 0);
    assert_int_equal(sampler_new(&sampler, n_vocab), 0);
    nomem_after(0);
    for (uint64_t i = 0; i < 30; i++) {
        sampler_ask(&params, n_vocab, ids, 1, n_top, &it);
        const int r = stepper_run(stepper, &it, 1, NULL);
        const int s = sampler_pick(sampler, &params, it.logits, ids, 1, i, n_top, &choice);
        if (r != STEP_OK || s != SAMPLER_OK) {
            (void)nomem_off();
            fail_msg("step %d, sample %d", r, s);
        }
        ids[0] = choice.id;
        it.n_ids = 1;
    }
    (void)nomem_off();
    seq_free(it.seq);
    sampler_free(sampler);
    stepper_free(stepper);
    kv_pool_free(pool);
    engine_free(engine);
    model_free(m);
}

/* Goal: the token path takes no memory. Method: none is left once everything is built; all logits,
 * and the largest alone. */
static void steps_and_samples_allocate_nothing(void **state)
{
    (void)state;

    step_and_sample(&q8, 5);
    step_and_sample(&twice, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_and_opening_survive_every_failed_allocation),
        cmocka_unit_test(writing_in_other_formats_survives_every_failed_allocation),
        cmocka_unit_test(constructors_survive_every_failed_allocation),
        cmocka_unit_test(steps_and_samples_allocate_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
