/* Every kind of panel once for the three ARM levels: which block meets which scale, and in which
 * order. A level gives the integer sums of a block, by the function types below; all of it is
 * inlined into its panel functions. */
#ifndef ENGINE_KERNELS_ARM_PANELS_H
#define ENGINE_KERNELS_ARM_PANELS_H

#include "engine/kernels/neon_common.h"

/* Each of these takes the tokens from t0 on and the columns from `col` on; sum is (token, row). */

/* I8, 32 columns: adds weight * q. */
typedef void block_fn(const uint8_t *tiles, const struct act_q8 *act, size_t t0,
                      const struct tile of, size_t col, int32x4_t sum[][QUADS]);

/* Two-bit codes in n_lines lines of 16 columns: sum = (code - 1) * q. That one of each code is the
 * sum of q, which is in block `at` of the activations. n_lines is 2, 16 or, for TROW, any multiple
 * of 4. */
typedef void lines_fn(const uint8_t *lines, const size_t n_lines, const struct act_q8 *act,
                      size_t t0, const struct tile of, size_t col, size_t at,
                      int32x4_t sum[][QUADS]);

/* Codes of 4, 5 or 6 bits in 16 or 32 columns: adds code * q, of six bits (code - K6_LESS) * q.
 * more: see tile_codes(). */
typedef void tiles_fn(const uint8_t *tiles, const size_t cols, const int bits,
                      uint8x16_t more[QUADS], const struct act_q8 *act, size_t t0,
                      const struct tile of, size_t col, int32x4_t sum[][QUADS]);

INLINE void i8_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const struct tile of, float *out, size_t out_stride, block_fn *block)
{
    float32x4_t acc[TOKENS][QUADS];

    clear_parts(of, acc);
    for (size_t g = 0; g < n_cols / I8_GROUP; g++) {
        const uint8_t *group = panel + g * I8_GROUP_BYTES;
        int32x4_t sum[TOKENS][QUADS];

        clear_sums(of, sum);
        block(group + 32, act, t0, of, g * I8_GROUP, sum);
        add_groups(act, t0, of, g, group, sum, acc);
    }
    store_rows(acc, t0, of, out, out_stride);
}

/* T64, T128 and T256: groups of whole blocks of activations. */
INLINE void t_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                     const struct tile of, const size_t cols, const size_t block, float *out,
                     size_t out_stride, lines_fn *lines)
{
    float32x4_t part[TOKENS][QUADS];

    clear_rows(t0, of, out, out_stride);
    for (size_t g = 0; g < n_cols / cols; g++) {
        const uint8_t *group = panel + g * (32 + cols * 4);
        clear_parts(of, part);
        for (size_t b = 0; b < cols / block; b++) {
            const size_t at = g * (cols / block) + b;
            int32x4_t sum[TOKENS][QUADS];

            lines(group + 32 + b * block * 4, block / T_LINE, act, t0, of, at * block, at, sum);
            add_blocks(act, t0, of, at, sum, part);
        }
        add_parts(group, t0, of, part, out, out_stride);
    }
}

INLINE void t64_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const struct tile of, float *out, size_t out_stride, lines_fn *lines)
{
    t_tokens(panel, n_cols, act, t0, of, 64, ACT_BLOCK, out, out_stride, lines);
}

INLINE void t128_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        const struct tile of, float *out, size_t out_stride, lines_fn *lines)
{
    t_tokens(panel, n_cols, act, t0, of, 128, ACT_BLOCK, out, out_stride, lines);
}

INLINE void t256_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        const struct tile of, float *out, size_t out_stride, lines_fn *lines)
{
    t_tokens(panel, n_cols, act, t0, of, T256_GROUP, ACT_BLOCK_T256, out, out_stride, lines);
}

INLINE void trow_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        const struct tile of, float *out, size_t out_stride, lines_fn *lines)
{
    int32x4_t sum[TOKENS][QUADS];

    lines(panel + TROW_HEAD_BYTES, n_cols / T_LINE, act, t0, of, 0, 0, sum);
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        store_scaled(panel, act->d[(t0 + t) * act->d_stride], of, sum[t],
                     out + (t0 + t) * out_stride);
    }
}

INLINE void n4_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const struct tile of, float *out, size_t out_stride, tiles_fn *tiles)
{
    float32x4_t acc[TOKENS][QUADS];

    clear_parts(of, acc);
    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4_GROUP_BYTES;
        int32x4_t sum[TOKENS][QUADS];

        sums_at(act, t0, of, g, -8, sum); /* weight = code - 8 */
        tiles(group + 32, ACT_BLOCK, 4, NULL, act, t0, of, g * N4_GROUP, sum);
        add_groups(act, t0, of, g, group, sum, acc);
    }
    store_rows(acc, t0, of, out, out_stride);
}

