/* Fuzz target of quantized blocks: bytes choose a format, a shape and activations, and fill the
 * rows.
 *
 * For every format: rows decode as their description reads; panels lose nothing of them; a product
 * is the product of what the rows and the activations stand for, within rounding; every CPU level
 * gives the scalar level's bits; and what an encoder wrote, it writes again. */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format.h"
#include "engine/kernels/kernels.h"
#include "tests/support/layouts.h"

#define HEAD                                                                                       \
    8u /* format, blocks in a row, rows, tokens, activations, f32 scale of the tensor begins at 4 */
#define BLOCKS_MAX 4u
#define TOKENS_MAX 3u
#define COLS_MAX ((size_t)BLOCKS_MAX * 256)

/* One case; buffers are exactly as long as the engine may read. */
struct blocks {
    enum format f;
    const struct format_info *info;
    size_t n_cols, n_rows, n_tokens;
    float scale;   /* of the tensor */
    uint8_t *rows; /* begins at an odd address */
    uint8_t *panel;
    float *x;       /* (n_tokens, n_cols) */
    float *decoded; /* (n_rows, n_cols) */
};

static void must(bool ok, const struct blocks *b, const char *what)
{
    if (!ok) {
        (void)fprintf(stderr, "%s, %zu columns, %zu rows: %s\n", b->info->name, b->n_cols,
                      b->n_rows, what);
        abort();
    }
}

/* Exactly n bytes, aligned. */
static void *aligned(size_t alignment, size_t n)
{
    void *p = NULL;

    if (posix_memalign(&p, alignment, n) != 0) {
        abort();
    }
    return p;
}

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b));
}

static bool all_same(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!same(a[i], b[i])) {
            return false;
        }
    }
    return true;
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            return false;
        }
    }
    return true;
}

/* ---- the case ---- */

/* The input again and again, changed a little every time, so that a short one fills a large case
 * too. */
static void fill(uint8_t *out, size_t n, const uint8_t *data, size_t n_data, size_t *at)
{
    for (size_t i = 0; i < n; i++, (*at)++) {
        out[i] = (uint8_t)(data[*at % n_data] + 37 * (*at / n_data));
    }
}

/* Activations: small whole numbers, ordinary numbers, or any bits at all. */
static void fill_x(struct blocks *b, uint8_t way, const uint8_t *data, size_t n_data, size_t *at)
{
    for (size_t i = 0; i < b->n_tokens * b->n_cols; i++) {
        uint8_t bytes[4];
        fill(bytes, sizeof(bytes), data, n_data, at);
        if (way % 4 == 0) {
            memcpy(&b->x[i], bytes, sizeof(b->x[i]));
        } else if (way % 4 == 1) {
            b->x[i] = (float)(int8_t)bytes[0];
        } else {
            b->x[i] = (float)(int8_t)bytes[0] / 64 + (float)bytes[1] / 16384;
        }
    }
}

static void make(struct blocks *b, const uint8_t *data, size_t n)
{
    size_t at = 0;

    b->f = (enum format)(data[0] % FORMATS);
    b->info = format_info(b->f);
    const size_t group =
        b->info->panel == PANEL_NONE ? 32 : panel_info(b->info->panel)->group; /* of columns */
    b->n_cols = (group > b->info->block ? group : b->info->block) * (1 + data[1] % BLOCKS_MAX);
    b->n_rows = 1 + data[2] % PANEL_ROWS;
    b->n_tokens = 1 + data[3] % TOKENS_MAX;
    memcpy(&b->scale, data + 4, sizeof(b->scale));
    b->scale = b->info->tail_bytes > 0 ? b->scale : 1.0f;
    const size_t bytes = b->n_rows * format_row_bytes(b->f, b->n_cols);
    b->rows = aligned(64, bytes + 1);
    b->rows++;
    b->x = aligned(16, b->n_tokens * b->n_cols * sizeof(*b->x));
    b->decoded = aligned(16, b->n_rows * b->n_cols * sizeof(*b->decoded));
    fill(b->rows, bytes, data + HEAD, n - HEAD, &at);
    fill_x(b, data[3] / TOKENS_MAX, data + HEAD, n - HEAD, &at);
    for (size_t row = 0; row < b->n_rows; row++) {
        format_decode_row(b->f, b->rows + row * format_row_bytes(b->f, b->n_cols), b->scale,
                          b->n_cols, b->decoded + row * b->n_cols);
    }
}

