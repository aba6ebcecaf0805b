/* Binary products by tables, against the scalar twins. */
#include <stdio.h>
#include <string.h>

#include "engine/kernels/levels.h"
#include "tests/kernels/check.h"

#define TABLE_BYTES 16
#define BLOCK_QUADS (ACT_BLOCK / 4)
#define BLOCK_BYTES (BLOCK_QUADS * QUAD_SUMS_BYTES)

/* Where kernels.h says that the tables of a block's quad begin. */
static size_t place_of(enum cpu_level level, size_t quad, bool high)
{
    return level == CPU_AVX512
               ? (high ? BLOCK_BYTES / 2 : 0) + quad % 2 * 64 + quad / 2 * TABLE_BYTES
               : quad * QUAD_SUMS_BYTES + (high ? TABLE_BYTES : 0);
}

/* a is the scalar level's. */
static bool same_tables(enum cpu_level level, const uint8_t *a, const uint8_t *b, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += BLOCK_BYTES) {
        for (size_t i = 0; i < (size_t)2 * BLOCK_QUADS; i++) {
            const size_t from = place_of(CPU_SCALAR, i / 2, i % 2);
            const size_t to = place_of(level, i / 2, i % 2);
            if (memcmp(a + at + from, b + at + to, TABLE_BYTES) != 0) {
                return false;
            }
        }
    }
    return true;
}

bool check_quad_sums(enum cpu_level level, quad_sums_fn *fn)
{
    static const size_t cols[] = {32, 96, 128, 2048, 2080};
    static const int fills[] = {-1, 0x80, 0x7f, 0}; /* random, -128, 127, 0 */

    for (size_t i = 0; i < ARRAY_SIZE(cols) * ARRAY_SIZE(fills); i++) {
        const size_t n = cols[i % ARRAY_SIZE(cols)], bytes = n / 4 * QUAD_SUMS_BYTES;
        int8_t *q = buffer_new(n, 0);
        uint8_t *want = buffer_new(bytes, 0), *got = buffer_new(bytes, 0);
        fill_bytes(q, n, fills[i / ARRAY_SIZE(cols)]);
        quad_sums_scalar(q, n, want);
        fn(q, n, got);
        const bool ok = same_tables(level, want, got, bytes);
        if (!ok) {
            printf("quad_sums: n_cols=%zu differs\n", n);
        }
        buffer_free(q, 0);
        buffer_free(want, 0);
        buffer_free(got, 0);
        if (!ok) {
            return false;
        }
    }
    return true;
}

/* n panels side by side, each of its own case; all get the first one's activations. */
struct panels {
    struct panel_case c;
    uint8_t *panels; /* owned, like the next */
    uint8_t *sums;
    struct act_q8 act;
};

static void panels_init(struct panels *p, quad_sums_fn *quad_sums, size_t n, size_t n_cols,
                        size_t n_tokens, size_t round)
{
    const size_t bytes = panel_bytes(PANEL_B1, n_cols), stride = n_cols / 4 * QUAD_SUMS_BYTES;

    panel_case_init(&p->c, PANEL_B1, n_cols, n_tokens, round);
    p->panels = buffer_new(n * bytes, 32);
    memcpy(p->panels, p->c.panel, bytes);
    for (size_t i = 1; i < n; i++) {
        struct panel_case other;
        panel_case_init(&other, PANEL_B1, n_cols, 1, round + i);
        memcpy(p->panels + i * bytes, other.panel, bytes);
        panel_case_deinit(&other);
    }
    p->sums = buffer_new(n_tokens * stride, 0);
    p->act = p->c.act;
    for (size_t t = 0; t < n_tokens; t++) {
        quad_sums(p->act.q + t * p->act.q_stride, n_cols, p->sums + t * stride);
    }
    p->act.sums = p->sums;
    p->act.sums_stride = stride;
}

static void panels_deinit(struct panels *p)
{
    panel_case_deinit(&p->c);
    buffer_free(p->panels, 32);
    buffer_free(p->sums, 0);
}

/* What stands between the rows of `out` belongs to somebody else. */
static bool check_once(quad_sums_fn *quad_sums, b1_panels_fn *fn, panel_fn *one, size_t n,
                       size_t n_cols, size_t n_tokens, size_t round)
{
    const size_t stride = n * PANEL_ROWS + round % 3;
    const size_t n_out = (n_tokens - 1) * stride + n * PANEL_ROWS;
    float *want = buffer_new(n_out * sizeof(float), 4), *got = buffer_new(n_out * sizeof(float), 4);
    struct panels p;
    size_t at;
    bool ok;

    panels_init(&p, quad_sums, n, n_cols, n_tokens, round);
    fill_bytes(want, n_out * sizeof(float), 0x5a);
    fill_bytes(got, n_out * sizeof(float), 0x5a);
    for (size_t i = 0; i < n; i++) {
        panel_b1_scalar(p.panels + i * panel_bytes(PANEL_B1, n_cols), n_cols, &p.c.act,
                        want + i * PANEL_ROWS, stride);
    }
    fn(p.panels, n, round % 2 ? p.panels : NULL, n_cols, &p.act, got, stride);
    ok = same_floats(want, got, n_out, &at);
    if (ok && n == 1) {
        fill_bytes(got, n_out * sizeof(float), 0x5a);
        one(p.panels, n_cols, &p.act, got, stride);
        ok = same_floats(want, got, n_out, &at);
    }
    if (!ok) {
        printf("b1_panels: n=%zu n_cols=%zu n_tokens=%zu round=%zu token %zu row %zu: want %a got "
               "%a\n",
               n, n_cols, n_tokens, round, at / stride, at % stride, (double)want[at],
               (double)got[at]);
    }
    buffer_free(want, 4);
    buffer_free(got, 4);
    panels_deinit(&p);
    return ok;
}

bool check_b1_panels(quad_sums_fn *quad_sums, b1_panels_fn *fn, panel_fn *one)
{
    static const size_t groups[] = {1, 2, 3, 8};

    for (size_t n = 1; n <= B1_PANELS_BEST; n++) {
        for (size_t round = 0; round < 48; round++) {
            if (!check_once(quad_sums, fn, one, n, groups[round % 4] * B1_GROUP, round % 17 + 1,
                            round)) {
                return false;
            }
        }
        for (size_t n_tokens = 60; n_tokens <= 131; n_tokens += n_tokens == 60 ? 4 : 67) {
            if (!check_once(quad_sums, fn, one, n, 2 * B1_GROUP, n_tokens, n_tokens)) {
                return false;
            }
        }
        if (!check_once(quad_sums, fn, one, n, 4096, 3, 0)) {
            return false;
        }
    }
    return true;
}
