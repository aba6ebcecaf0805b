/* Every slot of the kernel table against its scalar twin, at one CPU level.
 *
 * In the manner of dav1d's checkasm: random and extreme input, buffers of the exact size on the heap
 * (a sanitizer sees an over-read), sentinels between the rows that are written, and results compared
 * bit by bit; only NaN counts as equal to any other NaN.
 *
 *   check --level NAME [--seed N] [--bench]
 *
 * Exit: 0 all slots agree, 1 one does not, 77 the machine or the build lacks the level, 64 usage.
 * Built with CHECK_EMULATED, the AVX-512 functions come from a portable emulation of the intrinsics,
 * so that their arithmetic is proved on machines without the instructions. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/kernels/levels.h"

static uint64_t rng;

static uint32_t random_u32(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)(rng >> 16);
}

/* ---- buffers ---- */

#define HEAD 64 /* room in front of a buffer, so that its start can be put off an alignment */

/* n bytes that end where the allocation ends and start `off` bytes past a 64-byte boundary. */
static void *buffer_new(size_t n, size_t off)
{
    void *p = NULL;

    if (posix_memalign(&p, 64, HEAD + off + n) != 0) {
        abort();
    }
    return (uint8_t *)p + HEAD + off;
}

static void buffer_free(void *buffer, size_t off)
{
    free((uint8_t *)buffer - HEAD - off);
}

static void fill_bytes(void *buffer, size_t n, int value) /* value < 0: random */
{
    uint8_t *p = buffer;

    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)(value < 0 ? random_u32() : (uint32_t)value);
    }
}

static float random_float(int magnitude) /* +-[1, 2) * 2^(-magnitude..magnitude) */
{
    const float m = 1.0f + (float)(random_u32() >> 9) * 0x1p-23f;
    const int e = magnitude ? (int)(random_u32() % (2 * (unsigned)magnitude + 1)) - magnitude : 0;

    return ldexpf(random_u32() & 1 ? m : -m, e);
}

/* What hurts: signed zeros, subnormals, the largest, infinities, NaN. */
static float extreme_float(void)
{
    static const float values[] = {0.0f,     -0.0f,     0x1p-149f, -0x1.8p-130f, 0x1p-100f,
                                   0x1p-24f, 0x1p-126f, 65504.0f,  65520.0f,     -0x1.fffffep127f,
                                   INFINITY, -INFINITY, NAN,       1.0f,         0x1.ffcp-15f};

    return values[random_u32() % ARRAY_SIZE(values)];
}

static uint16_t extreme_f16(void)
{
    static const uint16_t values[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff,
                                      0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0x3c00};

    return values[random_u32() % ARRAY_SIZE(values)];
}

/* ---- comparing ---- */

static bool same_floats(const float *want, const float *got, size_t n, size_t *ret_at)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&want[i], &got[i], sizeof(float)) != 0 && !(isnan(want[i]) && isnan(got[i]))) {
            *ret_at = i;
            return false;
        }
    }
    return true;
}

static bool is_nan_f16(uint16_t h)
{
    return (h & 0x7fff) > 0x7c00;
}

/* ---- panels ---- */

enum fill { FILL_RANDOM, FILL_LOW, FILL_HIGH, FILL_ZERO, FILLS };
enum scale { SCALE_USUAL, SCALE_WIDE, SCALE_EXTREME, SCALES };

struct format {
    const char *name;
    size_t group, group_bytes, block;
};

static const struct format formats[] = {
    {"panel_b1", B1_GROUP, B1_GROUP_BYTES, ACT_BLOCK},
    {"panel_i8", I8_GROUP, I8_GROUP_BYTES, ACT_BLOCK},
    {"panel_t2", T2_GROUP, T2_GROUP_BYTES, ACT_BLOCK_T2},
};

struct panel_case {
    uint8_t *panel;
    struct act_q8 act;
    int8_t *q;
    float *d;
    int32_t *s;
};

