/* Signs as the input of products: what is made of them, and that nothing broken vanishes there. */
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/act.h"
#include "engine/product.h"
#include "engine/threads.h"
#include "tests/unit/engine/tiny.h"

#define N_COLS 640u
#define N_IDS 3u

static void signs_are_plus_one_from_the_threshold_on(void **state)
{
    static const float x[] = {1, 0.5f, 0.49f, -0.0f, 0, -1, 0x1p-149f, -0x1p-149f};
    static const float threshold[] = {0.5f, 0.5f, 0.5f, 0, -0.0f, -0.5f, 0, 0};
    static const int8_t want[] = {1, 1, -1, 1, 1, -1, 1, -1};
    float many[N_COLS], bounds[N_COLS], d[N_COLS / ACT_BLOCK];
    int32_t s[N_COLS / ACT_BLOCK];
    _Alignas(64) int8_t q[N_COLS];
    struct kernels k;
    (void)state;

    kernels_init(&k, CPU_SCALAR);
    for (size_t i = 0; i < N_COLS; i++) {
        many[i] = x[i % ARRAY_SIZE(x)];
        bounds[i] = threshold[i % ARRAY_SIZE(x)];
    }
    act_quantize_signs(&k, ACT_SIGNS_32, many, bounds, N_COLS, q, d, s);
    for (size_t i = 0; i < N_COLS; i++) {
        assert_int_equal(q[i], want[i % ARRAY_SIZE(x)]);
        assert_true(d[i / ACT_BLOCK] == 1.0f && s[i / ACT_BLOCK] == 8);
    }
    act_quantize_signs(&k, ACT_BITS, many, bounds, N_COLS, q, d, s);
    for (size_t i = 0; i < N_COLS / 8; i++) {
        assert_int_equal((uint8_t)q[i], 1 << 2 | 1 << 5 | 1 << 7);
    }
    act_widen(&k, ACT_WIDE_SIGNS, many, bounds, N_COLS);
    for (size_t i = 0; i < N_COLS; i++) {
        assert_true(many[i] == (float)want[i % ARRAY_SIZE(x)]);
    }
}

/* Goal: one broken number breaks the whole token, in every form. */
static void a_broken_number_breaks_the_scale(void **state)
{
    static const float broken[] = {NAN, INFINITY, -INFINITY};
    float x[N_COLS], threshold[N_COLS] = {0}, d[N_COLS / ACT_BLOCK];
    int32_t s[N_COLS / ACT_BLOCK];
    _Alignas(64) int8_t q[N_COLS];
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(broken) * CPU_LEVELS; i++) {
        const enum cpu_level level = (enum cpu_level)(i % CPU_LEVELS);
        struct kernels k;
        if (!cpu_level_present(level)) {
            continue;
        }
        kernels_init(&k, level);
        for (size_t c = 0; c < N_COLS; c++) {
            x[c] = c == 77 * i % N_COLS ? broken[i / CPU_LEVELS] : 1.0f;
        }
        act_quantize_signs(&k, ACT_BITS, x, threshold, N_COLS, q, d, s);
        assert_true(isnan(d[0]));
        act_quantize_signs(&k, ACT_SIGNS, x, threshold, N_COLS, q, d, s);
        assert_true(isnan(d[0]));
        act_quantize_signs(&k, ACT_SIGNS_32, x, threshold, N_COLS, q, d, s);
        for (size_t b = 0; b < N_COLS / ACT_BLOCK; b++) {
            assert_true(isnan(d[b]));
        }
        act_widen(&k, ACT_WIDE_SIGNS, x, threshold, N_COLS);
        for (size_t c = 0; c < N_COLS; c++) {
            assert_true(isnan(x[c]));
        }
    }
}

/* ---- the graph ---- */

