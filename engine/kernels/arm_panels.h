/* Every kind of panel once for the three ARM levels: which block meets which scale, and in which
 * order. A level gives the integer sums of a block, by the function types below; all of it is
 * inlined into its panel functions. */
#ifndef ENGINE_KERNELS_ARM_PANELS_H
#define ENGINE_KERNELS_ARM_PANELS_H

#include "engine/kernels/neon_common.h"

/* Each of these takes n tokens from t0 on and the columns from `col` on; sum is (token, row). */

/* I8, 32 columns: adds weight * q. */
typedef void block_fn(const uint8_t *tiles, const struct act_q8 *act, size_t t0, const size_t n,
                      size_t col, int32x4_t sum[][QUADS]);

/* Two-bit codes in n_lines lines of 16 columns: sum = (code - 1) * q. That one of each code is the
 * sum of q, which is in block `at` of the activations. n_lines is 2, 16 or, for TROW, any multiple
 * of 4. */
typedef void lines_fn(const uint8_t *lines, const size_t n_lines, const struct act_q8 *act,
                      size_t t0, const size_t n, size_t col, size_t at, int32x4_t sum[][QUADS]);

/* Codes of 4, 5 or 6 bits in 16 or 32 columns: adds code * q. more: see tile_codes(). */
typedef void tiles_fn(const uint8_t *tiles, const size_t cols, const int bits,
                      uint8x16_t more[QUADS], const struct act_q8 *act, size_t t0, const size_t n,
                      size_t col, int32x4_t sum[][QUADS]);

