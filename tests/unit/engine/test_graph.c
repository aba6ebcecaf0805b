/* The graphs against a forward pass that is written out (reference.h).
 *
 * No reference data is needed, so this holds wherever the tree is built. */
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/engine/reference.h"
#include "tests/unit/engine/tiny.h"

#define N_IDS 40u  /* more than a block of KV */
#define FAR 2e-5   /* of the deviation of a row's logits: rounding to float stays far below */
#define EPS 0.003f /* so large that another epsilon is seen */

static const struct tiny models[] = {
    {.arch = "llama", .format = "F32", .head = "F32"},
    {.arch = "llama", .format = "F32", .head = "F32", .untied = true, .scaling = "linear"},
    {.arch = "qwen3", .format = "F32", .head = "F32"},
    {.arch = "qwen3", .format = "F16", .head = "BF16", .untied = true},
};

/* The file's bytes, with an epsilon that matters; the caller frees. */
static uint8_t *file_of(const struct tiny *t, size_t *ret_n)
{
    static const char key[] = "attention.layer_norm_rms_epsilon";
    const float eps = EPS;
    const int fd = tiny_write(t);
    uint8_t *data = tiny_slurp(fd, ret_n);

    (void)close(fd);
    uint8_t *at = memmem(data, *ret_n, key, sizeof(key) - 1);
    assert_non_null(at);
    memcpy(at + sizeof(key) - 1 + 4, &eps, sizeof(eps)); /* name, type, value */
    return data;
}

static void run(const uint8_t *data, size_t n, const int32_t *ids, float *ret)
{
    const struct engine_options options = {.cpu = CPU_SCALAR, .n_threads = 1};
    const struct stepper_limits limits = {.n_tokens_max = N_IDS, .n_logits_max = N_IDS};
    struct step_item it = {.ids = ids, .n_ids = N_IDS, .n_logits = N_IDS};
    const int fd = tiny_file(data, n);
    struct engine *engine = NULL;
    struct kv_pool *pool = NULL;
    struct stepper *stepper = NULL;
    struct model *m = NULL;

    assert_int_equal(model_open_gguf(&m, fd, NULL, NULL), MODEL_OK);
    (void)close(fd);
    assert_int_equal(engine_new(&engine, &options), 0);
    assert_int_equal(kv_pool_new(&pool, m, KV_F32, 4), 0);
    assert_int_equal(stepper_new(&stepper, engine, m, &limits), 0);
    assert_int_equal(seq_new(&it.seq, pool, N_IDS), 0);
    assert_int_equal(stepper_run(stepper, &it, 1, NULL), STEP_OK);
    memcpy(ret, it.logits, (size_t)N_IDS * TINY_VOCAB * sizeof(*ret));
    seq_free(it.seq);
    stepper_free(stepper);
    kv_pool_free(pool);
    engine_free(engine);
    model_free(m);
}

/* The largest difference in one row, in deviations of the wanted row. */
static double distance(const float *got, const double *want)
{
    double mean = 0, square = 0, most = 0;

    for (size_t i = 0; i < TINY_VOCAB; i++) {
        const double diff = fabs((double)got[i] - want[i]);
        most = diff > most || isnan(diff) ? diff : most;
        mean += want[i] / TINY_VOCAB;
    }
    for (size_t i = 0; i < TINY_VOCAB; i++) {
        square += (want[i] - mean) * (want[i] - mean);
    }
    return most / sqrt(square / TINY_VOCAB);
}

/* Goal: a graph computes what its paper says. Method: float weights, activations and cache, so that
 * nothing but rounding stands between the engine and the written-out pass; every row is compared. */
static void logits_are_those_of_the_written_out_pass(void **state)
{
    static double want[N_IDS * TINY_VOCAB];
    static float got[N_IDS * TINY_VOCAB];
    int32_t ids[N_IDS];
    (void)state;

    for (unsigned i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)((i * i * 7 + 5) % TINY_VOCAB);
    }
    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        double most = 0;
        size_t n;
        uint8_t *data = file_of(&models[i], &n);
        reference_logits(data, n, ids, N_IDS, want);
        run(data, n, ids, got);
        for (size_t row = 0; row < N_IDS; row++) {
            const double far = distance(got + row * TINY_VOCAB, want + row * TINY_VOCAB);
            most = far > most || isnan(far) ? far : most;
        }
        print_message("%s %s: %.2g deviations\n", models[i].arch, models[i].format, most);
        assert_true(most < FAR);
        free(data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_the_written_out_pass),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
