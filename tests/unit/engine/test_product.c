#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/product.h"
#include "engine/threads.h"

#define N_COLS ((size_t)512)
#define TOKENS_MAX ((size_t)130) /* more than are taken at once, and a rest */
#define POOL_MAX 7u

static uint64_t draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Random rows in GGUF's form, packed. Scales are small; one is infinite, which must reach its row.
 */
static uint8_t *packed(enum format f, size_t n_rows, uint64_t seed)
{
    const size_t panels = (n_rows + PANEL_ROWS - 1) / PANEL_ROWS;
    const size_t panel = format_panel_bytes(f, N_COLS), row = format_row_bytes(f, N_COLS);
    uint8_t *data = aligned_alloc(64, (panels * panel + 63) & ~(size_t)63);
    uint8_t *rows = malloc(PANEL_ROWS * row);
    float *x = malloc(N_COLS * sizeof(*x));

    assert_true(data && rows && x);
    for (size_t p = 0; p < panels; p++) {
        const size_t n = n_rows - p * PANEL_ROWS < PANEL_ROWS ? n_rows % PANEL_ROWS : PANEL_ROWS;
        for (size_t r = 0; r < n; r++) {
            for (size_t c = 0; c < N_COLS; c++) {
                x[c] = ((float)(draw(&seed) % 2001) - 1000) * 1e-4f;
            }
            x[0] = p == 1 && r == 3 ? INFINITY : x[0];
            format_encode_row(f, x, 0, N_COLS, rows + r * row);
        }
        format_pack_panel(f, rows, 1, n, N_COLS, data + p * panel);
    }
    free(rows);
    free(x);
    return data;
}

struct acts {
    int8_t *q;
    float *d;
    int32_t *s;
    uint8_t *tables;
    struct input in;
};

static void acts_init(struct acts *a, const struct kernels *k, const struct matrix *m)
{
    const enum act_kind kind = m->act;
    uint64_t seed = 5;
    float x[N_COLS];
    const size_t stride = N_COLS / ACT_BLOCK;

    *a = (struct acts){.q = aligned_alloc(64, TOKENS_MAX * N_COLS),
                       .d = calloc(TOKENS_MAX * stride, sizeof(float)),
                       .s = calloc(TOKENS_MAX * stride, sizeof(int32_t))};
    assert_true(a->q && a->d && a->s);
    a->in.room_stride = (product_room_bytes(m) + 63) & ~(size_t)63;
    a->tables = aligned_alloc(64, POOL_MAX * (a->in.room_stride + 64));
    assert_non_null(a->tables);
    a->in.room = a->tables;
    for (size_t t = 0; t < TOKENS_MAX; t++) {
        for (size_t c = 0; c < N_COLS; c++) {
            x[c] = ((float)(draw(&seed) % 2001) - 1000) * 1e-3f;
        }
        act_quantize(k, kind, x, N_COLS, a->q + t * N_COLS, a->d + t * stride, a->s + t * stride);
    }
    a->in.act[kind] = (struct act_q8){.q = a->q,
                                      .d = a->d,
                                      .s = a->s,
                                      .q_stride = N_COLS,
                                      .d_stride = stride,
                                      .n_tokens = TOKENS_MAX};
}

static void acts_deinit(struct acts *a)
{
    free(a->q);
    free(a->d);
    free(a->s);
    free(a->tables);
}

static void matrices_init(struct matrix *m, enum format f, const size_t *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        m[i] = (struct matrix){.format = f,
                               .n_cols = N_COLS,
                               .n_rows = rows[i],
                               .data = packed(f, rows[i], i),
                               .panel_bytes = format_panel_bytes(f, N_COLS),
                               .act = act_kind_of(format_info(f)->panel, true),
                               .scale = 1};
    }
}

/* Goal: a product is the same bits however many threads share it and at every CPU level, every row
 * written. Method: three matrices whose rows are no whole panels, one of them less than a panel,
 * over pools of 1 to 7, beside the scalar kernels on one thread; one token takes many threads'
 * pieces from few panels, 52, 79 and 130 come in several passes, the last of them short. The
 * outputs begin as something that no product gives. */
static void share_and_compare(const struct matrix *m, const size_t *rows, size_t n_rows)
{
    static const unsigned threads[] = {1, 2, 3, POOL_MAX};
    static const size_t tokens[] = {1, 8, 52, 79, TOKENS_MAX};
    const size_t all = rows[0] + rows[1] + rows[2], bytes = TOKENS_MAX * all * sizeof(float);
    float *want = malloc(bytes), *got = malloc(bytes);

    assert_true(want && got);
    for (size_t c = 0; c < ARRAY_SIZE(tokens) * CPU_LEVELS * ARRAY_SIZE(threads); c++) {
        const size_t n = tokens[c / (CPU_LEVELS * ARRAY_SIZE(threads))];
        const enum cpu_level level = (enum cpu_level)(c / ARRAY_SIZE(threads) % CPU_LEVELS);
        const unsigned n_threads = threads[c % ARRAY_SIZE(threads)];
        float *out = level == CPU_SCALAR && n_threads == 1 ? want : got;
        struct engine e = {.cpu = level};
        struct product p[3];
        struct acts a;

        if (!cpu_level_present(level)) {
            continue;
        }
        kernels_init(&e.kernels, level);
        acts_init(&a, &e.kernels, &m[0]);
        memset(out, 0x5a, bytes);
        for (size_t i = 0, at = 0; i < n_rows; at += TOKENS_MAX * rows[i], i++) {
            p[i] = (struct product){.m = &m[i], .out = out + at, .stride = rows[i]};
        }
        assert_int_equal(threads_new(&e.threads, n_threads), 0);
        products_run(&e, &a.in, n, p, n_rows);
        threads_free(e.threads);
        assert_memory_equal(out, want, bytes);
        assert_true(!isfinite(out[19]) && isfinite(out[18]));
        acts_deinit(&a);
    }
    free(want);
    free(got);
}

static void threads_share_a_product_without_a_trace(void **state)
{
    static const enum format formats[] = {FORMAT_TQ2_0, FORMAT_Q8_0, FORMAT_Q1_0};
    static const size_t rows[] = {1003, 7, 325};
    (void)state;

    for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
        struct matrix m[ARRAY_SIZE(rows)];

        matrices_init(m, formats[f], rows, ARRAY_SIZE(rows));
        share_and_compare(m, rows, ARRAY_SIZE(rows));
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
            free((void *)(uintptr_t)m[i].data);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_share_a_product_without_a_trace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
