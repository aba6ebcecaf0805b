#include "tests/support/test.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/format.h"
#include "engine/requant.h"
#include "engine/requant_made.h"
#include "tests/unit/engine/tiny.h"

#define CTX 32u
#define N_IDS (6u * CTX + 7u)

static const struct tiny models[] = {
    {.arch = "llama", .format = "F32", .head = "F32", .uneven = true},
    {.arch = "qwen3", .format = "F16", .head = "F16", .untied = true},
    {.arch = "qwen2", .format = "F32", .head = "F32"},
    {.arch = "minicpm", .format = "BF16", .head = "F32"},
    {.arch = "bitnet-b1.58", .format = "F32", .head = "F16"},
    {.arch = "bitnet", .format = "F32", .head = "F32", .scales = true},
};

/* A text of few words, as texts are: ids from a slow walk. */
static void make_ids(int32_t ids[N_IDS])
{
    for (unsigned i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)((i * i / 3 + 7 * (i % 5)) % 40 + 3);
    }
}

struct rig {
    int fd;
    struct requant *q;
    struct model *model;
    struct engine *engine;
    int32_t ids[N_IDS];
    struct requant_text text;
};

static void rig_up(struct rig *r, const struct tiny *t, unsigned n_threads)
{
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = n_threads};

    *r = (struct rig){.fd = tiny_write(t), .model = tiny_open(t)};
    make_ids(r->ids);
    assert_int_equal(requant_open(&r->q, r->fd, NULL), MODEL_OK);
    assert_int_equal(engine_new(&r->engine, &options), 0);
    r->text = (struct requant_text){.model = r->model,
                                    .engine = r->engine,
                                    .kv = KV_F16,
                                    .ids = r->ids,
                                    .n_ids = N_IDS,
                                    .ctx = CTX};
}

static void rig_down(struct rig *r)
{
    requant_free(r->q);
    engine_free(r->engine);
    model_free(r->model);
    (void)close(r->fd);
}

/* Layers in one format, embedding and head in another. */
static void choose(struct requant *q, const char *format, const char *head)
{
    for (size_t i = 0; i < requant_count(q); i++) {
        struct requant_tensor t;
        requant_tensor(q, i, &t);
        const bool in_layer = strncmp(t.name, "blk.", 4) == 0;
        if (t.matrix && (in_layer ? format : head)) {
            assert_int_equal(requant_choose(q, i, in_layer ? format : head, NULL), MODEL_OK);
        }
    }
}

static int written(struct requant *q)
{
    const int fd = memfd_create("fit", MFD_CLOEXEC);

    assert_int_equal(requant_write(q, fd, NULL, NULL, NULL), MODEL_OK);
    return fd;
}

static struct model *opened(int fd)
{
    const struct model_limits limits = {0};
    struct model *m = NULL;

    assert_int_equal(model_open_gguf(&m, fd, &limits, NULL), MODEL_OK);
    return m;
}

static const char *quantization_of(const struct model *m)
{
    struct model_info info;

    model_info(m, &info);
    return info.quantization;
}

/* Logits of some tokens. */
static float *logits_of(struct engine *e, const struct model *m, const int32_t *ids)
{
    const struct stepper_limits limits = {.n_tokens_max = CTX, .n_logits_max = CTX};
    struct step_item item = {.ids = ids, .n_ids = CTX, .n_logits = CTX};
    const size_t n = (size_t)CTX * vocab_size(model_vocab(m));
    struct kv_pool *pool = NULL;
    struct stepper *st = NULL;
    float *ret = malloc(n * sizeof(*ret));

    assert_non_null(ret);
    assert_int_equal(kv_pool_new(&pool, m, KV_F32, 1), 0);
    assert_int_equal(seq_new(&item.seq, pool, CTX), 0);
    assert_int_equal(stepper_new(&st, e, m, &limits), 0);
    assert_int_equal(stepper_run(st, &item, 1, NULL), STEP_OK);
    memcpy(ret, item.logits, n * sizeof(*ret));
    stepper_free(st);
    seq_free(item.seq);
    kv_pool_free(pool);
    return ret;
}

