/* ARM dot products: sdot adds four int8 products of a row straight into its int32 lane.
 *
 * B1: masks of -1 and 0 go into sdot as they are, so a lane collects -sum(kept), and the sum over
 * +1 and -1 weights is -2 * lane - sum(all). I8 uses its weights. The activations of four planes or
 * tiles lie in one register and enter by lane, without a broadcast. */
#include "engine/kernels/dotprod_common.h"

INLINE void b1_block(const uint8_t *line, const struct act_q8 *act, size_t t0, const size_t n,
                     size_t col, int32x4_t sum[][QUADS])
{
    int32x4_t less[TOKENS][QUADS];
    uint8x16_t w[QUADS];

    memset(less, 0, sizeof(less));
    load_quads(line, w);
    UNROLL for (int k = 0; k < B1_PLANES; k += 4)
    {
        int8x16_t x[TOKENS];
        load16(act, t0, n, col + (size_t)k * 4, x);
        UNROLL for (int c = 0; c < 4; c++)
        {
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const int8x16_t mask = plane_mask(w[r], k + c);
                UNROLL for (size_t t = 0; t < n; t++)
                {
                    less[t][r] = dot_lane(less[t][r], mask, x[t], c);
                }
            }
        }
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            sum[t][r] = vmlsq_n_s32(sum[t][r], less[t][r], 2);
        }
    }
}

INLINE void i8_block(const uint8_t *tiles, const struct act_q8 *act, size_t t0, const size_t n,
                     size_t col, int32x4_t sum[][QUADS])
{
    for (size_t h = 0; h < 2; h++) {
        int8x16_t x[TOKENS];
        load16(act, t0, n, col + h * 16, x);
        UNROLL for (int c = 0; c < 4; c++)
        {
            const int8_t *tile = (const int8_t *)tiles + h * 256 + (size_t)c * 64;
            __builtin_prefetch(tile + AHEAD);
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const int8x16_t w = vld1q_s8(tile + r * 16);
                UNROLL for (size_t t = 0; t < n; t++)
                {
                    sum[t][r] = dot_lane(sum[t][r], w, x[t], c);
                }
            }
        }
    }
}

PANEL(panel_b1_dotprod, B1_GROUP, b1_tokens, TOKENS, b1_block)
PANEL(panel_i8_dotprod, I8_GROUP, i8_tokens, TOKENS, i8_block)
