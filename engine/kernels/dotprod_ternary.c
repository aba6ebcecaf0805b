/* sdot for the ternary kinds: codes 0..3 go in as they are, and the sums begin at minus the sum of
 * q. */
#include "engine/kernels/dotprod_common.h"

/* One line: 16 columns, four planes of 2 bits. */
INLINE void t_line(const uint8_t *line, const int8x16_t *x, const struct tile of,
                   int32x4_t sum[TOKENS][QUADS])
{
    UNROLL for (int r = 0; r < of.quads; r++)
    {
        const uint8x16_t w = vld1q_u8(line + (of.first + r) * 16);
        const int8x16_t codes[4] = {
            vreinterpretq_s8_u8(vandq_u8(w, vdupq_n_u8(3))),
            vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(w, 2), vdupq_n_u8(3))),
            vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(w, 4), vdupq_n_u8(3))),
            vreinterpretq_s8_u8(vshrq_n_u8(w, 6)),
        };
        UNROLL for (int p = 0; p < 4; p++)
        {
            UNROLL for (size_t t = 0; t < of.n; t++)
            {
                sum[t][r] = dot_lane(sum[t][r], codes[p], x[t], p);
            }
        }
    }
}

INLINE void sum_lines(const uint8_t *lines, const size_t n_lines, const struct act_q8 *act,
                      size_t t0, const struct tile of, size_t col, size_t at,
                      int32x4_t sum[][QUADS])
{
    sums_at(act, t0, of, at, -1, sum);
    for (size_t l = 0; l < n_lines; l++) {
        int8x16_t x[TOKENS];
        __builtin_prefetch(lines + l * T_LINE_BYTES + AHEAD);
        load16(act, t0, of, col + l * T_LINE, x);
        t_line(lines + l * T_LINE_BYTES, x, of, sum);
    }
}

PANEL(panel_t64_dotprod, 64, t64_tokens, TOKENS, 2, sum_lines)
PANEL(panel_t128_dotprod, 128, t128_tokens, TOKENS, 2, sum_lines)
PANEL(panel_t256_dotprod, T256_GROUP, t256_tokens, TOKENS, QUADS, sum_lines)
PANEL(panel_trow_dotprod, TROW_GROUP, trow_tokens, TOKENS, QUADS, sum_lines)