INLINE void n4m_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const struct tile of, float *out, size_t out_stride, tiles_fn *tiles)
{
    float32x4_t acc[TOKENS][QUADS];

    clear_parts(of, acc);
    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4M_GROUP_BYTES;
        int32x4_t sum[TOKENS][QUADS];

        clear_sums(of, sum);
        tiles(group + 64, ACT_BLOCK, 4, NULL, act, t0, of, g * N4_GROUP, sum);
        add_groups(act, t0, of, g, group, sum, acc);
        sums_at(act, t0, of, g, 1, sum);
        add_groups(act, t0, of, g, group + 32, sum, acc);
    }
    store_rows(acc, t0, of, out, out_stride);
}

INLINE void k45_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const struct tile of, const int bits, float *out, size_t out_stride,
                       tiles_fn *tiles)
{
    float32x4_t part[TOKENS][QUADS], less[TOKENS][QUADS];

    clear_rows(t0, of, out, out_stride);
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * (bits == 5 ? K5_GROUP_BYTES : K4_GROUP_BYTES);
        clear_parts(of, part);
        clear_parts(of, less);
        for (size_t j = 0; j < 8; j++) {
            int32x4_t sum[TOKENS][QUADS];
            uint8x16_t more[QUADS];

            clear_sums(of, sum);
            memset(more, 0, sizeof(more));
            if (bits == 5) {
                load_quads(group + K5_FIFTH + j * 64, of, more);
            }
            tiles(group + K45_TILES + j * 256, ACT_BLOCK, bits, more, act, t0, of,
                  g * K_GROUP + j * ACT_BLOCK, sum);
            k45_block(group, j, act, t0, of, g * 8 + j, sum, part, less);
        }
        k45_group(group, t0, of, part, less, out, out_stride);
    }
}

INLINE void k4_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const struct tile of, float *out, size_t out_stride, tiles_fn *tiles)
{
    k45_tokens(panel, n_cols, act, t0, of, 4, out, out_stride, tiles);
}

INLINE void k5_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const struct tile of, float *out, size_t out_stride, tiles_fn *tiles)
{
    k45_tokens(panel, n_cols, act, t0, of, 5, out, out_stride, tiles);
}

/* 16 columns of K6 under one scale: their product goes onto ret. In float it is exact, within 2^23,
 * and so is the sum of two. */
INLINE void k6_scaled(const uint8_t *group, size_t i, const struct act_q8 *act, size_t t0,
                      const struct tile of, size_t col, float32x4_t ret[TOKENS][QUADS],
                      tiles_fn *tiles)
{
    int32x4_t sum[TOKENS][QUADS];
    float32x4_t sc[QUADS];
    uint8x16_t more[QUADS];

    clear_sums(of, sum);
    if (K6_LESS(of) == 0) {
        const int32_t all = vaddlvq_s8(vld1q_s8(act->q + t0 * act->q_stride + col));
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            sum[0][r] = vdupq_n_s32(-32 * all);
        }
    }
    load_quads(group + K6_LINES + i * 64, of, more);
    tiles(group + K6_TILES + i * 128, 16, 6, more, act, t0, of, col, sum);
    widen_s8(group + K6_SC + i * 16, of, sc);
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            ret[t][r] = vfmaq_f32(ret[t][r], sc[r], vcvtq_f32_s32(sum[t][r]));
        }
    }
}

INLINE void k6_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const struct tile of, float *out, size_t out_stride, tiles_fn *tiles)
{
    float32x4_t part[TOKENS][QUADS];

    clear_rows(t0, of, out, out_stride);
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * K6_GROUP_BYTES;
        clear_parts(of, part);
        for (size_t j = 0; j < 8; j++) {
            const size_t col = g * K_GROUP + j * ACT_BLOCK;
            float32x4_t sum[TOKENS][QUADS];

            clear_parts(of, sum);
            k6_scaled(group, 2 * j, act, t0, of, col, sum, tiles);
            k6_scaled(group, 2 * j + 1, act, t0, of, col + 16, sum, tiles);
            UNROLL for (size_t t = 0; t < of.n; t++)
            {
                const float d = act->d[(t0 + t) * act->d_stride + g * 8 + j];
                UNROLL for (int r = 0; r < of.quads; r++)
                {
                    part[t][r] = vfmaq_n_f32(part[t][r], sum[t][r], d);
                }
            }
        }
        add_parts(group, t0, of, part, out, out_stride);
    }
}

#endif
