/* The two-bit formats and Q1_0 are stored by their own encoder: what it makes of d times the codes
 * is d and the codes again, since each of its operations is exact on such numbers. Q4_0's and
 * Q8_0's encoders look for d where the largest code is, which may be none that was chosen. */
#include "engine/fit/grid.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "engine/format_code.h"

#define BLOCK_MAX 256u
#define ROUNDS_MAX 32u /* it ends long before; codes cannot come back */
#define STARTS_MAX 8u

bool grid_of(enum format f, struct grid *ret)
{
    const struct grid g = {.format = f, .block = format_info(f)->block, .lo = -1, .hi = 1};

    *ret = g;
    switch (f) {
    case FORMAT_Q1_0:
        ret->no_zero = true;
        return true;
    case FORMAT_Q2_0:
    case FORMAT_Q2_0_G128:
    case FORMAT_PQ2_0:
    case FORMAT_TQ1_0:
    case FORMAT_TQ2_0:
        return true;
    case FORMAT_Q4_0:
        ret->lo = -8;
        ret->hi = 7;
        return true;
    case FORMAT_Q8_0:
        ret->lo = -127;
        ret->hi = 127;
        return true;
    default:
        return false;
    }
}

double grid_inverse(float d)
{
    return d != 0 && isfinite(1.0 / (double)d) ? 1.0 / (double)d : 0;
}

int grid_code(const struct grid *g, double inv, double x)
{
    if (g->no_zero) {
        return x * inv >= 0 ? 1 : -1;
    }
    const double r = floor(x * inv + 0.5);
    return r < (double)g->hi ? (r > (double)g->lo ? (int)r : g->lo) : g->hi;
}

/* ---- one scale ---- */

static float as_f16(double d)
{
    return f16_to_f32(f16_from_f32((float)d));
}

/* What the block loses with this scale. */
static double loss(const struct grid *g, const double *x, const double *a, float d)
{
    const double inv = grid_inverse(d);
    double sum = 0;

    for (size_t i = 0; i < g->block; i++) {
        const double e = x[i] - (double)d * grid_code(g, inv, x[i]);
        sum += (a ? a[i] : 1) * e * e;
    }
    return sum;
}

static float settle(const struct grid *g, const double *x, const double *a, float d)
{
    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        const double inv = grid_inverse(d);
        double xc = 0, cc = 0;
        for (size_t i = 0; i < g->block; i++) {
            const double c = grid_code(g, inv, x[i]), weight = a ? a[i] : 1;
            xc += weight * x[i] * c;
            cc += weight * c * c;
        }
        const float next = cc > 0 ? as_f16(xc / cc) : 0;
        if (next == d) {
            break;
        }
        d = next;
    }
    return d;
}

/* Scales to begin with; the first is the usual encoder's. */
static size_t starts(const struct grid *g, const double *x, double ret[STARTS_MAX])
{
    static const double ternary[] = {1, 0.85, 0.7, 0.55, 0.4, 0.3, 0.2},
                        four[] = {1, 0.93, 0.86, 0.79, 0.72, -8.0 / 7, -1, -0.86};
    double extreme = 0, sum = 0;

    for (size_t i = 0; i < g->block; i++) {
        extreme = fabs(x[i]) > fabs(extreme) ? x[i] : extreme;
        sum += fabs(x[i]);
    }
    if (g->no_zero) {
        ret[0] = sum / (double)g->block;
        return 1;
    }
    if (g->hi == 127) {
        ret[0] = fabs(extreme) / 127;
        return 1;
    }
    const bool is_four = g->hi == 7;
    const double *const factors = is_four ? four : ternary;
    const size_t n = is_four ? ARRAY_SIZE(four) : ARRAY_SIZE(ternary);
    for (size_t i = 0; i < n; i++) {
        ret[i] = factors[i] * (is_four ? extreme / -8 : fabs(extreme));
    }
    return n;
}

float grid_scale(const struct grid *g, const double *x, const double *a)
{
    double from[STARTS_MAX];
    const size_t n = starts(g, x, from);
    float best = as_f16(from[0]);
    double least = loss(g, x, a, best);

    for (size_t i = 0; i < n; i++) {
        const float d = settle(g, x, a, as_f16(from[i]));
        const double lost = loss(g, x, a, d);
        if (lost < least) {
            least = lost;
            best = d;
        }
    }
    return best;
}

/* ---- rows ---- */

static void store_q4_0(float d, const int8_t *codes, uint8_t *ret)
{
    memset(ret, 0, Q4_BYTES);
    store16(ret, f16_from_f32(d));
    for (size_t i = 0; i < Q8_BLOCK; i++) {
        ret[2 + i % 16] |= (uint8_t)((unsigned)(codes[i] + 8) << (i < 16 ? 0 : 4));
    }
}

static void store_q8_0(float d, const int8_t *codes, uint8_t *ret)
{
    store16(ret, f16_from_f32(d));
    memcpy(ret + 2, codes, Q8_BLOCK);
}

void grid_store(const struct grid *g, const float *scales, const int8_t *codes, size_t n_cols,
                float *values, uint8_t *ret)
{
    const size_t n = n_cols / g->block, bytes = format_info(g->format)->block_bytes;

    if (g->format == FORMAT_Q4_0 || g->format == FORMAT_Q8_0) {
        for (size_t b = 0; b < n; b++) {
            (g->format == FORMAT_Q4_0 ? store_q4_0 : store_q8_0)(scales[b], codes + b * g->block,
                                                                 ret + b * bytes);
        }
        return;
    }
    for (size_t i = 0; i < n_cols; i++) {
        values[i] = scales[i / g->block] * (float)codes[i];
    }
    format_encode_row(g->format, values, 1, n_cols, ret);
}

void grid_refine_row(const struct grid *g, const float *x, const double *a, size_t n_cols,
                     float *scales, int8_t *codes)
{
    double block[BLOCK_MAX];

    assert(g->block <= BLOCK_MAX);
    for (size_t at = 0; at < n_cols; at += g->block) {
        for (size_t i = 0; i < g->block; i++) {
            block[i] = x[at + i];
        }
        const float d = grid_scale(g, block, a ? a + at : NULL);
        const double inv = grid_inverse(d);
        scales[at / g->block] = d;
        for (size_t i = 0; i < g->block; i++) {
            codes[at + i] = (int8_t)grid_code(g, inv, block[i]);
        }
    }
}
