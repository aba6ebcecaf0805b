/* smmla for the kinds of four, five and six bits: codes go in as they are, and what the weight is offset by
 * (8 in N4, 32 in K6) is taken off with the sum of q. A tile's two halves are 8 neighbouring columns
 * once zipped. */
#include "engine/kernels/i8mm_common.h"

/* `cols` columns from a tile and column `col` on. more: see tile_codes(). */
INLINE void add_tiles(const uint8_t *tiles, const size_t cols, const int bits,
                      uint8x16_t more[QUADS], const struct act_q8 *act, size_t t0, const size_t n,
                      size_t col, int32x4_t pairs[MANY / 2][PAIRS])
{
    for (size_t c = 0; c < cols / 8; c++) {
        int8x16_t x[MANY / 2];

        __builtin_prefetch(tiles + c * 64 + AHEAD);
        load_tokens(act, t0, n, col + c * 8, x);
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            int8x16_t codes[2];
            tile_codes(tiles + c * 64, r, bits, more, codes);
            add_quads(codes[0], codes[1], r, x, n, pairs);
        }
    }
}

/* 32 columns, onto sum. */
INLINE void add_block_tiles(const uint8_t *tiles, const int bits, uint8x16_t more[QUADS],
                            const struct act_q8 *act, size_t t0, const size_t n, size_t col,
                            int32x4_t sum[MANY][QUADS])
{
    int32x4_t pairs[MANY / 2][PAIRS];

    memset(pairs, 0, sizeof(pairs));
    add_tiles(tiles, 32, bits, more, act, t0, n, col, pairs);
    take_apart(pairs, n, sum);
}

INLINE void n4_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[MANY][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / N4_GROUP; g++) {
        const uint8_t *group = panel + g * N4_GROUP_BYTES;
        int32x4_t sum[MANY][QUADS];

        sums_at(act, t0, n, g, -8, sum);
        add_block_tiles(group + 32, 4, NULL, act, t0, n, g * N4_GROUP, sum);
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
        int32x4_t sum[MANY][QUADS];

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
    float32x4_t acc[MANY][QUADS], part[MANY][QUADS], less[MANY][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / K_GROUP; g++) {
        const uint8_t *group = panel + g * (bits == 5 ? K5_GROUP_BYTES : K4_GROUP_BYTES);
        memset(part, 0, sizeof(part));
        memset(less, 0, sizeof(less));
        for (size_t j = 0; j < 8; j++) {
            int32x4_t sum[MANY][QUADS];
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
                      const size_t n, size_t col, int32x4_t ret[MANY][QUADS])
{
    int32x4_t pairs[MANY / 2][PAIRS], sc[QUADS];
    uint8x16_t more[QUADS];

    memset(pairs, 0, sizeof(pairs));
    load_quads(group + K6_LINES + i * 64, more);
    add_tiles(group + K6_TILES + i * 128, 16, 6, more, act, t0, n, col, pairs);
    widen_s8(group + K6_SC + i * 16, sc);
    UNROLL for (size_t t = 0; t < n; t++)
    {
        const int8_t *q = act->q + (t0 + t) * act->q_stride + col;
        const int32x4_t offset = vdupq_n_s32(32 * vaddlvq_s8(vld1q_s8(q))); /* weight = code - 32 */
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            const int32x4_t s = vsubq_s32(rows_of(pairs, t, r), offset);
            ret[t][r] = vmlaq_s32(ret[t][r], sc[r], s);
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
            const size_t col = g * K_GROUP + j * ACT_BLOCK;
            int32x4_t sum[MANY][QUADS];

            memset(sum, 0, sizeof(sum));
            k6_scaled(group, 2 * j, act, t0, n, col, sum);
            k6_scaled(group, 2 * j + 1, act, t0, n, col + 16, sum);
            add_blocks(act, t0, n, g * 8 + j, sum, part);
        }
        add_parts(group, n, part, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

MATRIX(panel_n4_i8mm, N4_GROUP, n4_tokens, panel_n4_dotprod)
MATRIX(panel_n4m_i8mm, N4_GROUP, n4m_tokens, panel_n4m_dotprod)
MATRIX(panel_k4_i8mm, K_GROUP, k4_tokens, panel_k4_dotprod)
MATRIX(panel_k5_i8mm, K_GROUP, k5_tokens, panel_k5_dotprod)
MATRIX(panel_k6_i8mm, K_GROUP, k6_tokens, panel_k6_dotprod)
