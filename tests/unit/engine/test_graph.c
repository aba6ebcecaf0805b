/* The graphs against a forward pass that is written out (reference.h).
 *
 * No reference data is needed, so this holds wherever the tree is built. */
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/format.h"
#include "tests/unit/engine/reference.h"
#include "tests/unit/engine/tiny.h"

#define N_IDS 33u  /* more than a block of KV */
#define N_CLEAR 7u /* first tokens of a prompt that no rounding turns: prompts are chosen so */
#define PROMPTS 100u
#define EPS 0.003f /* so large that another epsilon is seen */

/* An activation nearer to a tie than TIE, in int8 steps, may be rounded the other way in floats
 * than in double, and moves the logits from that token on by a few percent. */
#define TIE 3e-5
#define FAR 1e-5    /* of the deviation of a row's logits, where nothing is turned */
#define FAR_TIE 0.3 /* where something may be */

/* One model at one CPU level. */
struct rig {
    struct engine *engine;
    struct kv_pool *pool;
    struct stepper *stepper;
};

static void rig_init(struct rig *r, const struct model *m, enum cpu_level level)
{
    const struct engine_options options = {.cpu = level, .n_threads = 1};
    const struct stepper_limits limits = {.n_tokens_max = N_IDS, .n_logits_max = N_IDS};

    assert_int_equal(engine_new(&r->engine, &options), 0);
    assert_int_equal(kv_pool_new(&r->pool, m, KV_F32, 4), 0);
    assert_int_equal(stepper_new(&r->stepper, r->engine, m, &limits), 0);
}

static void rig_deinit(struct rig *r)
{
    stepper_free(r->stepper);
    kv_pool_free(r->pool);
    engine_free(r->engine);
}

/* All rows of n ids, in a sequence of their own. */
static void rig_run(struct rig *r, const int32_t *ids, size_t n, float *ret)
{
    struct step_item it = {.ids = ids, .n_ids = n, .n_logits = n};

    assert_int_equal(seq_new(&it.seq, r->pool, N_IDS), 0);
    assert_int_equal(stepper_run(r->stepper, &it, 1, NULL), STEP_OK);
    memcpy(ret, it.logits, n * TINY_VOCAB * sizeof(*ret));
    seq_free(it.seq);
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

static double most_of(const float *got, const double *want, size_t from, size_t to)
{
    double most = 0;

    for (size_t row = from; row < to; row++) {
        const double far = distance(got + row * TINY_VOCAB, want + row * TINY_VOCAB);
        most = far > most || isnan(far) ? far : most;
    }
    return most;
}

/* ---- one model ---- */

/* A prompt, and what a model should say to it. */
struct wanted {
    int32_t ids[N_IDS];
    double logits[N_IDS * TINY_VOCAB], tie[N_IDS];
    size_t n_clear; /* rows before the first that may be turned */
};

static size_t clear_rows(const double *tie, size_t n)
{
    size_t ret = 0;

    while (ret < n && tie[ret] >= TIE) {
        ret++;
    }
    return ret;
}

/* The first prompt whose first tokens are clear, and its logits. */
static void find_wanted(struct wanted *w, const uint8_t *gguf, size_t n)
{
    unsigned prompt = 0;

    do {
        assert_true(prompt < PROMPTS);
        for (unsigned i = 0; i < N_IDS; i++) {
            w->ids[i] = (int32_t)((prompt * 31 + i * i * 7 + 5) % TINY_VOCAB);
        }
        reference_logits(gguf, n, w->ids, N_CLEAR, REFERENCE_INT8, w->logits, w->tie);
        prompt++;
    } while (clear_rows(w->tie, N_CLEAR) < N_CLEAR);
    reference_logits(gguf, n, w->ids, N_IDS, REFERENCE_INT8, w->logits, w->tie);
    w->n_clear = clear_rows(w->tie, N_IDS);
}

/* Every row of a prompt of one token, of a few, and of more than a block of KV. */
static void check_level(const struct model *m, enum cpu_level level, const struct wanted *w,
                        double *most, double *most_turned)
{
    static const size_t lengths[] = {1, N_CLEAR, N_IDS};
    static float got[N_IDS * TINY_VOCAB];
    struct rig r;

    rig_init(&r, m, level);
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        const size_t n = lengths[i], n_clear = n < w->n_clear ? n : w->n_clear;
        rig_run(&r, w->ids, n, got);
        const double clear = most_of(got, w->logits, 0, n_clear);
        const double turned = most_of(got, w->logits, n_clear, n);
        *most = clear > *most || isnan(clear) ? clear : *most;
        *most_turned = turned > *most_turned || isnan(turned) ? turned : *most_turned;
    }
    rig_deinit(&r);
}

static void check(struct tiny t)
{
    static struct wanted w;
    double most = 0, most_turned = 0;
    struct model *m = NULL;
    struct diag d = {0};
    size_t n;

    const bool signs = t.inputs && strcmp(t.inputs, "binary") == 0;

    t.eps = EPS;
    const int fd = tiny_write(&t);
    uint8_t *gguf = tiny_slurp(fd, &n);
    find_wanted(&w, gguf, n);
    if (model_open_gguf(&m, fd, NULL, &d) != MODEL_OK) {
        fail_msg("%s %s: %s", t.arch, t.format, d.text);
    }
    (void)close(fd);
    for (unsigned level = 0; level < CPU_LEVELS; level++) {
        if (cpu_level_present(level)) {
            check_level(m, (enum cpu_level)level, &w, &most, &most_turned);
        }
    }
    print_message("%s %s+%s %s%s: %.2g deviations in %zu rows, %.2g in %zu\n", t.arch, t.format,
                  t.head, t.scaling ? t.scaling : "", t.inputs ? t.inputs : "", most, w.n_clear,
                  most_turned, N_IDS - w.n_clear);
    assert_true(most < FAR);
    assert_true(most_turned < FAR_TIE || signs); /* another sign turns others in its turn */
    model_free(m);
    free(gguf);
}