static uint16_t random_scale(enum scale kind)
{
    switch (kind) {
    case SCALE_USUAL:
        return f16_from_f32(random_float(6) * 0.01f);
    case SCALE_WIDE:
        return (uint16_t)random_u32(); /* any f16: subnormals, infinities and NaN among them */
    default:
        return extreme_f16();
    }
}

static int fill_value(enum fill kind, int low, int high)
{
    return kind == FILL_RANDOM ? -1 : kind == FILL_LOW ? low : kind == FILL_HIGH ? high : 0;
}

/* The panel starts 32 bytes past a 64-byte boundary, as its contract allows. */
static void panel_case_init(struct panel_case *c, const struct format *f, size_t n_cols,
                            size_t n_tokens, size_t round)
{
    const enum fill weights = (enum fill)(round % FILLS), acts = (enum fill)(round / FILLS % FILLS);
    const enum scale scales = (enum scale)(round % SCALES);
    const size_t n_groups = n_cols / f->group, n_blocks = n_cols / f->block;
    const size_t q_stride = (n_cols + 63) / 64 * 64 + round % 2 * 64;
    const size_t d_stride = (n_blocks + 15) / 16 * 16;

    c->panel = buffer_new(n_groups * f->group_bytes, 32);
    fill_bytes(c->panel, n_groups * f->group_bytes, fill_value(weights, 0x80, 0xff));
    for (size_t g = 0; g < n_groups; g++) {
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            const uint16_t scale = random_scale(scales);
            memcpy(c->panel + g * f->group_bytes + 2 * row, &scale, sizeof(scale));
        }
    }
    c->q = buffer_new((n_tokens - 1) * q_stride + n_cols, 0);
    c->d = buffer_new(((n_tokens - 1) * d_stride + n_blocks) * sizeof(float), 4);
    c->s = buffer_new(((n_tokens - 1) * d_stride + n_blocks) * sizeof(int32_t), 4);
    fill_bytes(c->q, (n_tokens - 1) * q_stride + n_cols, fill_value(acts, 0x80, 0x7f));
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t b = 0; b < n_blocks; b++) {
            int32_t sum = 0;
            for (size_t i = 0; i < f->block; i++) {
                sum += c->q[t * q_stride + b * f->block + i];
            }
            c->s[t * d_stride + b] = sum;
            c->d[t * d_stride + b] = scales == SCALE_EXTREME && random_u32() % 8 == 0
                                         ? extreme_float()
                                         : random_float(8);
        }
    }
    c->act = (struct act_q8){.q = c->q,
                             .d = c->d,
                             .s = c->s,
                             .q_stride = q_stride,
                             .d_stride = d_stride,
                             .n_tokens = n_tokens};
}

static void panel_case_deinit(struct panel_case *c)
{
    buffer_free(c->panel, 32);
    buffer_free(c->q, 0);
    buffer_free(c->d, 4);
    buffer_free(c->s, 4);
}

/* One product by both; the gaps between the rows of `out` belong to somebody else. */
static bool check_panel_once(const struct format *f, panel_fn *want_fn, panel_fn *got_fn,
                             size_t n_cols, size_t n_tokens, size_t round)
{
    const size_t out_stride = PANEL_ROWS + round % 3;
    const size_t n_out = (n_tokens - 1) * out_stride + PANEL_ROWS;
    struct panel_case c;
    size_t at;

    panel_case_init(&c, f, n_cols, n_tokens, round);
    float *want = buffer_new(n_out * sizeof(float), 4);
    float *got = buffer_new(n_out * sizeof(float), 4);
    fill_bytes(want, n_out * sizeof(float), 0x5a);
    fill_bytes(got, n_out * sizeof(float), 0x5a);
    want_fn(c.panel, n_cols, &c.act, want, out_stride);
    got_fn(c.panel, n_cols, &c.act, got, out_stride);
    const bool ok = same_floats(want, got, n_out, &at);
    if (!ok) {
        printf("%s: n_cols=%zu n_tokens=%zu round=%zu token %zu row %zu: want %a got %a\n", f->name,
               n_cols, n_tokens, round, at / out_stride, at % out_stride, (double)want[at],
               (double)got[at]);
    }
    buffer_free(want, 4);
    buffer_free(got, 4);
    panel_case_deinit(&c);
    return ok;
}

