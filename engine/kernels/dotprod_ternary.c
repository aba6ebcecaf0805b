/* sdot for the ternary kinds: codes 0..3 go in as they are, and the sums begin at minus the sum of q, which
 * makes them -1..2. */
#include "engine/kernels/dotprod_common.h"

/* One line: 16 columns, four planes of 2 bits. */
INLINE void t_line(const uint8_t *line, const int8x16_t *x, const size_t n,
                   int32x4_t sum[TOKENS][QUADS])
{
    UNROLL for (int r = 0; r < QUADS; r++)
    {
        const uint8x16_t w = vld1q_u8(line + r * 16);
        const int8x16_t codes[4] = {
            vreinterpretq_s8_u8(vandq_u8(w, vdupq_n_u8(3))),
            vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(w, 2), vdupq_n_u8(3))),
            vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(w, 4), vdupq_n_u8(3))),
            vreinterpretq_s8_u8(vshrq_n_u8(w, 6)),
        };
        UNROLL for (int p = 0; p < 4; p++)
        {
            UNROLL for (size_t t = 0; t < n; t++)
            {
                sum[t][r] = dot_lane(sum[t][r], codes[p], x[t], p);
            }
        }
    }
}

/* Lines from column `col` on, n_lines of them. */
INLINE void t_lines(const uint8_t *lines, const size_t n_lines, const struct act_q8 *act, size_t t0,
                    const size_t n, size_t col, int32x4_t sum[TOKENS][QUADS])
{
    for (size_t l = 0; l < n_lines; l++) {
        int8x16_t x[TOKENS];
        __builtin_prefetch(lines + l * T_LINE_BYTES + AHEAD);
        load16(act, t0, n, col + l * T_LINE, x);
        t_line(lines + l * T_LINE_BYTES, x, n, sum);
    }
}

/* T64, T128 and T256: groups of whole blocks of activations. */
INLINE void t_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                     const size_t n, const size_t cols, const size_t block, float *out,
                     size_t out_stride)
{
    float32x4_t acc[TOKENS][QUADS], part[TOKENS][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / cols; g++) {
        const uint8_t *group = panel + g * (32 + cols * 4);
        memset(part, 0, sizeof(part));
        for (size_t b = 0; b < cols / block; b++) {
            const size_t at = g * (cols / block) + b;
            int32x4_t sum[TOKENS][QUADS];

            sums_at(act, t0, n, at, -1, sum);
            t_lines(group + 32 + b * block * 4, block / T_LINE, act, t0, n, g * cols + b * block,
                    sum);
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
    int32x4_t sum[TOKENS][QUADS];

    sums_at(act, t0, n, 0, -1, sum);
    t_lines(panel + TROW_HEAD_BYTES, n_cols / T_LINE, act, t0, n, 0, sum);
    UNROLL for (size_t t = 0; t < n; t++)
    {
        store_scaled(panel, act->d[(t0 + t) * act->d_stride], sum[t], out + (t0 + t) * out_stride);
    }
}

PANEL(panel_t64_dotprod, 64, t64_tokens, TOKENS)
PANEL(panel_t128_dotprod, 128, t128_tokens, TOKENS)
PANEL(panel_t256_dotprod, T256_GROUP, t256_tokens, TOKENS)
PANEL(panel_trow_dotprod, TROW_GROUP, trow_tokens, TOKENS)
