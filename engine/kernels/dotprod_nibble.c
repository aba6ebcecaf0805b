/* sdot for the kinds of four, five and six bits: codes go in as they are, and where the weight is offset
 * (8 in N4, 32 in K6), the sums begin at minus the offset times the sum of q. */
#include "engine/kernels/dotprod_common.h"

/* 16 columns, two tiles. more: see tile_codes(). */
INLINE void add_tiles(const uint8_t *tiles, const int bits, uint8x16_t more[QUADS],
                      const int8x16_t *x, const size_t n, int32x4_t sum[TOKENS][QUADS])
{
    UNROLL for (int c = 0; c < 2; c++)
    {
        __builtin_prefetch(tiles + c * 64 + AHEAD);
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            int8x16_t codes[2];
            tile_codes(tiles + c * 64, r, bits, more, codes);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                sum[t][r] = dot_lane(sum[t][r], codes[0], x[t], 2 * c);
                sum[t][r] = dot_lane(sum[t][r], codes[1], x[t], 2 * c + 1);
            }
        }
    }
}

/* 32 columns from `col` on. */
INLINE void add_block_tiles(const uint8_t *tiles, const int bits, uint8x16_t more[QUADS],
                            const struct act_q8 *act, size_t t0, const size_t n, size_t col,
                            int32x4_t sum[TOKENS][QUADS])
{
    for (size_t h = 0; h < 2; h++) {
        int8x16_t x[TOKENS];
        load16(act, t0, n, col + h * 16, x);
        add_tiles(tiles + h * 128, bits, more, x, n, sum);
    }
}

INLINE void n4_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[TOKENS][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4_GROUP_BYTES;
        int32x4_t sum[TOKENS][QUADS];

        sums_at(act, t0, n, g, -8, sum);
        add_block_tiles(group + 32, 4, NULL, act, t0, n, g * N4_GROUP, sum);
        add_groups(act, t0, n, g, group, sum, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

INLINE void n4m_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[TOKENS][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4M_GROUP_BYTES;
        int32x4_t sum[TOKENS][QUADS];

        memset(sum, 0, sizeof(sum));
        add_block_tiles(group + 64, 4, NULL, act, t0, n, g * N4_GROUP, sum);
        add_groups(act, t0, n, g, group, sum, acc);
        sums_at(act, t0, n, g, 1, sum);
        add_groups(act, t0, n, g, group + 32, sum, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

INLINE void k45_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                       const size_t n, const int bits, float *out, size_t out_stride)
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
            add_block_tiles(group + K45_TILES + j * 256, bits, more, act, t0, n,
                            g * K_GROUP + j * ACT_BLOCK, sum);
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
INLINE void k6_scaled(const uint8_t *group, size_t i, const struct act_q8 *act, size_t t0,
                      const size_t n, size_t col, int32x4_t ret[TOKENS][QUADS])
{
    int32x4_t sum[TOKENS][QUADS], sc[QUADS];
    uint8x16_t more[QUADS];
    int8x16_t x[TOKENS];

    load16(act, t0, n, col, x);
    UNROLL for (size_t t = 0; t < n; t++)
    {
        const int32x4_t offset = vdupq_n_s32(-32 * vaddlvq_s8(x[t])); /* weight = code - 32 */
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            sum[t][r] = offset;
        }
    }
    load_quads(group + K6_LINES + i * 64, more);
    add_tiles(group + K6_TILES + i * 128, 6, more, x, n, sum);
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
    float32x4_t acc[TOKENS][QUADS], part[TOKENS][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * K6_GROUP_BYTES;
        memset(part, 0, sizeof(part));
        for (size_t j = 0; j < 8; j++) {
            const size_t col = g * K_GROUP + j * ACT_BLOCK;
            int32x4_t sum[TOKENS][QUADS];

            memset(sum, 0, sizeof(sum));
            k6_scaled(group, 2 * j, act, t0, n, col, sum);
            k6_scaled(group, 2 * j + 1, act, t0, n, col + 16, sum);
            add_blocks(act, t0, n, g * 8 + j, sum, part);
        }
        add_parts(group, n, part, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

PANEL(panel_n4_dotprod, N4_GROUP, n4_tokens, TOKENS)
PANEL(panel_n4m_dotprod, N4_GROUP, n4m_tokens, TOKENS)
PANEL(panel_k4_dotprod, K_GROUP, k4_tokens, TOKENS)
PANEL(panel_k5_dotprod, K_GROUP, k5_tokens, TOKENS)
PANEL(panel_k6_dotprod, K_GROUP, k6_tokens, TOKENS)
