/* NEON for the kinds of four, five and six bits: codes times activations go into int16, and what the weight
 * is offset by is taken off with the sum of q.
 *
 * A row's four columns lie in two int16 lanes, so a lane gets one product of every four columns. In a
 * block of 32 columns that is 8 products: within 8 * 15 * 128 = 15,360 for four bits, so that a pair of
 * lanes still fits int16 (30,720), and 8 * 31 * 128 = 31,744 for five, whose pairs are widened first.
 * Six bits have a scale every 16 columns: 4 * 63 * 128 = 32,256, widened likewise. */
#include "engine/kernels/neon_common.h"

#define MANY 2 /* tokens that share one expansion: 16 accumulators of the 32 registers */

/* sum += codes * q over `cols` columns from a tile on. more: see tile_codes(). */
INLINE void add_tiles(const uint8_t *tiles, const size_t cols, const int bits,
                      uint8x16_t more[QUADS], const int8_t *q, size_t q_stride, const size_t n,
                      int32x4_t sum[MANY][QUADS])
{
    int16x8_t low[MANY][QUADS], high[MANY][QUADS]; /* rows 0, 1 and rows 2, 3 of a quad */

    memset(low, 0, sizeof(low));
    memset(high, 0, sizeof(high));
    for (size_t c = 0; c < cols / 8; c++) {
        int8x16_t x[2][MANY];
        __builtin_prefetch(tiles + c * 64 + AHEAD);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            x[0][t] = broadcast4(q + t * q_stride + c * 8);
            x[1][t] = broadcast4(q + t * q_stride + c * 8 + 4);
        }
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            int8x16_t codes[2];
            tile_codes(tiles + c * 64, r, bits, more, codes);
            UNROLL for (int half = 0; half < 2; half++)
            {
                const int8x16_t w = codes[half];
                UNROLL for (size_t t = 0; t < n; t++)
                {
                    const int8x16_t with = x[half][t];
                    low[t][r] = vmlal_s8(low[t][r], vget_low_s8(w), vget_low_s8(with));
                    high[t][r] = vmlal_high_s8(high[t][r], w, with);
                }
            }
        }
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            const int16x8_t a = low[t][r], b = high[t][r];
            sum[t][r] = bits == 4
                            ? vpadalq_s16(sum[t][r], vpaddq_s16(a, b))
                            : vaddq_s32(sum[t][r], vpaddq_s32(vpaddlq_s16(a), vpaddlq_s16(b)));
        }
    }
}

INLINE void n4_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[MANY][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4_GROUP_BYTES;
        const int8_t *q = act->q + t0 * act->q_stride + g * N4_GROUP;
        int32x4_t sum[MANY][QUADS];

        sums_at(act, t0, n, g, -8, sum); /* weight = code - 8 */
        add_tiles(group + 32, N4_GROUP, 4, NULL, q, act->q_stride, n, sum);
        add_groups(act, t0, n, g, group, sum, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

INLINE void n4m_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[MANY][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4M_GROUP_BYTES;
        const int8_t *q = act->q + t0 * act->q_stride + g * N4_GROUP;
        int32x4_t sum[MANY][QUADS];

        memset(sum, 0, sizeof(sum));
        add_tiles(group + 64, N4_GROUP, 4, NULL, q, act->q_stride, n, sum);
        add_groups(act, t0, n, g, group, sum, acc);
        sums_at(act, t0, n, g, 1, sum);
        add_groups(act, t0, n, g, group + 32, sum, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

INLINE void k45_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const size_t n, const int bits, float *out, size_t out_stride)
{
    float32x4_t acc[MANY][QUADS], part[MANY][QUADS], less[MANY][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * (bits == 5 ? K5_GROUP_BYTES : K4_GROUP_BYTES);
        memset(part, 0, sizeof(part));
        memset(less, 0, sizeof(less));
        for (size_t j = 0; j < 8; j++) {
            const int8_t *q = act->q + t0 * act->q_stride + g * K_GROUP + j * ACT_BLOCK;
            int32x4_t sum[MANY][QUADS];
            uint8x16_t more[QUADS];

            memset(sum, 0, sizeof(sum));
            memset(more, 0, sizeof(more));
            if (bits == 5) {
                load_quads(group + K5_FIFTH + j * 64, more);
            }
            add_tiles(group + K45_TILES + j * 256, ACT_BLOCK, bits, more, q, act->q_stride, n, sum);
            k45_block(group, j, act, t0, n, g * 8 + j, sum, part, less);
        }
        k45_group(group, n, part, less, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

INLINE void k4_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    k45_tokens(panel, n_cols, act, t0, n, 4, out, out_stride);
}

INLINE void k5_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    k45_tokens(panel, n_cols, act, t0, n, 5, out, out_stride);
}

/* 16 columns of K6 under one scale: the scaled sums go onto ret. */
INLINE void k6_scaled(const uint8_t *group, size_t i, const int8_t *q, size_t q_stride,
                      const size_t n, int32x4_t ret[MANY][QUADS])
{
    int32x4_t sum[MANY][QUADS], sc[QUADS];
    uint8x16_t more[QUADS];

    UNROLL for (size_t t = 0; t < n; t++)
    {
        const int32_t all = vaddlvq_s8(vld1q_s8(q + t * q_stride));
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            sum[t][r] = vdupq_n_s32(-32 * all); /* weight = code - 32 */
        }
    }
    load_quads(group + K6_LINES + i * 64, more);
    add_tiles(group + K6_TILES + i * 128, 16, 6, more, q, q_stride, n, sum);
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
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[MANY][QUADS], part[MANY][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * K6_GROUP_BYTES;
        memset(part, 0, sizeof(part));
        for (size_t j = 0; j < 8; j++) {
            const int8_t *q = act->q + t0 * act->q_stride + g * K_GROUP + j * ACT_BLOCK;
            int32x4_t sum[MANY][QUADS];

            memset(sum, 0, sizeof(sum));
            k6_scaled(group, 2 * j, q, act->q_stride, n, sum);
            k6_scaled(group, 2 * j + 1, q + 16, act->q_stride, n, sum);
            add_blocks(act, t0, n, g * 8 + j, sum, part);
        }
        add_parts(group, n, part, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

PANEL(panel_n4_neon, N4_GROUP, n4_tokens, MANY)
PANEL(panel_n4m_neon, N4_GROUP, n4m_tokens, MANY)
PANEL(panel_k4_neon, K_GROUP, k4_tokens, MANY)
PANEL(panel_k5_neon, K_GROUP, k5_tokens, MANY)
PANEL(panel_k6_neon, K_GROUP, k6_tokens, MANY)
