/* The head's copy in a model: what steps give to a sampler, and the packed file. */
#include "tests/support/test.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/engine.h"
#include "engine/head.h"
#include "engine/image.h"
#include "engine/model.h"
#include "tests/unit/engine/tiny.h"

static const struct tiny with_copy = {
    .arch = "llama", .format = "TQ2_0", .head = "F16", .n_words = 2000};
static const struct tiny untied = {
    .arch = "minicpm", .format = "TQ2_0", .head = "BF16", .n_words = 2000, .untied = true};

#define VOCAB (TINY_VOCAB + 2000u)
#define N_IDS 20u

struct run {
    struct engine *engine;
    struct kv_pool *pool;
    struct stepper *stepper;
    struct seq *seqs[3];
    int32_t ids[N_IDS];
};

static void run_up(struct run *r, const struct model *m, unsigned level)
{
    const struct engine_options options = {.cpu = (enum cpu_level)level, .n_threads = 2};
    const struct stepper_limits limits = {.n_tokens_max = 3 * N_IDS, .n_logits_max = 8};

    assert_int_equal(engine_new(&r->engine, &options), 0);
    assert_int_equal(kv_pool_new(&r->pool, m, KV_F32, 12), 0);
    assert_int_equal(stepper_new(&r->stepper, r->engine, m, &limits), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(seq_new(&r->seqs[i], r->pool, N_IDS), 0);
    }
    for (size_t i = 0; i < N_IDS; i++) {
        r->ids[i] = (int32_t)((i * i * 7 + 5) % VOCAB);
    }
}

static void run_down(struct run *r)
{
    stepper_free(r->stepper);
    for (size_t i = 0; i < 3; i++) {
        seq_free(r->seqs[i]);
    }
    kv_pool_free(r->pool);
    engine_free(r->engine);
}

static const struct sampler_params params[] = {
    {.temperature = 0, .top_p = 1, .repeat_penalty = 1},
    {.temperature = 0, .top_p = 1, .repeat_penalty = 1.5f},
    {.temperature = 0, .top_p = 1, .repeat_penalty = 0.1f},
    {.temperature = 1, .top_k = 1, .top_p = 1, .repeat_penalty = 1},
    {.temperature = 1, .top_k = 40, .top_p = 1, .repeat_penalty = 1},
    {.temperature = 0.7f, .top_k = 40, .top_p = 0.9f, .min_p = 0.05f, .repeat_penalty = 1.1f},
    {.temperature = 10, .top_k = 256, .top_p = 0.99f, .repeat_penalty = 10},
    {.temperature = 1e-30f, .top_k = 5, .top_p = 1, .repeat_penalty = 0.1f},
    {.temperature = 2, .top_k = 257, .top_p = 0.5f, .repeat_penalty = 1}, /* too many */
    {.temperature = 1, .top_p = 0.5f, .repeat_penalty = 1},               /* all */
};

/* One step of three sequences, the first asked for what p wants, two rows of the last. */
static void step_as(struct run *r, const struct sampler_params *p, bool ask, float *ret)
{
    struct step_item items[3] = {0};
    struct step_item wants = {0};

    sampler_ask(p, VOCAB, r->ids, N_IDS, 0, &wants);
    for (size_t i = 0; i < 3; i++) {
        seq_rewind(r->seqs[i], 0);
        items[i] = (struct step_item){
            .seq = r->seqs[i], .ids = r->ids + i, .n_ids = N_IDS - i, .n_logits = i == 2 ? 2 : 1};
        if (ask) {
            items[i].n_best = wants.n_best;
            items[i].also = wants.also;
            items[i].n_also = wants.n_also;
        }
    }
    assert_int_equal(stepper_run(r->stepper, items, 3, NULL), STEP_OK);
    memcpy(ret, items[0].logits, VOCAB * sizeof(*ret));
    memcpy(ret + VOCAB, items[2].logits, (size_t)2 * VOCAB * sizeof(*ret));
}

/* Goal: the same tokens. Method: steps asked for what the sampler looks at, and for everything, at
 * each level, tied and untied; both rows go through the sampler at many positions. */
