/* The definition of every panel product, in plain C: how a weight's code is found in the panel, the
 * exact integer sums, and the float operations in the order of engine/NUMERICS.md. The other levels
 * are held to its bits. Sums are taken straight from the weights and the quantized values; act->s
 * only stands in where the contract itself multiplies the sum of q. */
#include "engine/kernels/levels.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static float f16_at(const uint8_t *scales, size_t row)
{
    uint16_t h;

    memcpy(&h, scales + 2 * row, sizeof(h));
    return f16_to_f32(h);
}

/* ---- codes: column c counts from the first of the lines, or tiles, given ---- */

static int t_weight(const uint8_t *lines, size_t row, size_t c)
{
    return (lines[c / 16 * 64 + row * 4 + c % 4] >> (c % 16 / 4 * 2) & 3) - 1;
}

static int n_code(const uint8_t *tiles, size_t row, size_t c)
{
    return tiles[c / 8 * 64 + row * 4 + c % 4] >> (c % 8 / 4 * 4) & 15;
}

/* ---- one row and one token: the part of a group ---- */

/* part = fma(d, sum of weight * q, part) over the blocks of a group of lines */
static float t_group(const uint8_t *lines, size_t row, size_t n_cols, const int8_t *q,
                     const float *d, size_t block)
{
    float part = 0;

    for (size_t first = 0; first < n_cols; first += block) {
        int32_t s = 0;
        for (size_t c = first; c < first + block; c++) {
            s += t_weight(lines, row, c) * q[c];
        }
        part = fmaf(d[first / block], (float)s, part);
    }
    return part;
}

static float b1_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q,
                    const float *d, const int32_t *sums)
{
    float acc = 0;

    for (size_t g = 0; g < n_cols / B1_GROUP; g++) {
        const uint8_t *group = panel + g * B1_GROUP_BYTES;
        float part = 0;
        for (size_t b = g * 4; b < g * 4 + 4; b++) {
            int32_t s = 0;
            for (size_t c = b * ACT_BLOCK; c < (b + 1) * ACT_BLOCK; c++) {
                const uint8_t *line = group + 32 + b % 4 * B1_LINE_BYTES;
                const bool plus = line[c % ACT_BLOCK / 8 * PANEL_ROWS + row] >> (c % 8) & 1;
                s += plus ? q[c] : -q[c];
            }
            part = fmaf(d[b], (float)s, part);
        }
        acc = fmaf(f16_at(group, row), part, acc);
    }
    return acc;
}

static float i8_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q,
                    const float *d, const int32_t *sums)
{
    float acc = 0;

    for (size_t g = 0; g < n_cols / I8_GROUP; g++) {
        const uint8_t *group = panel + g * I8_GROUP_BYTES;
        const int8_t *tiles = (const int8_t *)group + 32;
        int32_t s = 0;
        for (size_t c = 0; c < I8_GROUP; c++) {
            s += tiles[c / 4 * 64 + row * 4 + c % 4] * q[g * I8_GROUP + c];
        }
        acc = fmaf(f16_at(group, row), fmaf(d[g], (float)s, 0.0f), acc);
    }
    return acc;
}

static float t_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q, const float *d,
                   enum panel_kind kind)
{
    const struct panel_info *info = panel_info(kind);
    const size_t group_cols = info->group, block = info->act_block;
    float acc = 0;

    for (size_t g = 0; g < n_cols / group_cols; g++) {
        const uint8_t *group = panel + g * info->group_bytes;
        const float part = t_group(group + 32, row, group_cols, q + g * group_cols,
                                   d + g * (group_cols / block), block);
        acc = fmaf(f16_at(group, row), part, acc);
    }
    return acc;
}

static float t64_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q,
                     const float *d, const int32_t *sums)
{
    return t_row(panel, row, n_cols, q, d, PANEL_T64);
}

static float t128_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q,
                      const float *d, const int32_t *sums)
{
    return t_row(panel, row, n_cols, q, d, PANEL_T128);
}

static float t256_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q,
                      const float *d, const int32_t *sums)
{
    return t_row(panel, row, n_cols, q, d, PANEL_T256);
}

static float trow_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q,
                      const float *d, const int32_t *sums)
{
    float scale;
    int32_t s = 0;

    memcpy(&scale, panel + row * sizeof(scale), sizeof(scale));
    for (size_t c = 0; c < n_cols; c++) {
        s += t_weight(panel + TROW_HEAD_BYTES, row, c) * q[c];
    }
    return (float)s * scale / d[0];
}

static float n4_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q,
                    const float *d, const int32_t *sums)
{
    float acc = 0;

    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4_GROUP_BYTES;
        int32_t s = 0;
        for (size_t c = 0; c < N4_GROUP; c++) {
            s += (n_code(group + 32, row, c) - 8) * q[g * N4_GROUP + c];
        }
        acc = fmaf(f16_at(group, row), fmaf(d[g], (float)s, 0.0f), acc);
    }
    return acc;
}

static float n4m_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q,
                     const float *d, const int32_t *sums)
{
    float acc = 0;

    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4M_GROUP_BYTES;
        int32_t s = 0;
        for (size_t c = 0; c < N4_GROUP; c++) {
            s += n_code(group + 64, row, c) * q[g * N4_GROUP + c];
        }
        acc = fmaf(f16_at(group, row), fmaf(d[g], (float)s, 0.0f), acc);
        acc = fmaf(f16_at(group + 32, row), fmaf(d[g], (float)sums[g], 0.0f), acc);
    }
    return acc;
}

