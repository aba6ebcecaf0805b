/* How fast each slot of a kernel table is, alone on one thread: the best of many rounds. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "tests/kernels/check.h"

static void bench_panel(enum panel_kind kind, panel_fn *fn, size_t n_cols, size_t n_panels,
                        size_t n_tokens)
{
    const size_t bytes = panel_bytes(kind, n_cols);
    struct panel_case c;
    float *out = buffer_new(n_tokens * PANEL_ROWS * sizeof(float), 0);
    uint64_t best = UINT64_MAX;

    panel_case_init(&c, kind, n_cols, n_tokens, 0);
    uint8_t *panels = buffer_new(n_panels * bytes, 0);
    for (size_t p = 0; p < n_panels; p++) {
        memcpy(panels + p * bytes, c.panel, bytes);
    }
    const uint64_t until = clock_now_ns() + 100 * NS_PER_MS;
    for (int round = 0; round < 4 || clock_now_ns() < until; round++) {
        const uint64_t start = clock_now_ns();
        for (size_t p = 0; p < n_panels; p++) {
            fn(panels + p * bytes, n_cols, &c.act, out, PANEL_ROWS);
        }
        const uint64_t ns = clock_now_ns() - start;
        best = ns < best ? ns : best;
    }
    const double weights = (double)(n_panels * PANEL_ROWS * n_cols);
    printf("  %-12s %3zu tokens: %8.3f ns per 128 weights and token, %7.2f GB/s of weights\n",
           panel_info(kind)->name, n_tokens, (double)best * 128 / (weights * (double)n_tokens),
           (double)(n_panels * bytes) / (double)best);
    buffer_free(panels, 0);
    buffer_free(out, 0);
    panel_case_deinit(&c);
}

static volatile float bench_sink; /* keeps results from being dropped */

static void bench_line(const char *name, uint64_t best, size_t n, size_t bytes)
{
    printf("  %-12s            %8.3f ns per 128 values,            %7.2f GB/s\n", name,
           (double)best * 128 / (double)n, (double)(n * bytes) / (double)best);
}

#define BENCH_FLOATS 4096
#define BENCH(name, bytes, call)                                                                   \
    do {                                                                                           \
        uint64_t best = UINT64_MAX;                                                                \
        for (int round = 0; round < 64; round++) {                                                 \
            const uint64_t start = clock_now_ns();                                                 \
            for (int again = 0; again < 8; again++) {                                              \
                call;                                                                              \
            }                                                                                      \
            const uint64_t ns = (clock_now_ns() - start) / 8;                                      \
            best = ns < best ? ns : best;                                                          \
        }                                                                                          \
        bench_line(name, best ? best : 1, BENCH_FLOATS, bytes);                                    \
    } while (0)

static void bench_floats(const struct kernels *k)
{
    static float x[BENCH_FLOATS], y[BENCH_FLOATS], d[BENCH_FLOATS / ACT_BLOCK];
    static uint16_t h[BENCH_FLOATS];
    static int8_t q[BENCH_FLOATS];
    static int32_t s[BENCH_FLOATS / ACT_BLOCK];

    float_input(x, BENCH_FLOATS, 0);
    float_input(y, BENCH_FLOATS, 0);
    half_input(h, BENCH_FLOATS, 0);
    BENCH("quant", 4, k->quant(x, BENCH_FLOATS, ACT_BLOCK, q, d, s));
    BENCH("quant_token", 4, k->quant_token(x, BENCH_FLOATS, BENCH_FLOATS, q, d, s));
    BENCH("dot_i8", 1, bench_sink = (float)k->dot_i8(q, q, BENCH_FLOATS));
    BENCH("axpy_i8", 1, k->axpy_i8(1e-9f, q, x, BENCH_FLOATS));
    BENCH("dot_f32", 4, bench_sink = k->dot_f32(x, y, BENCH_FLOATS));
    BENCH("dot_f16", 2, bench_sink = k->dot_f16(h, y, BENCH_FLOATS));
    BENCH("dot_bf16", 2, bench_sink = k->dot_bf16(h, y, BENCH_FLOATS));
    BENCH("axpy_f32", 4, k->axpy_f32(1e-9f, x, y, BENCH_FLOATS));
    BENCH("axpy_f16", 2, k->axpy_f16(1e-9f, h, y, BENCH_FLOATS));
    BENCH("f32_to_f16", 4, k->f32_to_f16(x, h, BENCH_FLOATS));
}

void bench(const struct kernels *k, bool slow)
{
    static const size_t tokens[] = {1, 4, 8, 64};

    for (unsigned i = PANEL_NONE + 1; i < PANELS; i++) {
        for (size_t j = 0; j < ARRAY_SIZE(tokens) && k->panel[i]; j++) {
            bench_panel((enum panel_kind)i, k->panel[i], 2048, slow ? 4 : 128, tokens[j]);
        }
    }
    bench_floats(k);
}