static void a_sampler_cannot_tell_the_difference(void **state)
{
    const struct tiny *const models[] = {&with_copy, &untied};
    static float want[3 * VOCAB], got[3 * VOCAB];
    struct sampler *s = NULL;
    (void)state;

    assert_int_equal(sampler_new(&s, VOCAB), 0);
    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        struct model *m = tiny_open(models[i]);
        for (unsigned level = 0; level < CPU_LEVELS; level++) {
            struct run r = {0};
            if (!cpu_level_present((enum cpu_level)level)) {
                continue;
            }
            run_up(&r, m, level);
            step_as(&r, &params[0], false, want);
            for (size_t k = 0; k < ARRAY_SIZE(params); k++) {
                size_t n_other = 0;
                step_as(&r, &params[k], true, got);
                for (size_t row = 0; row < 3; row++) {
                    for (uint64_t position = 0; position < 20; position++) {
                        struct sampler_choice a, b;
                        const size_t at = row * VOCAB;
                        assert_int_equal(
                            sampler_pick(s, &params[k], want + at, r.ids, N_IDS, position, 0, &a),
                            SAMPLER_OK);
                        assert_int_equal(
                            sampler_pick(s, &params[k], got + at, r.ids, N_IDS, position, 0, &b),
                            SAMPLER_OK);
                        assert_int_equal(a.id, b.id);
                    }
                }
                for (size_t at = 0; at < (size_t)3 * VOCAB; at++) {
                    n_other += got[at] != want[at];
                }
                const bool some = k <= 5; /* few enough that the copy answers for the others */
                assert_true(!some || n_other > 0);
                assert_true(k < ARRAY_SIZE(params) - 2 || n_other == 0);
            }
            run_down(&r);
        }
        model_free(m);
    }
    sampler_free(s);
}

/* Goal: an item's answer does not depend on what others want. Method: one of two wants all. */
static void one_that_wants_all_gets_all(void **state)
{
    struct model *m = tiny_open(&with_copy);
    static float want[3 * VOCAB];
    struct run r = {0};
    struct step_item items[2] = {0};
    (void)state;

    run_up(&r, m, CPU_SCALAR);
    step_as(&r, &params[0], false, want);
    for (size_t i = 0; i < 2; i++) {
        seq_rewind(r.seqs[i], 0);
        items[i] = (struct step_item){
            .seq = r.seqs[i], .ids = r.ids, .n_ids = N_IDS, .n_logits = 1, .n_best = i};
    }
    assert_int_equal(stepper_run(r.stepper, items, 2, NULL), STEP_OK);
    assert_memory_equal(items[0].logits, want, VOCAB * sizeof(float));
    const float best = items[1].logits[0];
    assert_true(best == want[0] || best == -FLT_MAX);
    run_down(&r);
    model_free(m);
}

/* Goal: all logits are asked for where anything else would be too few. */
static void what_is_asked_for_is_what_sampling_reads(void **state)
{
    static const struct {
        struct sampler_params p;
        size_t n_history, n_top, n_best, n_also;
    } cases[] = {
        {{.temperature = 0, .top_k = 40, .top_p = 0.5f, .repeat_penalty = 1}, 9, 0, 1, 0},
        {{.temperature = 0, .repeat_penalty = 1.1f}, 9, 0, 1, 9},
        {{.temperature = 0, .repeat_penalty = 1.1f}, 100, 0, 1, SAMPLER_REPEAT_WINDOW},
        {{.temperature = 0, .repeat_penalty = 1.1f}, 9, 1, 0, 0}, /* log-probabilities */
        {{.temperature = 1, .top_k = 40, .top_p = 0.5f, .repeat_penalty = 1}, 9, 0, 40, 0},
        {{.temperature = 1, .top_k = STEP_BEST_MAX, .repeat_penalty = 1}, 9, 0, STEP_BEST_MAX, 0},
        {{.temperature = 1, .top_k = STEP_BEST_MAX + 1, .repeat_penalty = 1.1f}, 9, 0, 0, 0},
        {{.temperature = 1, .top_p = 0.5f, .min_p = 0.1f, .repeat_penalty = 1.1f}, 9, 0, 0, 0},
    };
    static const int32_t history[100] = {0};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct step_item it = {.n_best = 7, .also = history, .n_also = 7};
        sampler_ask(&cases[i].p, VOCAB, history, cases[i].n_history, cases[i].n_top, &it);
        assert_int_equal(it.n_best, cases[i].n_best);
        assert_int_equal(it.n_also, cases[i].n_also);
        assert_true(it.n_also == 0 || it.also + it.n_also == history + cases[i].n_history);
    }
    const struct sampler_params all = {.temperature = 1, .top_k = 30, .repeat_penalty = 1};
    struct step_item it;
    sampler_ask(&all, 30, history, 9, 0, &it);
    assert_int_equal(it.n_best, 0); /* top-k of a vocabulary that has no more */
}