static void unmake(struct blocks *b)
{
    free(b->rows - 1);
    free(b->panel);
    free(b->x);
    free(b->decoded);
}

/* ---- rows ---- */

static void check_layout(const struct blocks *b)
{
    const size_t row_bytes = format_row_bytes(b->f, b->n_cols);

    for (size_t i = 0; i < b->n_rows * b->n_cols; i++) {
        float want;
        const uint8_t *row = b->rows + i / b->n_cols * row_bytes;
        must(layout_weight(b->info->name, row, b->scale, i % b->n_cols, &want) == 0, b,
             "has no description");
        must(same(b->decoded[i], want), b, "a weight is not what its description says");
    }
}

static void check_packing(struct blocks *b)
{
    float row[COLS_MAX];

    b->panel = aligned(64, format_panel_bytes(b->f, b->n_cols));
    format_pack_panel(b->f, b->rows, b->scale, b->n_rows, b->n_cols, b->panel);
    for (size_t r = 0; r < PANEL_ROWS; r++) {
        format_unpack_row(b->f, b->panel, r, b->n_cols, row);
        if (r < b->n_rows) {
            must(all_same(row, b->decoded + r * b->n_cols, b->n_cols), b, "packing changes a row");
        }
        for (size_t c = 0; r >= b->n_rows && c < b->n_cols; c++) {
            must(row[c] == 0.0f, b, "a row that is not there weighs something");
        }
    }
}

/* A second encoding changes nothing any more, where the first gives numbers. Values are compared: a
 * scale that became zero leaves the codes without a meaning. */
static void check_encoding(const struct blocks *b)
{
    const size_t row_bytes = format_row_bytes(b->f, b->n_cols), n = b->n_cols;
    uint8_t *bytes = aligned(64, row_bytes);
    float x[COLS_MAX], y[COLS_MAX], z[COLS_MAX];

    for (size_t t = 0; t < b->n_tokens; t++) {
        float most = 0, again = 0;
        memcpy(x, b->x + t * n, n * sizeof(*x));
        for (size_t i = 0; i < n; i++) {
            most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
        }
        format_encode_row(b->f, x, most, n, bytes);
        format_decode_row(b->f, bytes, most, n, y);
        if (!all_finite(x, n) || !all_finite(y, n)) {
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            again = fabsf(y[i]) > again ? fabsf(y[i]) : again;
        }
        format_encode_row(b->f, y, again, n, bytes);
        format_decode_row(b->f, bytes, again, n, z);
        for (size_t i = 0; i < n; i++) {
            must(y[i] == z[i], b, "encoding twice is not encoding once");
        }
    }
    free(bytes);
}

/* ---- products ---- */

struct acts {
    int8_t *q;  /* (n_tokens, stride) */
    float *d;   /* (n_tokens, d_stride) */
    int32_t *s; /* the same */
    size_t block, stride, d_stride;
};

static void quantize(const struct blocks *b, quant_fn *fn, struct acts *ret)
{
    const uint32_t block = panel_info(b->info->panel)->act_block;

    ret->block = block ? block : b->n_cols;
    ret->stride = (b->n_cols + 63) / 64 * 64;
    ret->d_stride = (b->n_cols / ret->block + 15) / 16 * 16;
    ret->q = aligned(64, b->n_tokens * ret->stride);
    ret->d = aligned(64, b->n_tokens * ret->d_stride * sizeof(*ret->d));
    ret->s = aligned(64, b->n_tokens * ret->d_stride * sizeof(*ret->s));
    memset(ret->q, 0, b->n_tokens * ret->stride);
    memset(ret->d, 0, b->n_tokens * ret->d_stride * sizeof(*ret->d));
    memset(ret->s, 0, b->n_tokens * ret->d_stride * sizeof(*ret->s));
    for (size_t t = 0; t < b->n_tokens; t++) {
        fn(b->x + t * b->n_cols, b->n_cols, ret->block, ret->q + t * ret->stride,
           ret->d + t * ret->d_stride, ret->s + t * ret->d_stride);
    }
}

static void acts_free(struct acts *a)
{
    free(a->q);
    free(a->d);
    free(a->s);
}

