#include "tests/support/test.h"

#include <errno.h>

#include "tests/unit/engine/tiny.h"

#define N_CTX 40u /* more than one block of KV, less than two */

static const struct model_use usual = {.kv = KV_F16,
                                       .n_seqs = 3,
                                       .n_ctx = N_CTX,
                                       .limits = {.n_tokens_max = 8, .n_logits_max = 3},
                                       .n_threads = 2};

static uint64_t matrix_bytes(const struct model *m, bool with_embedding)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < model_tensor_count(m); i++) {
        struct model_tensor t;
        model_tensor(m, i, &t);
        if (with_embedding || strcmp(t.name, "token_embd.weight") != 0) {
            sum += t.n_cols * t.n_rows * sizeof(float);
        }
    }
    return sum;
}

/* Goal: what is predicted is what is taken.
 * Method: the same sizes from the objects themselves, for a tied and an untied model in every KV
 * type. */
static void the_prediction_is_what_the_parts_say_of_themselves(void **state)
{
    (void)state;

    for (unsigned round = 0; round < 4; round++) {
        const struct tiny t = {
            .arch = "qwen3", .format = "F32", .head = "F32", .untied = (round & 1) != 0};
        struct model *m = tiny_open(&t);
        struct model_use use = usual;
        struct engine *engine = NULL;
        struct stepper *stepper = NULL;
        struct model_cost cost;
        struct model_info info;

        use.kv = round & 2 ? KV_F32 : KV_F16;
        model_info(m, &info);
        assert_int_equal(model_cost(m, &use, &cost), 0);
        assert_int_equal(cost.weights + cost.tables, info.packed_bytes);
        assert_int_equal(cost.kv, 3 * 2 * kv_block_bytes(m, use.kv));
        assert_int_equal(cost.token_kv, kv_block_bytes(m, use.kv) / KV_BLOCK * N_CTX);
        assert_int_equal(cost.sampler, sampler_bytes(info.n_vocab));

        const struct engine_options options = {.cpu = CPU_SCALAR, .n_threads = use.n_threads};
        assert_int_equal(engine_new(&engine, &options), 0);
        assert_int_equal(stepper_new(&stepper, engine, m, &use.limits), 0);
        assert_int_equal(cost.scratch, stepper_bytes(stepper));
        stepper_free(stepper);
        engine_free(engine);

        /* an untied embedding is kept but not read */
        assert_int_equal(cost.token_weights, matrix_bytes(m, !t.untied));
        model_free(m);
    }
}

static void a_use_that_would_be_refused_is_refused(void **state)
{
    const struct tiny t = {.arch = "llama", .format = "F32", .head = "F32"};
    struct model *m = tiny_open(&t);
    struct model_cost cost;
    (void)state;

    for (unsigned i = 0; i < 6; i++) {
        struct model_use use = usual;
        switch (i) {
        case 0:
            use.n_seqs = 0;
            break;
        case 1:
            use.n_seqs = SIZE_MAX;
            break;
        case 2:
            use.n_ctx = 0;
            break;
        case 3:
            use.n_ctx = (size_t)MODEL_CTX_MAX + 1;
            break;
        case 4:
            use.limits.n_tokens_max = SIZE_MAX;
            break;
        default:
            use.limits.n_logits_max = 0;
            break;
        }
        assert_int_equal(model_cost(m, &use, &cost), -EINVAL);
    }
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_prediction_is_what_the_parts_say_of_themselves),
        cmocka_unit_test(a_use_that_would_be_refused_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