INLINE void i8_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride, block_fn *block)
{
    float32x4_t acc[TOKENS][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / I8_GROUP; g++) {
        const uint8_t *group = panel + g * I8_GROUP_BYTES;
        int32x4_t sum[TOKENS][QUADS];

        memset(sum, 0, sizeof(sum));
        block(group + 32, act, t0, n, g * I8_GROUP, sum);
        add_groups(act, t0, n, g, group, sum, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

/* T64, T128 and T256: groups of whole blocks of activations. */
INLINE void t_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                     const size_t n, const size_t cols, const size_t block, float *out,
                     size_t out_stride, lines_fn *lines)
{
    float32x4_t acc[TOKENS][QUADS], part[TOKENS][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / cols; g++) {
        const uint8_t *group = panel + g * (32 + cols * 4);
        memset(part, 0, sizeof(part));
        for (size_t b = 0; b < cols / block; b++) {
            const size_t at = g * (cols / block) + b;
            int32x4_t sum[TOKENS][QUADS];

            lines(group + 32 + b * block * 4, block / T_LINE, act, t0, n, at * block, at, sum);
            add_blocks(act, t0, n, at, sum, part);
        }
        add_parts(group, n, part, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

INLINE void t64_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const size_t n, float *out, size_t out_stride, lines_fn *lines)
{
    t_tokens(panel, n_cols, act, t0, n, 64, ACT_BLOCK, out, out_stride, lines);
}

INLINE void t128_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        const size_t n, float *out, size_t out_stride, lines_fn *lines)
{
    t_tokens(panel, n_cols, act, t0, n, 128, ACT_BLOCK, out, out_stride, lines);
}

INLINE void t256_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        const size_t n, float *out, size_t out_stride, lines_fn *lines)
{
    t_tokens(panel, n_cols, act, t0, n, T256_GROUP, ACT_BLOCK_T256, out, out_stride, lines);
}

INLINE void trow_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        const size_t n, float *out, size_t out_stride, lines_fn *lines)
{
    int32x4_t sum[TOKENS][QUADS];

    lines(panel + TROW_HEAD_BYTES, n_cols / T_LINE, act, t0, n, 0, 0, sum);
    UNROLL for (size_t t = 0; t < n; t++)
    {
        store_scaled(panel, act->d[(t0 + t) * act->d_stride], sum[t], out + (t0 + t) * out_stride);
    }
}

INLINE void n4_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride, tiles_fn *tiles)
{
    float32x4_t acc[TOKENS][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4_GROUP_BYTES;
        int32x4_t sum[TOKENS][QUADS];

        sums_at(act, t0, n, g, -8, sum); /* weight = code - 8 */
        tiles(group + 32, ACT_BLOCK, 4, NULL, act, t0, n, g * N4_GROUP, sum);
        add_groups(act, t0, n, g, group, sum, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

INLINE void n4m_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const size_t n, float *out, size_t out_stride, tiles_fn *tiles)
{
    float32x4_t acc[TOKENS][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4M_GROUP_BYTES;
        int32x4_t sum[TOKENS][QUADS];

        memset(sum, 0, sizeof(sum));
        tiles(group + 64, ACT_BLOCK, 4, NULL, act, t0, n, g * N4_GROUP, sum);
        add_groups(act, t0, n, g, group, sum, acc);
        sums_at(act, t0, n, g, 1, sum);
        add_groups(act, t0, n, g, group + 32, sum, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

INLINE void k45_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const size_t n, const int bits, float *out, size_t out_stride,
                       tiles_fn *tiles)
{
    float32x4_t acc[TOKENS][QUADS], part[TOKENS][QUADS], less[TOKENS][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * (bits == 5 ? K5_GROUP_BYTES : K4_GROUP_BYTES);
        memset(part, 0, sizeof(part));
        memset(less, 0, sizeof(less));
        for (size_t j = 0; j < 8; j++) {
            int32x4_t sum[TOKENS][QUADS];
            uint8x16_t more[QUADS];

            memset(sum, 0, sizeof(sum));
            memset(more, 0, sizeof(more));
            if (bits == 5) {
                load_quads(group + K5_FIFTH + j * 64, more);
            }
            tiles(group + K45_TILES + j * 256, ACT_BLOCK, bits, more, act, t0, n,
                  g * K_GROUP + j * ACT_BLOCK, sum);
            k45_block(group, j, act, t0, n, g * 8 + j, sum, part, less);
        }
        k45_group(group, n, part, less, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

INLINE void k4_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride, tiles_fn *tiles)
{
    k45_tokens(panel, n_cols, act, t0, n, 4, out, out_stride, tiles);
}

INLINE void k5_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride, tiles_fn *tiles)
{
    k45_tokens(panel, n_cols, act, t0, n, 5, out, out_stride, tiles);
}

/* 16 columns of K6 under one scale: the scaled sums go onto ret. */
INLINE void k6_scaled(const uint8_t *group, size_t i, const struct act_q8 *act, size_t t0,
                      const size_t n, size_t col, int32x4_t ret[TOKENS][QUADS], tiles_fn *tiles)
{
    int32x4_t sum[TOKENS][QUADS], sc[QUADS];
    uint8x16_t more[QUADS];

    UNROLL for (size_t t = 0; t < n; t++)
    {
        const int32_t all = vaddlvq_s8(vld1q_s8(act->q + (t0 + t) * act->q_stride + col));
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            sum[t][r] = vdupq_n_s32(-32 * all); /* weight = code - 32 */
        }
    }
    load_quads(group + K6_LINES + i * 64, more);
    tiles(group + K6_TILES + i * 128, 16, 6, more, act, t0, n, col, sum);
    widen_s8(group + K6_SC + i * 16, sc);
    UNROLL for (size_t t = 0; t < n; t++)
    {
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            ret[t][r] = vmlaq_s32(ret[t][r], sc[r], sum[t][r]);
        }
    }
}

INLINE void k6_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride, tiles_fn *tiles)
{
    float32x4_t acc[TOKENS][QUADS], part[TOKENS][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * K6_GROUP_BYTES;
        memset(part, 0, sizeof(part));
        for (size_t j = 0; j < 8; j++) {
            const size_t col = g * K_GROUP + j * ACT_BLOCK;
            int32x4_t sum[TOKENS][QUADS];

            memset(sum, 0, sizeof(sum));
            k6_scaled(group, 2 * j, act, t0, n, col, sum, tiles);
            k6_scaled(group, 2 * j + 1, act, t0, n, col + 16, sum, tiles);
            add_blocks(act, t0, n, g * 8 + j, sum, part);
        }
        add_parts(group, n, part, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

#endif