static bool check_panel(const struct format *f, panel_fn *want, panel_fn *got)
{
    static const size_t groups[] = {1, 2, 3, 8};

    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        for (size_t round = 0; round < FILLS * FILLS * SCALES; round++) {
            const size_t n_tokens = round % 17 + 1;
            if (!check_panel_once(f, want, got, groups[i] * f->group, n_tokens, round)) {
                return false;
            }
        }
    }
    for (size_t n_tokens = 1; n_tokens <= 17; n_tokens++) {
        if (!check_panel_once(f, want, got, 5 * f->group, n_tokens, 0)) {
            return false;
        }
    }
    return check_panel_once(f, want, got, 4096, 3, 0);
}

/* Goal: a sequence's numbers do not depend on who shares its batch. */
static bool check_batch(const struct format *f, panel_fn *fn)
{
    const size_t n_cols = 3 * f->group, n_tokens = 17;
    float together[17 * PANEL_ROWS], alone[PANEL_ROWS];
    struct panel_case c;
    bool ok = true;
    size_t at;

    panel_case_init(&c, f, n_cols, n_tokens, 0);
    fn(c.panel, n_cols, &c.act, together, PANEL_ROWS);
    for (size_t t = 0; t < n_tokens && ok; t++) {
        struct act_q8 one = c.act;
        one.q += t * one.q_stride;
        one.d += t * one.d_stride;
        one.s += t * one.d_stride;
        one.n_tokens = 1;
        fn(c.panel, n_cols, &one, alone, PANEL_ROWS);
        ok = same_floats(together + t * PANEL_ROWS, alone, PANEL_ROWS, &at);
    }
    if (!ok) {
        printf("%s: a token's result depends on its batch\n", f->name);
    }
    panel_case_deinit(&c);
    return ok;
}

/* ---- quant ---- */

static void quant_input(float *x, size_t n, size_t round)
{
    const int scale = round % 8 == 1 ? 120 : round % 8 == 2 ? -96 : round % 8 == 3 ? -126 : 0;

    for (size_t i = 0; i < n; i++) {
        x[i] = ldexpf(random_float(4), scale);
        if (round % 8 == 4) { /* ties: multiples of one half, the largest one 127 */
            x[i] = i % 32 == 7 ? 127.0f : 0.5f * (float)(int)(random_u32() % 509) - 127.0f;
        } else if (round % 8 == 5 && random_u32() % 64 == 0) {
            x[i] = extreme_float();
        } else if (round % 8 == 6) {
            /* nothing, the largest block that counts as nothing, the smallest that does not */
            const float most = round / 16 % 3 == 0   ? 0.0f
                               : round / 16 % 3 == 1 ? 0x1.fffffep-101f
                                                     : 0x1p-100f;
            x[i] = random_u32() % 2 ? most : -0.0f;
        } else if (round % 8 == 7) {
            x[i] = random_u32() % 2 ? 0x1.fffffep127f : 0x1p-100f;
        }
    }
}

static bool check_quant(quant_fn *want_fn, quant_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < 512 && ok; round++) {
        const size_t block = round / 8 % 2 ? ACT_BLOCK_T2 : ACT_BLOCK, n_blocks = round % 5 + 1;
        const size_t n = block * n_blocks;
        float *x = buffer_new(n * sizeof(float), 4);
        int8_t *q = buffer_new(2 * n, 1);
        float *d = buffer_new(2 * n_blocks * sizeof(float), 4);
        int32_t *s = buffer_new(2 * n_blocks * sizeof(int32_t), 4);
        size_t at;

        quant_input(x, n, round);
        want_fn(x, n, block, q, d, s);
        got_fn(x, n, block, q + n, d + n_blocks, s + n_blocks);
        ok = memcmp(q, q + n, n) == 0 && same_floats(d, d + n_blocks, n_blocks, &at) &&
             memcmp(s, s + n_blocks, n_blocks * sizeof(*s)) == 0;
        if (!ok) {
            printf("quant: block=%zu n=%zu round=%zu differs\n", block, n, round);
        }
        buffer_free(x, 4);
        buffer_free(q, 1);
        buffer_free(d, 4);
        buffer_free(s, 4);
    }
    return ok;
}