static double distance(const struct rig *r, const struct model *m)
{
    const size_t n = (size_t)CTX * vocab_size(model_vocab(m));
    float *want = logits_of(r->engine, r->model, r->ids), *got = logits_of(r->engine, m, r->ids);
    double lost = 0, power = 0;

    for (size_t i = 0; i < n; i++) {
        const double e = (double)got[i] - (double)want[i];
        lost += e * e;
        power += (double)want[i] * (double)want[i];
    }
    free(want);
    free(got);
    return sqrt(lost / power);
}

/* Means over the layers' matrices of what a file says of itself. */
static void errors_of(const struct requant *q, double *ret_outputs, double *ret_rounding)
{
    size_t n = 0;

    *ret_outputs = *ret_rounding = 0;
    for (size_t i = 0; i < requant_count(q); i++) {
        struct requant_tensor t;
        requant_tensor(q, i, &t);
        if (strncmp(t.name, "blk.", 4) == 0 && t.matrix) {
            assert_true(t.error >= 0 && t.rounding_error >= 0);
            assert_true(t.output_error >= 0 &&
                        t.output_error <= t.rounding_output_error * (1 + 1e-6));
            *ret_outputs += t.output_error;
            *ret_rounding += t.rounding_output_error;
            n++;
        } else {
            assert_true(t.output_error < 0);
        }
    }
    *ret_outputs /= (double)n;
    *ret_rounding /= (double)n;
}

/* Goal: in every graph, what is fitted to a text loses less of each matrix's outputs on it than
 * rounding, by the file's own account and by the logits. */
static void fitted_files_lose_less(void **state)
{
    static const struct {
        enum requant_method method;
        const char *format;
        double most; /* of rounding's error */
    } cases[] = {{REQUANT_REFINE, "Q1_0", 0.9},    {REQUANT_PROPAGATE, "Q1_0", 0.8},
                 {REQUANT_REFINE, "Q2_0", 0.8},    {REQUANT_PROPAGATE, "Q2_0", 0.7},
                 {REQUANT_PROPAGATE, "Q4_0", 0.8}, {REQUANT_GPTQ, "Q4_0", 0.8},
                 {REQUANT_AWQ, "Q8_0", 1},         {REQUANT_AWQ, "Q4_0", 1}};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
            double outputs, rounding;
            struct rig r;
            if ((i + c) % 2 == 1) {
                continue; /* each method meets half of the graphs, each graph half of the methods */
            }
            rig_up(&r, &models[i], 1);
            choose(r.q, cases[c].format, "Q8_0");
            assert_int_equal(requant_fit(r.q, REQUANT_ROUNDING, NULL, NULL, NULL, NULL), MODEL_OK);
            const int plain_fd = written(r.q);
            assert_int_equal(requant_fit(r.q, cases[c].method, &r.text, NULL, NULL, NULL),
                             MODEL_OK);
            const int fitted_fd = written(r.q);
            errors_of(r.q, &outputs, &rounding);
            assert_true(outputs <= cases[c].most * rounding);
            struct model *plain = opened(plain_fd), *fitted = opened(fitted_fd);
            /* Eight bits leave so little that the order of two files is a matter of chance. */
            const double room = cases[c].method == REQUANT_AWQ ? 1.3 : 1;
            assert_true(distance(&r, fitted) < room * distance(&r, plain));
            model_free(plain);
            model_free(fitted);
            (void)close(plain_fd);
            (void)close(fitted_fd);
            rig_down(&r);
        }
    }
}

/* Goal: matrices that aim at the float model's outputs mend what was lost before them: the logits
 * come nearer than by fitting each to its own outputs. */
static void aiming_at_the_float_model_brings_logits_nearer(void **state)
{
    static const enum requant_method methods[] = {REQUANT_GPTQ, REQUANT_PROPAGATE};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(models); i += 4) {
        double far[ARRAY_SIZE(methods)];
        for (size_t k = 0; k < ARRAY_SIZE(methods); k++) {
            struct rig r;
            rig_up(&r, &models[i], 1);
            choose(r.q, "Q4_0", "Q8_0");
            assert_int_equal(requant_fit(r.q, methods[k], &r.text, NULL, NULL, NULL), MODEL_OK);
            const int fd = written(r.q);
            struct model *m = opened(fd);
            far[k] = distance(&r, m);
            model_free(m);
            (void)close(fd);
            rig_down(&r);
        }
        assert_true(far[1] < 0.8 * far[0]);
    }
}