static void logits_of(const struct model *m, enum cpu_level level, float *ret)
{
    const struct engine_options options = {.cpu = level, .n_threads = 2};
    const struct stepper_limits limits = {.n_tokens_max = N_IDS, .n_logits_max = N_IDS};
    static const int32_t ids[N_IDS] = {5, 100, 7};
    struct step_item it = {.ids = ids, .n_ids = N_IDS, .n_logits = N_IDS};
    struct stepper *st = NULL;
    struct kv_pool *pool = NULL;
    struct engine *e = NULL;

    assert_int_equal(engine_new(&e, &options), 0);
    assert_int_equal(kv_pool_new(&pool, m, KV_F32, 4), 0);
    assert_int_equal(stepper_new(&st, e, m, &limits), 0);
    assert_int_equal(seq_new(&it.seq, pool, N_IDS), 0);
    assert_int_equal(stepper_run(st, &it, 1, NULL), STEP_OK);
    memcpy(ret, it.logits, (size_t)N_IDS * TINY_VOCAB * sizeof(*ret));
    seq_free(it.seq);
    stepper_free(st);
    kv_pool_free(pool);
    engine_free(e);
}

/* A model in which a weight of a norm is another number. */
static struct model *open_bent(const struct tiny *t, unsigned layer, bool ffn, float v)
{
    const int fd = tiny_write(t);
    struct model *whole = tiny_open(t), *m = NULL;
    const struct layer *l = &whole->layers[layer];
    const float *norm = ffn ? l->ffn_norm : l->attn_norm;
    size_t n;
    uint8_t *data = tiny_slurp(fd, &n);

    (void)close(fd);
    uint8_t *at = memmem(data, n, norm, 64);
    assert_non_null(at);
    memcpy(at + 5 * sizeof(v), &v, sizeof(v));
    model_free(whole);
    const int bent = tiny_file(data, n);
    assert_int_equal(model_open_gguf(&m, bent, NULL, NULL), MODEL_OK);
    (void)close(bent);
    free(data);
    return m;
}

/* Goal: a NaN or an infinity that goes into a product as a sign is in the logits. Method: a weight
 * of a norm breaks one number of the input, and all that it touches is that input. */
static void a_broken_input_shows_in_the_logits(void **state)
{
    static const char *const formats[] = {"Q1_0", "I2_S", "TQ2_0", "Q8_0", "F32"};
    static const float broken[] = {NAN, INFINITY};
    static float logits[N_IDS * TINY_VOCAB];
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(formats) * 4; i++) {
        const struct tiny t = {.arch = "qwen3",
                               .format = formats[i / 4],
                               .head = "F16",
                               .inputs = "binary",
                               .uneven = true};
        struct model *m = open_bent(&t, i % 2, i % 2 == 1, broken[i / 2 % 2]);
        for (unsigned level = 0; level < CPU_LEVELS; level++) {
            if (!cpu_level_present(level)) {
                continue;
            }
            logits_of(m, (enum cpu_level)level, logits);
            for (size_t j = 0; j < ARRAY_SIZE(logits); j++) {
                assert_true(isnan(logits[j]));
            }
        }
        model_free(m);
    }
}

/* ---- the product ---- */

#define N_ROWS 77u
#define N_TOKENS 70u

/* Q1_0 rows in panels, of one kind or the other. */
static uint8_t *packed(const uint8_t *rows, bool signs)
{
    const size_t bytes = format_panel_bytes(FORMAT_Q1_0, N_COLS);
    const size_t row_bytes = format_row_bytes(FORMAT_Q1_0, N_COLS);
    uint8_t *ret = aligned_alloc(64, ((N_ROWS + 15) / 16 * bytes + 63) & ~(size_t)63);

    assert_non_null(ret);
    for (size_t row = 0; row < N_ROWS; row += PANEL_ROWS) {
        uint8_t *panel = ret + row / PANEL_ROWS * bytes;
        const size_t n = N_ROWS - row < PANEL_ROWS ? N_ROWS - row : PANEL_ROWS;
        format_pack_panel(FORMAT_Q1_0, rows + row * row_bytes, 1, n, N_COLS, panel);
        if (signs) {
            format_panel_for_signs(panel, N_COLS);
        }
    }
    return ret;
}