/* ---- models ---- */

static const struct tiny models[] = {
    {.arch = "llama", .format = "F32", .head = "F32"},
    {.arch = "llama", .format = "F32", .head = "F32", .untied = true, .uneven = true},
    {.arch = "llama", .format = "F32", .head = "F16", .scaling = "linear"},
    {.arch = "llama", .format = "F32", .head = "F32", .factors = true},
    {.arch = "llama", .format = "Q8_0", .head = "Q8_0", .uneven = true},
    {.arch = "qwen3", .format = "F32", .head = "F32", .uneven = true},
    {.arch = "qwen3", .format = "F16", .head = "BF16", .untied = true},
    {.arch = "qwen3", .format = "F16", .head = "F16", .scaling = "yarn"},
    {.arch = "qwen3", .format = "Q1_0", .head = "Q1_0"},
    {.arch = "qwen3", .format = "Q1_0", .head = "Q8_0", .inputs = "binary", .uneven = true},
    {.arch = "qwen3", .format = "I2_S", .head = "Q8_0", .inputs = "binary", .uneven = true},
    {.arch = "qwen3", .format = "TQ2_0", .head = "F16", .inputs = "binary"},
    {.arch = "qwen3", .format = "Q2_0", .head = "F16", .inputs = "binary"},
    {.arch = "qwen3", .format = "F32", .head = "F32", .inputs = "binary", .uneven = true},
    {.arch = "qwen3", .format = "BF16", .head = "Q8_0", .inputs = "binary"},
    {.arch = "qwen3", .format = "F32", .head = "F32", .inputs = "int8", .uneven = true},
    {.arch = "qwen3", .format = "F16", .head = "Q8_0", .inputs = "int8"},
    {.arch = "qwen3", .format = "Q1_0", .head = "Q1_0", .inputs = "int8"},
    {.arch = "bitnet-b1.58", .format = "Q1_0", .head = "F16", .inputs = "binary"},
    {.arch = "qwen2", .format = "F32", .head = "F32"},
    {.arch = "qwen2", .format = "Q8_0", .head = "F16", .untied = true, .uneven = true},
    {.arch = "minicpm", .format = "F32", .head = "F32"},
    {.arch = "minicpm", .format = "F16", .head = "F16", .untied = true, .uneven = true},
    {.arch = "minicpm", .format = "F32", .head = "F32", .scaling = "longrope"},
    {.arch = "minicpm", .format = "F32", .head = "F32", .skip_key = "embedding_scale"},
    {.arch = "minicpm", .format = "F32", .head = "F32", .skip_key = "residual_scale"},
    {.arch = "minicpm", .format = "F32", .head = "F32", .skip_key = "logit_scale"},
    {.arch = "minicpm", .format = "TQ2_0", .head = "Q8_0"},
    {.arch = "bitnet", .format = "F32", .head = "F32", .uneven = true},
    {.arch = "bitnet", .format = "F32", .head = "F32", .scales = true},
    {.arch = "bitnet", .format = "F32", .head = "F32", .activation = "relu2"},
    {.arch = "bitnet", .format = "TQ2_0", .head = "F16", .scales = true},
    {.arch = "bitnet", .format = "I2_S", .head = "F16", .scales = true},
    {.arch = "bitnet-b1.58", .format = "F32", .head = "F32", .uneven = true},
    {.arch = "bitnet-b1.58", .format = "I2_S", .head = "F16", .uneven = true},
    {.arch = "bitnet-25", .format = "F16", .head = "F16", .untied = true},
    {.arch = "bitnet-25", .format = "I2_S", .head = "F16", .untied = true},
};

/* Goal: a graph computes what its paper says. Method: models of every architecture, with an f32
 * cache, so that nothing but rounding stands between the engine and the written-out pass; every
 * row is compared, at every CPU level. */
static void logits_are_those_of_the_written_out_pass(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        check(models[i]);
    }
}

/* Goal: a matrix of every format is multiplied with the activations that NUMERICS.md has for it,
 * which in a BitNet are others. Method: the same with every format that can be written, and rows
 * of more than a block. */
static void every_format_takes_its_activations(void **state)
{
    static const char *const archs[] = {"llama", "bitnet-b1.58"};
    (void)state;

    for (unsigned i = 0; i < ARRAY_SIZE(archs) * FORMATS; i++) {
        const enum format f = (enum format)(i % FORMATS);
        if (format_can_encode(f)) {
            check((struct tiny){.arch = archs[i / FORMATS],
                                .format = format_info(f)->name,
                                .head = "F16",
                                .uneven = true});
        }
    }
}

/* test-engine-graph [PATTERN]: only the tests whose names match */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_the_written_out_pass),
        cmocka_unit_test(every_format_takes_its_activations),
    };

    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