/* Goal: a file is called by its method where that made all of its layers, and only there. */
static void a_file_is_called_by_its_method(void **state)
{
    static const struct {
        enum requant_method method;
        const char *format, *name;
    } cases[] = {{REQUANT_GPTQ, "Q4_0", "gptq-4bit"},   {REQUANT_AWQ, "Q8_0", "awq-8bit"},
                 {REQUANT_AWQ, "Q4_0", "int4"},         {REQUANT_PROPAGATE, "Q4_0", "int4"},
                 {REQUANT_PROPAGATE, "Q1_0", "binary"}, {REQUANT_ROUNDING, "Q4_0", "int4"}};
    struct rig r;
    (void)state;

    rig_up(&r, &models[0], 1);
    for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
        const bool text = cases[c].method != REQUANT_ROUNDING;
        choose(r.q, cases[c].format, "Q8_0");
        assert_int_equal(requant_fit(r.q, cases[c].method, text ? &r.text : NULL, NULL, NULL, NULL),
                         MODEL_OK);
        const int fd = written(r.q);
        struct model *m = opened(fd);
        assert_string_equal(quantization_of(m), cases[c].name);
        model_free(m);
        (void)close(fd);
    }
    rig_down(&r);
}

/* Goal: layers that were rounded another time are not called gptq's; what is copied whole keeps its
 * name. */
static void a_name_is_not_taken_on_from_others(void **state)
{
    struct rig r;
    (void)state;

    rig_up(&r, &models[0], 1);
    choose(r.q, "Q4_0", NULL);
    assert_int_equal(requant_fit(r.q, REQUANT_GPTQ, &r.text, NULL, NULL, NULL), MODEL_OK);
    const int made = written(r.q);
    struct requant *q = NULL;
    assert_int_equal(requant_open(&q, made, NULL), MODEL_OK);
    const int copied = written(q);
    choose(q, NULL, "Q8_0");
    const int other = written(q); /* the embedding alone is encoded, by rounding */
    struct model *a = opened(copied), *b = opened(other);
    assert_string_equal(quantization_of(a), "gptq-4bit");
    assert_string_equal(quantization_of(b), "int4");
    model_free(a);
    model_free(b);
    requant_free(q);
    rig_down(&r);
    (void)close(made);
    (void)close(copied);
    (void)close(other);
}

/* Is there a method's name in the file? */
static bool says_a_method(int fd)
{
    size_t n = 0;
    uint8_t *bytes = tiny_slurp(fd, &n);
    const bool ret = memmem(bytes, n, REQUANT_METHOD_KEY, strlen(REQUANT_METHOD_KEY)) != NULL;

    free(bytes);
    return ret;
}

/* Goal: refined layers are called so when floats became them, and not when they come along in
 * a file whose head is refined afterwards. */
static void refinement_without_a_text_is_named_once(void **state)
{
    struct requant *q = NULL;
    struct rig r;
    (void)state;

    rig_up(&r, &models[0], 1);
    choose(r.q, "Q1_0", NULL);
    assert_int_equal(requant_fit(r.q, REQUANT_REFINE, NULL, NULL, NULL, NULL), MODEL_OK);
    const int first = written(r.q);
    assert_true(says_a_method(first));
    assert_int_equal(requant_open(&q, first, NULL), MODEL_OK);
    assert_int_equal(requant_fit(q, REQUANT_REFINE, NULL, NULL, NULL, NULL), MODEL_OK);
    const int again = written(q); /* nothing is chosen: a copy, name and all */
    assert_true(says_a_method(again));
    choose(q, NULL, "Q8_0");
    assert_int_equal(requant_fit(q, REQUANT_REFINE, NULL, NULL, NULL, NULL), MODEL_OK);
    const int head = written(q);
    assert_false(says_a_method(head));
    model_free(opened(head));
    requant_free(q);
    rig_down(&r);
    (void)close(first);
    (void)close(again);
    (void)close(head);
}

/* Goal: where awq would have to divide the rows of a matrix that is only rounded, it scales
 * nothing. Here that is so of every product: the file has a rounded one's logits. */