static struct matrix matrix_of(const uint8_t *data, enum act_kind act)
{
    return (struct matrix){.format = FORMAT_Q1_0,
                           .n_cols = N_COLS,
                           .n_rows = N_ROWS,
                           .data = data,
                           .panel_bytes = format_panel_bytes(FORMAT_Q1_0, N_COLS),
                           .act = act,
                           .scale = 1};
}

static void multiply(enum cpu_level level, unsigned n_threads, size_t n, const struct matrix *m,
                     float *out)
{
    static _Alignas(64) int8_t q[N_TOKENS * N_COLS];
    static float d[N_TOKENS * N_COLS / ACT_BLOCK], x[N_COLS], threshold[N_COLS];
    static int32_t s[N_TOKENS * N_COLS / ACT_BLOCK];
    const size_t stride = act_bytes(m->act, N_COLS), d_stride = N_COLS / ACT_BLOCK;
    const struct product p = {m, out, N_ROWS};
    struct engine e = {.cpu = level};
    struct input in = {.room_stride = (product_room_bytes(m) + 63) & ~(size_t)63};
    uint8_t *room = aligned_alloc(64, n_threads * in.room_stride + 64);

    assert_non_null(room);
    in.room = room;
    kernels_init(&e.kernels, level);
    for (size_t t = 0; t < n; t++) {
        for (size_t c = 0; c < N_COLS; c++) {
            x[c] = tiny_random(t * N_COLS + c);
            threshold[c] = 0.1f * tiny_random(c + 77);
        }
        act_quantize_signs(&e.kernels, m->act, x, threshold, N_COLS, q + t * stride,
                           d + t * d_stride, s + t * d_stride);
    }
    in.act[m->act] = (struct act_q8){
        .q = q, .d = d, .s = s, .q_stride = stride, .d_stride = d_stride, .n_tokens = n};
    assert_int_equal(threads_new(&e.threads, n_threads), 0);
    products_run(&e, &in, n, &p, 1);
    threads_free(e.threads);
    free(room);
}

/* Goal: counting bits gives what the product of int8 does with q = +-1 and d = 1, to the bit, with
 * any threads and tokens. */
static void bits_multiply_as_their_int8_does(void **state)
{
    static const size_t tokens[] = {1, 2, 7, N_TOKENS};
    static float want[N_TOKENS * N_ROWS], got[N_TOKENS * N_ROWS];
    const size_t row_bytes = format_row_bytes(FORMAT_Q1_0, N_COLS);
    uint8_t *rows = malloc(N_ROWS * row_bytes);
    float row[N_COLS];
    (void)state;

    assert_non_null(rows);
    for (size_t r = 0; r < N_ROWS; r++) {
        for (size_t c = 0; c < N_COLS; c++) {
            row[c] = tiny_random(r * N_COLS + c + 12345);
        }
        format_encode_row(FORMAT_Q1_0, row, 1, N_COLS, rows + r * row_bytes);
    }
    uint8_t *b1 = packed(rows, false), *x1 = packed(rows, true);
    const struct matrix int8 = matrix_of(b1, ACT_SIGNS_32), bits = matrix_of(x1, ACT_BITS);
    for (size_t i = 0; i < ARRAY_SIZE(tokens) * CPU_LEVELS; i++) {
        const enum cpu_level level = (enum cpu_level)(i % CPU_LEVELS);
        const size_t n = tokens[i / CPU_LEVELS];
        if (!cpu_level_present(level)) {
            continue;
        }
        multiply(CPU_SCALAR, 1, n, &int8, want);
        multiply(level, 1, n, &bits, got);
        assert_memory_equal(got, want, n * N_ROWS * sizeof(*want));
        multiply(level, 3, n, &bits, got);
        assert_memory_equal(got, want, n * N_ROWS * sizeof(*want));
        multiply(level, 2, n, &int8, got);
        assert_memory_equal(got, want, n * N_ROWS * sizeof(*want));
    }
    free(x1);
    free(b1);
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_are_plus_one_from_the_threshold_on),
        cmocka_unit_test(a_broken_number_breaks_the_scale),
        cmocka_unit_test(a_broken_input_shows_in_the_logits),
        cmocka_unit_test(bits_multiply_as_their_int8_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