/* ---- floats ---- */

static void float_input(float *x, size_t n, size_t round)
{
    for (size_t i = 0; i < n; i++) {
        const bool extreme = round % 4 == 3 && random_u32() % 16 == 0;
        x[i] = extreme ? extreme_float() : random_float(round % 4 == 2 ? 70 : 3);
    }
}

static void half_input(uint16_t *h, size_t n, size_t round)
{
    for (size_t i = 0; i < n; i++) {
        if (round % 4 == 3) {
            h[i] = random_u32() % 16 == 0 ? extreme_f16() : (uint16_t)random_u32();
        } else {
            h[i] = f16_from_f32(random_float(round % 4 == 2 ? 14 : 3));
        }
    }
}

static size_t float_count(size_t round) /* all the odd ones, then a few long ones */
{
    return round < 280 ? round / 4 : 1000 + random_u32() % 64;
}

#define FLOAT_ROUNDS 320

static bool check_dot_f32(dot_f32_fn *want_fn, dot_f32_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < FLOAT_ROUNDS && ok; round++) {
        const size_t n = float_count(round), off = round % 7 * 4;
        float *w = buffer_new(n * sizeof(float), off), *x = buffer_new(n * sizeof(float), 4);
        size_t at;

        float_input(w, n, round);
        float_input(x, n, round);
        const float want = want_fn(w, x, n), got = got_fn(w, x, n);
        ok = same_floats(&want, &got, 1, &at);
        if (!ok) {
            printf("dot_f32: n=%zu round=%zu: want %a got %a\n", n, round, (double)want,
                   (double)got);
        }
        buffer_free(w, off);
        buffer_free(x, 4);
    }
    return ok;
}

static bool check_dot_half(const char *name, dot_half_fn *want_fn, dot_half_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < FLOAT_ROUNDS && ok; round++) {
        const size_t n = float_count(round), off = round % 7 * 2;
        uint16_t *w = buffer_new(n * sizeof(uint16_t), off);
        float *x = buffer_new(n * sizeof(float), 4);
        size_t at;

        half_input(w, n, round);
        float_input(x, n, round);
        const float want = want_fn(w, x, n), got = got_fn(w, x, n);
        ok = same_floats(&want, &got, 1, &at);
        if (!ok) {
            printf("%s: n=%zu round=%zu: want %a got %a\n", name, n, round, (double)want,
                   (double)got);
        }
        buffer_free(w, off);
        buffer_free(x, 4);
    }
    return ok;
}

static bool check_axpy(const struct kernels *want_k, const struct kernels *got_k, bool half)
{
    bool ok = true;

    for (size_t round = 0; round < FLOAT_ROUNDS && ok; round++) {
        const size_t n = float_count(round), off = round % 7 * 4;
        float *x = buffer_new(n * sizeof(float), off), *want = buffer_new(n * sizeof(float), 4);
        float *got = buffer_new(n * sizeof(float), 4);
        uint16_t *h = buffer_new(n * sizeof(uint16_t), 2);
        const float a = round % 8 == 7 ? extreme_float() : random_float(3);
        size_t at = 0;

        float_input(x, n, round);
        half_input(h, n, round);
        float_input(want, n, round);
        memcpy(got, want, n * sizeof(float));
        if (half) {
            want_k->axpy_f16(a, h, want, n);
            got_k->axpy_f16(a, h, got, n);
        } else {
            want_k->axpy_f32(a, x, want, n);
            got_k->axpy_f32(a, x, got, n);
        }
        ok = same_floats(want, got, n, &at);
        if (!ok) {
            printf("axpy_%s: n=%zu round=%zu at %zu: want %a got %a\n", half ? "f16" : "f32", n,
                   round, at, (double)want[at], (double)got[at]);
        }
        buffer_free(x, off);
        buffer_free(want, 4);
        buffer_free(got, 4);
        buffer_free(h, 2);
    }
    return ok;
}