static void asks_out_of_range_are_refused(void **state)
{
    struct model *m = tiny_open(&with_copy);
    static const int32_t over[] = {3, (int32_t)VOCAB}, under[] = {-1};
    struct run r = {0};
    (void)state;

    run_up(&r, m, CPU_SCALAR);
    struct step_item it = {.seq = r.seqs[0], .ids = r.ids, .n_ids = 3, .n_logits = 1};
    const struct step_item asked[] = {
        {.n_best = STEP_BEST_MAX + 1},
        {.n_best = 1, .also = over, .n_also = 2},
        {.n_best = 1, .also = under, .n_also = 1},
        {.n_best = 1, .also = r.ids, .n_also = STEP_ALSO_MAX + 1},
        {.n_best = 0, .also = r.ids, .n_also = 1},
    };
    for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
        it.n_best = asked[i].n_best;
        it.also = asked[i].also;
        it.n_also = asked[i].n_also;
        assert_int_equal(stepper_run(r.stepper, &it, 1, NULL), -22);
        assert_int_equal(seq_len(it.seq), 0);
    }
    run_down(&r);
    model_free(m);
}

/* Goal: a number that is not finite is noticed as before. Method: a weight of the last norm, or one
 * of the head, is a NaN; the sampler must see it in a step that asks for the best alone. */
static void broken_numbers_are_seen(void **state)
{
    (void)state;

    for (unsigned where = 0; where < 2; where++) {
        const int fd = tiny_write(&untied);
        static const uint8_t nan_f32[] = {0, 0, 0xc0, 0x7f};
        static float got[3 * VOCAB];
        struct model *m = NULL;
        struct sampler *s = NULL;
        struct sampler_choice c;
        struct model_info info;
        struct run r = {0};
        size_t n;
        uint8_t *data = tiny_slurp(fd, &n);

        (void)close(fd);
        /* the tensors' data are the file's end: find the norm by its bytes, all within 0.7..1.3 */
        struct model *whole = tiny_open(&untied);
        const float *norm = whole->output_norm;
        const uint8_t *head = whole->head.data;
        const uint8_t *at = where == 0 ? memmem(data, n, norm, 64) : memmem(data, n, head, 512);
        assert_non_null(at);
        if (where == 0) {
            memcpy(data + (at - data), nan_f32, 4);
        } else {
            memcpy(data + (at - data), nan_f32 + 2, 2);
        }
        model_free(whole);
        const int changed = tiny_file(data, n);
        assert_int_equal(model_open_gguf(&m, changed, NULL, NULL), MODEL_OK);
        model_info(m, &info);
        assert_true((info.head_low_bytes == 0) == (where == 1));
        run_up(&r, m, CPU_SCALAR);
        step_as(&r, &params[0], true, got);
        assert_int_equal(sampler_new(&s, VOCAB), 0);
        assert_int_equal(sampler_pick(s, &params[0], got, r.ids, N_IDS, 0, 0, &c),
                         SAMPLER_NOT_FINITE);
        sampler_free(s);
        run_down(&r);
        model_free(m);
        (void)close(changed);
        free(data);
    }
}

/* ---- the packed file ---- */

