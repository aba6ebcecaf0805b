/* ARM dot products: sdot adds four int8 products of a row straight into its int32 lane. The
 * activations of four tiles lie in one register and enter by lane, without a broadcast. */
#include "engine/kernels/dotprod_common.h"

INLINE void i8_block(const uint8_t *tiles, const struct act_q8 *act, size_t t0,
                     const struct tile of, size_t col, int32x4_t sum[][QUADS])
{
    for (size_t h = 0; h < 2; h++) {
        int8x16_t x[TOKENS];
        load16(act, t0, of, col + h * 16, x);
        UNROLL for (int c = 0; c < 4; c++)
        {
            const int8_t *tile = (const int8_t *)tiles + h * 256 + (size_t)c * 64;
            __builtin_prefetch(tile + AHEAD);
            UNROLL for (int r = 0; r < of.quads; r++)
            {
                const int8x16_t w = vld1q_s8(tile + (of.first + r) * 16);
                UNROLL for (size_t t = 0; t < of.n; t++)
                {
                    sum[t][r] = dot_lane(sum[t][r], w, x[t], c);
                }
            }
        }
    }
}

PANEL(panel_i8_dotprod, I8_GROUP, i8_tokens, TOKENS, 2, i8_block)