/* Besides random floats: every f16, the middle above it, and that one's neighbours. */
static bool check_f32_to_f16(f32_to_f16_fn *want_fn, f32_to_f16_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < 0x8000 && ok; round += 1 + round / 0x7c00) {
        const size_t n = round % 29 + 4;
        float *x = buffer_new(n * sizeof(float), 4);
        uint16_t *want = buffer_new(n * sizeof(uint16_t), 2);
        uint16_t *got = buffer_new(n * sizeof(uint16_t), 2);
        const float low = f16_to_f32((uint16_t)round);
        const float middle = low + (f16_to_f32((uint16_t)(round + 1)) - low) / 2;

        float_input(x, n, round | 2);
        x[0] = low;
        x[1] = middle;
        x[2] = -nextafterf(middle, 0);
        x[3] = nextafterf(middle, INFINITY);
        want_fn(x, want, n);
        got_fn(x, got, n);
        for (size_t i = 0; i < n && ok; i++) {
            ok = want[i] == got[i] || (is_nan_f16(want[i]) && is_nan_f16(got[i]));
            if (!ok) {
                printf("f32_to_f16: %a: want %04x got %04x\n", (double)x[i], want[i], got[i]);
            }
        }
        buffer_free(x, 4);
        buffer_free(want, 2);
        buffer_free(got, 2);
    }
    return ok;
}

/* ---- bench ---- */

static void bench_panel(const struct format *f, panel_fn *fn, size_t n_cols, size_t n_panels,
                        size_t n_tokens)
{
    const size_t panel_bytes = n_cols / f->group * f->group_bytes;
    struct panel_case c;
    float *out = buffer_new(n_tokens * PANEL_ROWS * sizeof(float), 0);
    uint64_t best = UINT64_MAX;

    panel_case_init(&c, f, n_cols, n_tokens, 0);
    uint8_t *panels = buffer_new(n_panels * panel_bytes, 0);
    for (size_t p = 0; p < n_panels; p++) {
        memcpy(panels + p * panel_bytes, c.panel, panel_bytes);
    }
    const uint64_t until = clock_now_ns() + 100 * NS_PER_MS;
    for (int round = 0; round < 4 || clock_now_ns() < until; round++) {
        const uint64_t start = clock_now_ns();
        for (size_t p = 0; p < n_panels; p++) {
            fn(panels + p * panel_bytes, n_cols, &c.act, out, PANEL_ROWS);
        }
        const uint64_t ns = clock_now_ns() - start;
        best = ns < best ? ns : best;
    }
    const double weights = (double)(n_panels * PANEL_ROWS * n_cols);
    printf("  %-12s %3zu tokens: %8.3f ns per 128 weights and token, %7.2f GB/s of weights\n",
           f->name, n_tokens, (double)best * 128 / (weights * (double)n_tokens),
           (double)(n_panels * panel_bytes) / (double)best);
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
    BENCH("dot_f32", 4, bench_sink = k->dot_f32(x, y, BENCH_FLOATS));
    BENCH("dot_f16", 2, bench_sink = k->dot_f16(h, y, BENCH_FLOATS));
    BENCH("dot_bf16", 2, bench_sink = k->dot_bf16(h, y, BENCH_FLOATS));
    BENCH("axpy_f32", 4, k->axpy_f32(1e-9f, x, y, BENCH_FLOATS));
    BENCH("axpy_f16", 2, k->axpy_f16(1e-9f, h, y, BENCH_FLOATS));
    BENCH("f32_to_f16", 4, k->f32_to_f16(x, h, BENCH_FLOATS));
}