static void awq_divides_only_what_it_makes(void **state)
{
    static const struct tiny wide = {.arch = "llama", .format = "F32", .head = "TQ2_0"};
    static const char *const others[] = {"F16", "I2_S"};
    (void)state;

    for (size_t k = 0; k < ARRAY_SIZE(others); k++) {
        double far[2];
        struct rig r;
        rig_up(&r, &wide, 1);
        choose(r.q, "Q4_0", NULL);
        for (size_t i = 0; i < requant_count(r.q); i++) {
            struct requant_tensor t;
            requant_tensor(r.q, i, &t);
            if (strstr(t.name, "attn_v") || strstr(t.name, "ffn_up")) {
                assert_int_equal(requant_choose(r.q, i, others[k], NULL), MODEL_OK);
            }
        }
        for (unsigned awq = 0; awq < 2; awq++) {
            assert_int_equal(requant_fit(r.q, awq ? REQUANT_AWQ : REQUANT_ROUNDING,
                                         awq ? &r.text : NULL, NULL, NULL, NULL),
                             MODEL_OK);
            const int fd = written(r.q);
            struct model *m = opened(fd);
            far[awq] = distance(&r, m);
            model_free(m);
            (void)close(fd);
        }
        assert_true(far[0] > 0 && far[1] == far[0]);
        rig_down(&r);
    }
}

static void threads_and_repetition_change_no_byte(void **state)
{
    static const enum requant_method methods[] = {REQUANT_REFINE, REQUANT_PROPAGATE, REQUANT_AWQ};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        uint8_t *bytes[3];
        size_t n[3];
        for (unsigned k = 0; k < 3; k++) {
            struct rig r;
            rig_up(&r, &models[2], k == 2 ? 4 : 1);
            choose(r.q, methods[i] == REQUANT_AWQ ? "Q8_0" : "Q2_0", "Q8_0");
            assert_int_equal(requant_fit(r.q, methods[i], &r.text, NULL, NULL, NULL), MODEL_OK);
            const int fd = written(r.q);
            bytes[k] = tiny_slurp(fd, &n[k]);
            (void)close(fd);
            rig_down(&r);
        }
        assert_true(n[0] == n[1] && n[0] == n[2]);
        assert_memory_equal(bytes[0], bytes[1], n[0]);
        assert_memory_equal(bytes[0], bytes[2], n[0]);
        for (unsigned k = 0; k < 3; k++) {
            free(bytes[k]);
        }
    }
}

/* Goal: formats with one scale for a row or a tensor take part, rounded; what is kept is kept. */
static void other_formats_are_rounded_and_kept_ones_are_kept(void **state)
{
    static const struct tiny wide = {.arch = "llama", .format = "F32", .head = "TQ2_0"};
    struct requant_tensor t;
    struct rig r;
    (void)state;

    rig_up(&r, &wide, 2);
    choose(r.q, "Q1_0", NULL);
    for (size_t i = 0; i < requant_count(r.q); i++) {
        requant_tensor(r.q, i, &t);
        const char *other = strstr(t.name, "attn_v")     ? "I2_S"
                            : strstr(t.name, "ffn_gate") ? "IQ2_BN"
                            : strstr(t.name, "ffn_up")   ? "F16"
                                                         : NULL;
        if (other) {
            assert_int_equal(requant_choose(r.q, i, other, NULL), MODEL_OK);
        }
        if (strstr(t.name, "ffn_down")) {
            assert_int_equal(requant_choose(r.q, i, NULL, NULL), MODEL_OK);
        }
    }
    for (unsigned m = REQUANT_REFINE; m < REQUANT_METHODS; m++) {
        assert_int_equal(requant_fit(r.q, (enum requant_method)m, &r.text, NULL, NULL, NULL),
                         MODEL_OK);
        const int fd = written(r.q);
        model_free(opened(fd));
        (void)close(fd);
        for (size_t i = 0; i < requant_count(r.q); i++) {
            requant_tensor(r.q, i, &t);
            if (strstr(t.name, "attn_k.")) {
                assert_true(t.output_error >= 0 || m == REQUANT_AWQ);
            } else if (strstr(t.name, "ffn_down") || strstr(t.name, "ffn_gate")) {
                assert_true(t.output_error < 0);
            }
        }
    }
    rig_down(&r);
}

