/* smmla for the ternary kinds: codes 0..3 go in as they are, and the sum of q taken off makes them -1..2.
 * Two planes of a line are 8 neighbouring columns once zipped. */
#include "engine/kernels/i8mm_common.h"

/* Lines from column `col` on, n_lines of them. */
INLINE void t_lines(const uint8_t *lines, const size_t n_lines, const struct act_q8 *act, size_t t0,
                    const size_t n, size_t col, int32x4_t pairs[MANY / 2][PAIRS])
{
    for (size_t l = 0; l < n_lines; l++) {
        const uint8_t *line = lines + l * T_LINE_BYTES;
        int8x16_t x[MANY / 2], y[MANY / 2];

        __builtin_prefetch(line + AHEAD);
        load_tokens(act, t0, n, col + l * T_LINE, x);
        load_tokens(act, t0, n, col + l * T_LINE + 8, y);
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            const uint8x16_t w = vld1q_u8(line + r * 16);
            add_quads(two_bits(w, 0), two_bits(w, 1), r, x, n, pairs);
            add_quads(two_bits(w, 2), two_bits(w, 3), r, y, n, pairs);
        }
    }
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
            const size_t at = g * (cols / block) + b;
            int32x4_t pairs[MANY / 2][PAIRS], sum[MANY][QUADS];

            memset(pairs, 0, sizeof(pairs));
            t_lines(group + 32 + b * block * 4, block / T_LINE, act, t0, n, g * cols + b * block,
                    pairs);
            sums_at(act, t0, n, at, -1, sum);
            take_apart(pairs, n, sum);
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

INLINE void trow_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                        const size_t n, float *out, size_t out_stride)
{
    int32x4_t pairs[MANY / 2][PAIRS], sum[MANY][QUADS];

    memset(pairs, 0, sizeof(pairs));
    t_lines(panel + TROW_HEAD_BYTES, n_cols / T_LINE, act, t0, n, 0, pairs);
    sums_at(act, t0, n, 0, -1, sum);
    take_apart(pairs, n, sum);
    UNROLL for (size_t t = 0; t < n; t++)
    {
        store_scaled(panel, act->d[(t0 + t) * act->d_stride], sum[t], out + (t0 + t) * out_stride);
    }
}

MATRIX(panel_t64_i8mm, 64, t64_tokens, panel_t64_dotprod)
MATRIX(panel_t128_i8mm, 128, t128_tokens, panel_t128_dotprod)
MATRIX(panel_t256_i8mm, T256_GROUP, t256_tokens, panel_t256_dotprod)
MATRIX(panel_trow_i8mm, TROW_GROUP, trow_tokens, panel_trow_dotprod)
