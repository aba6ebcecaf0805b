#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "engine/fit/stream.h"
#include "tests/unit/engine/tiny.h"

#define CTX 24u
#define WINDOWS 3u

static const struct tiny models[] = {
    {.arch = "qwen3", .format = "F32", .head = "F16", .uneven = true},
    {.arch = "minicpm", .format = "F16", .head = "F32"},
    {.arch = "qwen2", .format = "BF16", .head = "Q8_0", .untied = true},
    {.arch = "bitnet-b1.58", .format = "F32", .head = "F16"},
    {.arch = "bitnet", .format = "TQ2_0", .head = "F16", .scales = true},
};

static void make_ids(int32_t ids[WINDOWS * CTX])
{
    for (unsigned i = 0; i < WINDOWS * CTX; i++) {
        ids[i] = (int32_t)((i * i * 5 + 3 * i + 1) % TINY_VOCAB);
    }
}

static struct engine *engine_of(unsigned n_threads)
{
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = n_threads};
    struct engine *e = NULL;

    assert_int_equal(engine_new(&e, &options), 0);
    return e;
}

static enum format *formats_of(const struct model *m)
{
    const size_t n = m->shape.n_layer * (size_t)STREAM_MATRICES;
    enum format *formats = malloc(n * sizeof(*formats));

    assert_non_null(formats);
    for (size_t i = 0; i < n; i++) {
        formats[i] = stream_matrix(&m->layers[i / STREAM_MATRICES], i % STREAM_MATRICES)->format;
    }
    return formats;
}

/* Logits of the last token of one window, as steps give them. */
static void want_of(struct engine *e, const struct model *m, const int32_t *ids, float *ret)
{
    const struct stepper_limits limits = {.n_tokens_max = CTX, .n_logits_max = 1};
    struct step_item item = {.ids = ids, .n_ids = CTX, .n_logits = 1};
    struct kv_pool *pool = NULL;
    struct stepper *st = NULL;

    assert_int_equal(kv_pool_new(&pool, m, KV_F16, 1), 0);
    assert_int_equal(seq_new(&item.seq, pool, CTX), 0);
    assert_int_equal(stepper_new(&st, e, m, &limits), 0);
    assert_int_equal(stepper_run(st, &item, 1, NULL), STEP_OK);
    memcpy(ret, item.logits, m->shape.n_vocab * sizeof(*ret));
    stepper_free(st);
    seq_free(item.seq);
    kv_pool_free(pool);
}

struct seen {
    size_t n[STEP_PARTS], rows[STEP_PARTS];
};

static void look(void *arg, enum step_part part, const float *x, size_t stride, size_t n_rows)
{
    struct seen *s = arg;

    s->n[part]++;
    s->rows[part] += n_rows;
    for (size_t t = 0; t < n_rows; t++) {
        assert_true(x[t * stride] - x[t * stride] == 0);
    }
}

/* Goal: layer by layer is the same as step by step, to the last bit. Method: run all layers on all
 * windows, look twice at each before going on, and compare the head's logits. */
static void layers_one_by_one_are_steps(void **state)
{
    int32_t ids[WINDOWS * CTX + 5];
    (void)state;

    make_ids(ids);
    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        struct model *m = tiny_open(&models[i]);
        struct engine *e = engine_of(2);
        enum format *formats = formats_of(m);
        const size_t n_embd = m->shape.n_embd, n_vocab = m->shape.n_vocab;
        float *want = malloc(n_vocab * sizeof(*want));
        struct seen seen = {0};
        struct stream s;
        assert_non_null(want);
        assert_int_equal(
            stream_open(&s, e, m, KV_F16, ids, WINDOWS * CTX + 5, CTX, formats, &m->embd), 0);
        assert_int_equal(s.n_windows, WINDOWS);
        for (size_t layer = 0; layer < m->shape.n_layer; layer++) {
            stream_run(&s, layer, look, &seen, false);
            stream_run(&s, layer, NULL, NULL, true);
        }
        const size_t looked = m->shape.n_layer * (size_t)WINDOWS;
        assert_true(seen.n[PART_QKV] == looked && seen.n[PART_O] == looked &&
                    seen.n[PART_GATE_UP] == looked && seen.n[PART_DOWN] == looked);
        assert_int_equal(seen.rows[PART_DOWN], looked * CTX);
        for (size_t window = 0; window < WINDOWS; window++) {
            want_of(e, m, ids + window * CTX, want);
            memcpy(s.stepper->wanted, s.x + ((window + 1) * CTX - 1) * n_embd,
                   n_embd * sizeof(float));
            s.stepper->wants[0] = (struct head_want){0};
            graph_head(s.stepper, 1);
            assert_memory_equal(s.stepper->logits, want, n_vocab * sizeof(*want));
        }
        stream_close(&s);
        free(want);
        free(formats);
        engine_free(e);
        model_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_one_by_one_are_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