static void what_cannot_be_fitted_is_refused(void **state)
{
    static const struct tiny other = {.arch = "llama", .format = "F32", .head = "F32"};
    struct requant_text bad;
    struct model *stranger = tiny_open(&other);
    struct rig r;
    (void)state;

    rig_up(&r, &models[0], 1);
    choose(r.q, "Q1_0", "Q8_0");
    for (unsigned m = REQUANT_PROPAGATE; m < REQUANT_METHODS; m++) {
        assert_int_equal(requant_fit(r.q, (enum requant_method)m, NULL, NULL, NULL, NULL), -EINVAL);
    }
    bad = r.text;
    bad.n_ids = CTX - 1;
    assert_int_equal(requant_fit(r.q, REQUANT_PROPAGATE, &bad, NULL, NULL, NULL), -EINVAL);
    bad = r.text;
    bad.ctx = TINY_CTX + 1;
    assert_int_equal(requant_fit(r.q, REQUANT_PROPAGATE, &bad, NULL, NULL, NULL), -EINVAL);
    bad.ctx = 0;
    assert_int_equal(requant_fit(r.q, REQUANT_PROPAGATE, &bad, NULL, NULL, NULL), -EINVAL);
    bad = r.text;
    bad.model = stranger; /* of another shape */
    assert_int_equal(requant_fit(r.q, REQUANT_PROPAGATE, &bad, NULL, NULL, NULL), -EINVAL);
    r.ids[40] = (int32_t)TINY_VOCAB;
    assert_int_equal(requant_fit(r.q, REQUANT_PROPAGATE, &r.text, NULL, NULL, NULL), -EINVAL);
    r.ids[40] = -1;
    assert_int_equal(requant_fit(r.q, REQUANT_PROPAGATE, &r.text, NULL, NULL, NULL), -EINVAL);
    model_free(stranger);
    rig_down(&r);
}

/* Goal: one weight that is no number is found by every method, with the tensor's name; and the file
 * can then still be written by rounding what else there is. */
static void weights_that_are_no_numbers_are_named(void **state)
{
    (void)state;

    for (unsigned m = REQUANT_REFINE; m < REQUANT_METHODS; m++) {
        const struct model_limits limits = {0};
        struct diag diag = {0};
        struct rig r;
        size_t n = 0;
        rig_up(&r, &models[0], 1);
        uint8_t *bytes = tiny_slurp(r.fd, &n);
        const float nan = NAN;
        memcpy(bytes + n - 4096, &nan, sizeof(nan)); /* the last matrix, of the last layer */
        const int fd = tiny_file(bytes, n);
        struct requant *q = NULL;
        struct model *model = NULL;
        assert_int_equal(requant_open(&q, fd, NULL), MODEL_OK);
        assert_int_equal(model_open_gguf(&model, fd, &limits, NULL), MODEL_OK);
        choose(q, "Q1_0", NULL);
        r.text.model = model;
        assert_int_equal(requant_fit(q, (enum requant_method)m, &r.text, NULL, NULL, &diag),
                         MODEL_MALFORMED);
        assert_non_null(strstr(diag.text, "blk.1.ffn_down"));
        choose(q, "F32", NULL);
        (void)close(written(q));
        requant_free(q);
        model_free(model);
        free(bytes);
        (void)close(fd);
        rig_down(&r);
    }
}

static void names_of_methods_are_read_back(void **state)
{
    enum requant_method m;
    (void)state;

    for (unsigned i = 0; i < REQUANT_METHODS; i++) {
        assert_true(requant_method_parse(requant_method_name((enum requant_method)i), &m));
        assert_int_equal(m, i);
    }
    assert_false(requant_method_parse("", &m) || requant_method_parse("GPTQ", &m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fitted_files_lose_less),
        cmocka_unit_test(aiming_at_the_float_model_brings_logits_nearer),
        cmocka_unit_test(a_file_is_called_by_its_method),
        cmocka_unit_test(a_name_is_not_taken_on_from_others),
        cmocka_unit_test(refinement_without_a_text_is_named_once),
        cmocka_unit_test(awq_divides_only_what_it_makes),
        cmocka_unit_test(threads_and_repetition_change_no_byte),
        cmocka_unit_test(other_formats_are_rounded_and_kept_ones_are_kept),
        cmocka_unit_test(what_cannot_be_fitted_is_refused),
        cmocka_unit_test(weights_that_are_no_numbers_are_named),
        cmocka_unit_test(names_of_methods_are_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