static void multiply(const struct blocks *b, const struct kernels *k, const struct acts *a,
                     float *ret)
{
    const struct act_q8 act = {.q = a->q,
                               .d = a->d,
                               .s = a->s,
                               .q_stride = a->stride,
                               .d_stride = a->d_stride,
                               .n_tokens = b->n_tokens};

    k->panel[b->info->panel](b->panel, b->n_cols, &act, ret, PANEL_ROWS);
}

/* What a weight is the difference of, beyond its own size: the minimum of a block may be far
 * larger. */
static double offset_of(const struct blocks *b, const uint8_t *row, size_t i)
{
    const uint8_t *block = row + b->info->head_bytes + i / b->info->block * b->info->block_bytes;
    uint16_t half;

    memcpy(&half, block + 2, sizeof(half));
    switch (b->info->panel) {
    case PANEL_N4M:
        return fabs((double)f16_to_f32(half));
    case PANEL_K4:
    case PANEL_K5:
        return 63 * fabs((double)f16_to_f32(half));
    default:
        return 0;
    }
}

/* Is `got` the sum of weight times activation? Skipped where a float could overflow on the way. */
static void check_sum(const struct blocks *b, const struct acts *a, size_t t, size_t row, float got)
{
    const uint8_t *bytes = b->rows + row * format_row_bytes(b->f, b->n_cols);
    const float *w = b->decoded + row * b->n_cols;
    double want = 0, size = 0, sum = 0;

    for (size_t i = 0; i < b->n_cols; i++) {
        const double d = a->d[t * a->d_stride + i / a->block], q = a->q[t * a->stride + i];
        const double x = b->info->panel == PANEL_TROW ? q / d : q * d; /* TROW divides */
        want += (double)w[i] * x;
        sum += fabs(x);
        size += (fabs((double)w[i]) + 2 * offset_of(b, bytes, i)) * fabs(x);
    }
    if (!isfinite(want) || !(size < 1e30) || !(sum < 1e30)) {
        return;
    }
    must(fabs((double)got - want) <= 1e-5 * size + 1e-30, b, "a product is not that of its rows");
}

static bool acts_same(const struct blocks *b, const struct acts *x, const struct acts *y)
{
    const size_t n = b->n_tokens * x->d_stride;

    return memcmp(x->q, y->q, b->n_tokens * x->stride) == 0 && all_same(x->d, y->d, n) &&
           memcmp(x->s, y->s, n * sizeof(*x->s)) == 0;
}

static void check_products(const struct blocks *b, bool whole_token)
{
    float want[TOKENS_MAX * PANEL_ROWS], got[TOKENS_MAX * PANEL_ROWS];
    struct kernels scalar, k;
    struct acts acts, other;

    kernels_init(&scalar, CPU_SCALAR);
    quantize(b, whole_token ? scalar.quant_token : scalar.quant, &acts);
    multiply(b, &scalar, &acts, want);
    for (size_t t = 0; t < b->n_tokens; t++) {
        for (size_t row = 0; row < b->n_rows; row++) {
            check_sum(b, &acts, t, row, want[t * PANEL_ROWS + row]);
        }
    }
    for (unsigned level = 0; level < CPU_LEVELS; level++) {
        if (!cpu_level_present((enum cpu_level)level)) {
            continue;
        }
        kernels_init(&k, (enum cpu_level)level);
        quantize(b, whole_token ? k.quant_token : k.quant, &other);
        must(acts_same(b, &acts, &other), b, "a CPU level quantizes otherwise");
        multiply(b, &k, &acts, got);
        must(all_same(got, want, b->n_tokens * PANEL_ROWS), b, "a CPU level multiplies otherwise");
        acts_free(&other);
    }
    acts_free(&acts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct blocks b = {0};

    if (n <= HEAD) {
        return 0;
    }
    make(&b, data, n);
    if (b.info->panel != PANEL_NONE) {
        check_layout(&b);
        check_packing(&b);
        if (b.info->panel != PANEL_TROW) { /* takes one scale for the whole token, always */
            check_products(&b, false);
        }
        check_products(&b, true);
    }
    if (format_can_encode(b.f)) {
        check_encoding(&b);
    }
    unmake(&b);
    return 0;
}