/* Goal: there is a copy where it pays, and it is counted. */
static void only_large_heads_of_floats_have_a_copy(void **state)
{
    static const struct {
        struct tiny t;
        bool has;
    } cases[] = {
        {{.arch = "llama", .format = "TQ2_0", .head = "F16", .n_words = 2000}, true},
        {{.arch = "llama", .format = "TQ2_0", .head = "F32", .n_words = 2000}, true},
        {{.arch = "llama", .format = "TQ2_0", .head = "BF16", .n_words = 2000}, true},
        {{.arch = "llama", .format = "TQ2_0", .head = "Q8_0", .n_words = 2000}, false},
        {{.arch = "llama", .format = "TQ2_0", .head = "Q4_0", .n_words = 2000}, false},
        {{.arch = "llama", .format = "TQ2_0", .head = "F16", .n_words = 1000}, false}, /* small */
        {{.arch = "llama", .format = "Q8_0", .head = "F32", .n_words = 2000}, false}, /* 128 wide */
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct model *m = tiny_open(&cases[i].t);
        const struct image_section *s = &m->header->sections[IMAGE_WEIGHTS];
        struct model_info info;
        struct model_cost cost;
        const struct model_use use = {.kv = KV_F16,
                                      .n_seqs = 1,
                                      .n_ctx = 32,
                                      .limits = {.n_tokens_max = 8, .n_logits_max = 1},
                                      .n_threads = 1};

        model_info(m, &info);
        assert_int_equal(info.head_low_bytes > 0, cases[i].has);
        assert_int_equal(model_cost(m, &use, &cost), 0);
        assert_int_equal(cost.weights, s->bytes);
        if (cases[i].has) {
            uint64_t want;
            assert_true(head_low_bytes(m->head.format, m->head.n_cols, m->head.n_rows, &want));
            assert_int_equal(info.head_low_bytes, want);
            assert_int_equal(m->meta->head_low.copy.offset + want, s->bytes);
            assert_true(cost.token_weights + m->tensors[ROLE_EMBD].bytes < cost.weights + 64);
        }
        assert_int_equal(model_verify(m, NULL), MODEL_OK);
        model_free(m);
    }
}

/* Goal: numbers beside the copy are checked on their own. Method: every word of them is set to
 * hostile values, with the checksums made right again; it is refused, or means what it did. */
static void hostile_numbers_beside_the_copy_are_refused(void **state)
{
    static const uint32_t hostile[] = {1,          0x40,       0x7fffffff, 0x80000000,
                                       0xffffffff, 0x7f800000, 0x7fc00000, 0x5f800000};
    const int in = tiny_write(&with_copy), fd = tiny_file("", 0);
    size_t n, n_refused = 0;
    (void)state;

    assert_int_equal(model_pack(in, fd, NULL, NULL), MODEL_OK);
    (void)close(in);
    uint8_t *data = tiny_slurp(fd, &n);
    struct image_header *h = (void *)data;
    const struct image_section meta = h->sections[IMAGE_META];
    const size_t at = (size_t)meta.offset + offsetof(struct image_meta, head_low);
    for (size_t word = 0; word < sizeof(struct image_head); word += 4) {
        for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
            struct model *m = NULL;
            struct diag d = {0};
            uint32_t before;
            memcpy(&before, data + at + word, 4);
            memcpy(data + at + word, &hostile[i], 4);
            h->sections[IMAGE_META].hash = XXH3_64bits(data + meta.offset, (size_t)meta.bytes);
            h->hash = XXH3_64bits(h, offsetof(struct image_header, hash));
            assert_int_equal(pwrite(fd, data, (size_t)(meta.offset + meta.bytes), 0),
                             (ssize_t)(meta.offset + meta.bytes));
            const int r = model_open_packed(&m, fd, &d);
            if (r == MODEL_OK) {
                const struct head_low *low = &m->head_low;
                const uint8_t *weights = m->file.data + h->sections[IMAGE_WEIGHTS].offset;
                const uint8_t *end = weights + h->sections[IMAGE_WEIGHTS].bytes;
                assert_true(low->rows.data >= weights);
                assert_true((const uint8_t *)(low->bounds + ((VOCAB + 15) / 16) * 32) <= end);
                assert_true(low->rows.scale > 0 && isfinite(low->rows.scale));
                assert_true(low->norm_max >= 0 && low->norm_max <= HEAD_NORM_MAX);
            } else {
                assert_int_equal(r, MODEL_MALFORMED);
                n_refused++;
            }
            model_free(m);
            memcpy(data + at + word, &before, 4);
        }
    }
    assert_true(n_refused > 40);
    free(data);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sampler_cannot_tell_the_difference),
        cmocka_unit_test(one_that_wants_all_gets_all),
        cmocka_unit_test(what_is_asked_for_is_what_sampling_reads),
        cmocka_unit_test(asks_out_of_range_are_refused),
        cmocka_unit_test(broken_numbers_are_seen),
        cmocka_unit_test(only_large_heads_of_floats_have_a_copy),
        cmocka_unit_test(hostile_numbers_beside_the_copy_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
