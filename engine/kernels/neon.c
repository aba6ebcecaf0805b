/* NEON of any aarch64: widening pair sums, since there is no dot product yet. I8 multiplies into
 * int16 and adds pairs into int32 at once, since two products of -128 * -128 do not fit int16. */
#include "engine/kernels/arm_panels.h"

INLINE void i8_block(const uint8_t *tiles, const struct act_q8 *act, size_t t0,
                     const struct tile of, size_t col, int32x4_t sum[][QUADS])
{
    const int8_t *q = act->q + t0 * act->q_stride + col;
    int32x4_t low[2][QUADS], high[2][QUADS]; /* rows 0, 1 and rows 2, 3 of a quad */

    memset(low, 0, sizeof(low));
    memset(high, 0, sizeof(high));
    for (size_t c = 0; c < 8; c++) {
        const int8_t *tile = (const int8_t *)tiles + c * 64;
        __builtin_prefetch(tile + AHEAD);
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            const int8x16_t w = vld1q_s8(tile + (of.first + r) * 16);
            UNROLL for (size_t t = 0; t < of.n; t++)
            {
                const int8x16_t x = broadcast4(q + t * act->q_stride + c * 4);
                low[t][r] = vpadalq_s16(low[t][r], vmull_s8(vget_low_s8(w), vget_low_s8(x)));
                high[t][r] = vpadalq_s16(high[t][r], vmull_high_s8(w, x));
            }
        }
    }
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            sum[t][r] = vaddq_s32(sum[t][r], vpaddq_s32(low[t][r], high[t][r]));
        }
    }
}

PANEL(panel_i8_neon, I8_GROUP, i8_tokens, 2, QUADS, i8_block)
