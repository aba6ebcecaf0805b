/* NEON for the ternary kinds: codes 0..3 times activations go into int16, and the sum of q taken
 * off makes them -1..2.
 *
 * A row's four columns lie in two int16 lanes, so a lane gets one product of every tile and an even
 * pair adds up to the row. A product is at most 3 * 128 = 384 in size: the 16 tiles of 64 columns
 * stay within 6,144, a pair within 12,288, and a pair may be added in int16. The 64 tiles of T256
 * stay within 24,576, but a pair would not fit: these are widened first. */
#include "engine/kernels/arm_panels.h"

#define MANY 2 /* tokens that share one expansion: 16 accumulators of the 32 registers */

/* One line, 16 columns. low has rows 0 and 1 of a quad, high rows 2 and 3. */
INLINE void t_line(const uint8_t *line, const int8_t *q, size_t q_stride, const struct tile of,
                   int16x8_t low[MANY][QUADS], int16x8_t high[MANY][QUADS])
{
    __builtin_prefetch(line + AHEAD);
    UNROLL for (int p = 0; p < 4; p++)
    {
        int8x16_t x[MANY];
        UNROLL for (size_t t = 0; t < of.n; t++)
        {
            x[t] = broadcast4(q + t * q_stride + p * 4);
        }
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            const int8x16_t w = two_bits(vld1q_u8(line + (of.first + r) * 16), p);
            UNROLL for (size_t t = 0; t < of.n; t++)
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

/* T64, T128 and T256: 2 or 16 lines. */
INLINE void sum_lines(const uint8_t *lines, const size_t n_lines, const struct act_q8 *act,
                      size_t t0, const struct tile of, size_t col, size_t at,
                      int32x4_t sum[][QUADS])
{
    const int8_t *q = act->q + t0 * act->q_stride + col;
    int16x8_t low[MANY][QUADS], high[MANY][QUADS];

    memset(low, 0, sizeof(low));
    memset(high, 0, sizeof(high));
    for (size_t l = 0; l < n_lines; l++) {
        t_line(lines + l * T_LINE_BYTES, q + l * T_LINE, act->q_stride, of, low, high);
    }
    sums_at(act, t0, of, at, -1, sum);
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            const int32x4_t codes = rows_of(low[t][r], high[t][r], n_lines <= 4);
            sum[t][r] = vaddq_s32(sum[t][r], codes);
        }
    }
}

/* TROW: any multiple of 4 lines, widened every 4. */
INLINE void sum_row(const uint8_t *lines, const size_t n_lines, const struct act_q8 *act, size_t t0,
                    const struct tile of, size_t col, size_t at, int32x4_t sum[][QUADS])
{
    sums_at(act, t0, of, at, -1, sum);
    for (size_t g = 0; g < n_lines / 4; g++) {
        const int8_t *q = act->q + t0 * act->q_stride + col + g * TROW_GROUP;
        int16x8_t low[MANY][QUADS], high[MANY][QUADS];

        memset(low, 0, sizeof(low));
        memset(high, 0, sizeof(high));
        for (size_t l = 0; l < 4; l++) {
            t_line(lines + (g * 4 + l) * T_LINE_BYTES, q + l * T_LINE, act->q_stride, of, low,
                   high);
        }
        UNROLL for (size_t t = 0; t < of.n; t++)
        {
            UNROLL for (int r = 0; r < of.quads; r++)
            {
                sum[t][r] = vpadalq_s16(sum[t][r], vpaddq_s16(low[t][r], high[t][r]));
            }
        }
    }
}

PANEL(panel_t64_neon, 64, t64_tokens, MANY, QUADS, sum_lines)
PANEL(panel_t128_neon, 128, t128_tokens, MANY, QUADS, sum_lines)
PANEL(panel_t256_neon, T256_GROUP, t256_tokens, MANY, QUADS, sum_lines)
PANEL(panel_trow_neon, TROW_GROUP, trow_tokens, MANY, QUADS, sum_row)