/* K4 and K5: eight blocks of 32 columns, each with an integer scale and an integer minimum. */
static float k45_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q,
                     const float *d, const int32_t *sums, bool five)
{
    const size_t group_bytes = five ? K5_GROUP_BYTES : K4_GROUP_BYTES;
    float acc = 0;

    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * group_bytes, *sc = group + 64, *mn = sc + 128;
        const uint8_t *tiles = mn + 128, *fifth = tiles + 2048;
        float part = 0, less = 0;
        for (size_t j = 0; j < 8; j++) {
            const size_t b = g * 8 + j;
            int32_t s = 0;
            for (size_t c = 0; c < 32; c++) {
                int code = n_code(tiles, row, j * 32 + c);
                if (five) {
                    code |= (fifth[j * 64 + row * 4 + c % 4] >> (c / 4) & 1) << 4;
                }
                s += code * q[b * 32 + c];
            }
            part = fmaf(d[b], (float)(sc[j * 16 + row] * s), part);
            less = fmaf(d[b], (float)(mn[j * 16 + row] * sums[b]), less);
        }
        acc = fmaf(f16_at(group, row), part, acc);
        acc = fmaf(-f16_at(group + 32, row), less, acc);
    }
    return acc;
}

static float k4_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q,
                    const float *d, const int32_t *sums)
{
    return k45_row(panel, row, n_cols, q, d, sums, false);
}

static float k5_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q,
                    const float *d, const int32_t *sums)
{
    return k45_row(panel, row, n_cols, q, d, sums, true);
}

static float k6_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q,
                    const float *d, const int32_t *sums)
{
    float acc = 0;

    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * K6_GROUP_BYTES;
        const int8_t *sc = (const int8_t *)group + 32;
        const uint8_t *tiles = group + 288, *lines = tiles + 2048;
        float part = 0;
        for (size_t j = 0; j < 8; j++) {
            const size_t b = g * 8 + j;
            int32_t s = 0;
            for (size_t c = 0; c < 32; c++) {
                const size_t at = j * 32 + c;
                const int high = t_weight(lines, row, at) + 1;
                const int weight = (n_code(tiles, row, at) | high << 4) - 32;
                s += sc[at / 16 * 16 + row] * (weight * q[b * 32 + c]);
            }
            part = fmaf(d[b], (float)s, part);
        }
        acc = fmaf(f16_at(group, row), part, acc);
    }
    return acc;
}

/* All blocks of B1 have d = 1 here, so that a group's part is the exact sum of its 128 columns. */
static float x1_row(const uint8_t *panel, size_t row, size_t n_cols, const int8_t *q,
                    const float *d, const int32_t *sums)
{
    const uint8_t *bits = (const uint8_t *)q;
    float acc = 0;

    for (size_t g = 0; g < n_cols / X1_GROUP; g++) {
        const uint8_t *group = panel + g * X1_GROUP_BYTES;
        int32_t s = 0;
        for (size_t c = 0; c < X1_GROUP; c++) {
            const uint8_t *line = group + 32 + c / 32 * X1_LINE_BYTES;
            const bool plus = line[4 * row + c % 32 / 8] >> (c % 8) & 1;
            const bool minus = bits[(g * X1_GROUP + c) / 8] >> (c % 8) & 1;
            s += plus != minus ? 1 : -1;
        }
        acc = fmaf(f16_at(group, row), (float)s, acc);
    }
    return acc * d[0];
}

void quad_sums_scalar(const int8_t *q, size_t n_cols, uint8_t *ret)
{
    for (size_t c = 0; c < n_cols; c += 4) {
        for (unsigned i = 0; i < 16; i++) {
            int kept = 0;
            for (unsigned k = 0; k < 4; k++) {
                kept += (i >> k & 1) != 0 ? q[c + k] : 0;
            }
            ret[i] = (uint8_t)(kept & 31);
            ret[16 + i] = (uint8_t)((kept - (kept & 31)) / 32 + 16);
        }
        ret += QUAD_SUMS_BYTES;
    }
}

#define PANEL(name, kind)                                                                          \
    void panel_##name##_scalar(const uint8_t *panel, size_t n_cols, const struct act_q8 *act,      \
                               float *out, size_t out_stride)                                      \
    {                                                                                              \
        assert(n_cols % panel_info(kind)->group == 0 && n_cols <= KERN_COLS_MAX);                  \
                                                                                                   \
        for (size_t t = 0; t < act->n_tokens; t++) {                                               \
            for (size_t row = 0; row < PANEL_ROWS; row++) {                                        \
                out[t * out_stride + row] =                                                        \
                    name##_row(panel, row, n_cols, act->q + t * act->q_stride,                     \
                               act->d + t * act->d_stride, act->s + t * act->d_stride);            \
            }                                                                                      \
        }                                                                                          \
    }

PANEL(b1, PANEL_B1)
PANEL(i8, PANEL_I8)
PANEL(t64, PANEL_T64)
PANEL(t128, PANEL_T128)
PANEL(t256, PANEL_T256)
PANEL(trow, PANEL_TROW)
PANEL(n4, PANEL_N4)
PANEL(n4m, PANEL_N4M)
PANEL(k4, PANEL_K4)
PANEL(k5, PANEL_K5)
PANEL(k6, PANEL_K6)
PANEL(x1, PANEL_X1)
