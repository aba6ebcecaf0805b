/* NEON for the ternary kinds: codes 0..3 times activations go into int16, and the sum of q taken off makes
 * them -1..2.
 *
 * A row's four columns lie in two int16 lanes, so a lane gets one product of every tile and an even
 * pair adds up to the row. A product is at most 3 * 128 = 384 in size: the 16 tiles of 64 columns stay
 * within 6,144, a pair within 12,288, and a pair may be added in int16. The 64 tiles of T256 stay
 * within 24,576, but a pair would not fit: these are widened first. */
#include "engine/kernels/neon_common.h"

#define MANY 2 /* tokens that share one expansion: 16 accumulators of the 32 registers */

/* One line, 16 columns. low has rows 0 and 1 of a quad, high rows 2 and 3. */
INLINE void t_line(const uint8_t *line, const int8_t *q, size_t q_stride, const size_t n,
                   int16x8_t low[MANY][QUADS], int16x8_t high[MANY][QUADS])
{
    __builtin_prefetch(line + AHEAD);
    UNROLL for (int p = 0; p < 4; p++)
    {
        int8x16_t x[MANY];
        UNROLL for (size_t t = 0; t < n; t++)
        {
            x[t] = broadcast4(q + t * q_stride + p * 4);
        }
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            const int8x16_t w = two_bits(vld1q_u8(line + r * 16), p);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                low[t][r] = vmlal_s8(low[t][r], vget_low_s8(w), vget_low_s8(x[t]));
                high[t][r] = vmlal_high_s8(high[t][r], w, x[t]);
            }
        }
    }
}

/* Four rows from their pairs. */
INLINE int32x4_t rows_of(int16x8_t low, int16x8_t high, const bool fits)
{
    return fits ? vpaddlq_s16(vpaddq_s16(low, high))
                : vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
}

/* T64, T128 and T256: groups of whole blocks of activations. */
INLINE void t_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                     const size_t n, const size_t cols, const size_t block, float *out,
                     size_t out_stride)
{
    float32x4_t acc[MANY][QUADS], part[MANY][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / cols; g++) {
        const uint8_t *group = panel + g * (32 + cols * 4);
        memset(part, 0, sizeof(part));
        for (size_t b = 0; b < cols / block; b++) {
            const uint8_t *lines = group + 32 + b * block * 4;
            const int8_t *q = act->q + t0 * act->q_stride + g * cols + b * block;
            const size_t at = g * (cols / block) + b;
            int16x8_t low[MANY][QUADS], high[MANY][QUADS];
            int32x4_t sum[MANY][QUADS];

            memset(low, 0, sizeof(low));
            memset(high, 0, sizeof(high));
            for (size_t l = 0; l < block / T_LINE; l++) {
                t_line(lines + l * T_LINE_BYTES, q + l * T_LINE, act->q_stride, n, low, high);
            }
            sums_at(act, t0, n, at, -1, sum); /* weight = code - 1 */
            UNROLL for (size_t t = 0; t < n; t++)
            {
                UNROLL for (int r = 0; r < QUADS; r++)
                {
                    const int32x4_t codes = rows_of(low[t][r], high[t][r], block <= 64);
                    sum[t][r] = vaddq_s32(sum[t][r], codes);
                }
            }
            add_blocks(act, t0, n, at, sum, part);
        }
        add_parts(group, n, part, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

INLINE void t64_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const size_t n, float *out, size_t out_stride)
{
    t_tokens(panel, n_cols, act, t0, n, 64, ACT_BLOCK, out, out_stride);
}

INLINE void t128_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        const size_t n, float *out, size_t out_stride)
{
    t_tokens(panel, n_cols, act, t0, n, 128, ACT_BLOCK, out, out_stride);
}

INLINE void t256_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        const size_t n, float *out, size_t out_stride)
{
    t_tokens(panel, n_cols, act, t0, n, T256_GROUP, ACT_BLOCK_T256, out, out_stride);
}

/* The whole row is one sum, widened every 64 columns. */
INLINE void trow_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        const size_t n, float *out, size_t out_stride)
{
    const uint8_t *lines = panel + TROW_HEAD_BYTES;
    int32x4_t sum[MANY][QUADS];

    sums_at(act, t0, n, 0, -1, sum); /* weight = code - 1 */
    for (size_t g = 0; g < n_cols / TROW_GROUP; g++) {
        const int8_t *q = act->q + t0 * act->q_stride + g * TROW_GROUP;
        int16x8_t low[MANY][QUADS], high[MANY][QUADS];

        memset(low, 0, sizeof(low));
        memset(high, 0, sizeof(high));
        for (size_t l = 0; l < 4; l++) {
            t_line(lines + (g * 4 + l) * T_LINE_BYTES, q + l * T_LINE, act->q_stride, n, low, high);
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                sum[t][r] = vpadalq_s16(sum[t][r], vpaddq_s16(low[t][r], high[t][r]));
            }
        }
    }
    for (size_t t = 0; t < n; t++) {
        store_scaled(panel, act->d[(t0 + t) * act->d_stride], sum[t], out + (t0 + t) * out_stride);
    }
}

PANEL(panel_t64_neon, 64, t64_tokens, MANY)
PANEL(panel_t128_neon, 128, t128_tokens, MANY)
PANEL(panel_t256_neon, T256_GROUP, t256_tokens, MANY)
PANEL(panel_trow_neon, TROW_GROUP, trow_tokens, MANY)