static void bench(const struct kernels *k, bool slow)
{
    panel_fn *const panels[] = {k->panel_b1, k->panel_i8, k->panel_t2};
    static const size_t tokens[] = {1, 4, 8, 64};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(tokens); j++) {
            bench_panel(&formats[i], panels[i], 2048, slow ? 4 : 128, tokens[j]);
        }
    }
    bench_floats(k);
}

/* ---- the program ---- */

static bool say(const char *slot, bool ok)
{
    printf("  %-12s %s\n", slot, ok ? "ok" : "FAILED");
    return ok;
}

static bool check_all(const struct kernels *want, const struct kernels *got)
{
    panel_fn *const wants[] = {want->panel_b1, want->panel_i8, want->panel_t2};
    panel_fn *const gots[] = {got->panel_b1, got->panel_i8, got->panel_t2};
    bool ok = true;

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        const struct format *f = &formats[i];
        ok &= say(f->name, check_panel(f, wants[i], gots[i]) && check_batch(f, gots[i]));
    }
    ok &= say("quant", check_quant(want->quant, got->quant));
    ok &= say("dot_f32", check_dot_f32(want->dot_f32, got->dot_f32));
    ok &= say("dot_f16", check_dot_half("dot_f16", want->dot_f16, got->dot_f16));
    ok &= say("dot_bf16", check_dot_half("dot_bf16", want->dot_bf16, got->dot_bf16));
    ok &= say("axpy_f32", check_axpy(want, got, false));
    ok &= say("axpy_f16", check_axpy(want, got, true));
    ok &= say("f32_to_f16", check_f32_to_f16(want->f32_to_f16, got->f32_to_f16));
    return ok;
}

#ifdef CHECK_EMULATED

static bool table_of(enum cpu_level level, struct kernels *ret)
{
    *ret = (struct kernels){
        .panel_b1 = panel_b1_avx512,
        .panel_i8 = panel_i8_avx512,
        .panel_t2 = panel_t2_avx512,
        .quant = quant_avx512,
        .dot_f32 = dot_f32_avx512,
        .dot_f16 = dot_f16_avx512,
        .dot_bf16 = dot_bf16_avx512,
        .axpy_f32 = axpy_f32_avx512,
        .axpy_f16 = axpy_f16_avx512,
        .f32_to_f16 = f32_to_f16_avx512,
    };
    return level == CPU_AVX512;
}

#else

static bool table_of(enum cpu_level level, struct kernels *ret)
{
    if (!cpu_level_present(level)) {
        return false;
    }
    kernels_init(ret, level);
    return true;
}

#endif

static int usage(void)
{
    fputs("usage: check --level NAME [--seed N] [--bench]\n", stderr);
    return 64;
}

int main(int argc, char **argv)
{
    enum cpu_level level = CPU_LEVELS;
    uint64_t seed = 1;
    bool want_bench = false;
    struct kernels scalar, table;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0) {
            want_bench = true;
        } else if (strcmp(argv[i], "--level") == 0 && i + 1 < argc) {
            if (!cpu_level_parse(argv[++i], &level)) {
                return usage();
            }
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            char *end = NULL;
            errno = 0;
            seed = strtoull(argv[++i], &end, 0);
            if (errno || *end || end == argv[i] || seed == 0) {
                return usage();
            }
        } else {
            return usage();
        }
    }
    if (level == CPU_LEVELS) {
        return usage();
    }
    if (!table_of(level, &table)) {
        printf("%s: not on this machine or not in this build, skipped\n", cpu_level_name(level));
        return 77;
    }
    rng = seed;
    printf("%s:\n", cpu_level_name(level));
    if (want_bench) {
        bench(&table, level == CPU_SCALAR);
        return 0;
    }
    kernels_init(&scalar, CPU_SCALAR);
    if (!check_all(&scalar, &table)) {
        printf("seed %" PRIu64 "\n", seed);
        return 1;
    }
    return 0;
}
