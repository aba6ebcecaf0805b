/* NEON for the kinds of four, five and six bits: codes times activations go into int16.
 *
 * A row's four columns lie in two int16 lanes, so a lane gets one product of every four columns. In
 * a block of 32 columns that is 8 products: within 8 * 15 * 128 = 15,360 for four bits, so that a
 * pair of lanes still fits int16 (30,720), and 8 * 31 * 128 = 31,744 for five, whose pairs are
 * widened first. Six bits have a scale every 16 columns: 4 * 63 * 128 = 32,256, widened
 * likewise. */
#include "engine/kernels/arm_panels.h"

#define MANY 2 /* tokens that share one expansion: 16 accumulators of the 32 registers */

INLINE void add_tiles(const uint8_t *tiles, const size_t cols, const int bits,
                      uint8x16_t more[QUADS], const struct act_q8 *act, size_t t0,
                      const struct tile of, size_t col, int32x4_t sum[][QUADS])
{
    const int8_t *q = act->q + t0 * act->q_stride + col;
    int16x8_t low[MANY][QUADS], high[MANY][QUADS]; /* rows 0, 1 and rows 2, 3 of a quad */

    memset(low, 0, sizeof(low));
    memset(high, 0, sizeof(high));
    for (size_t c = 0; c < cols / 8; c++) {
        int8x16_t x[2][MANY];
        __builtin_prefetch(tiles + c * 64 + AHEAD);
        UNROLL for (size_t t = 0; t < of.n; t++)
        {
            x[0][t] = broadcast4(q + t * act->q_stride + c * 8);
            x[1][t] = broadcast4(q + t * act->q_stride + c * 8 + 4);
        }
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            int8x16_t codes[2];
            tile_codes(tiles + c * 64 + of.first * 16, of, r, bits, more, codes);
            UNROLL for (int half = 0; half < 2; half++)
            {
                const int8x16_t w = codes[half];
                UNROLL for (size_t t = 0; t < of.n; t++)
                {
                    const int8x16_t with = x[half][t];
                    low[t][r] = vmlal_s8(low[t][r], vget_low_s8(w), vget_low_s8(with));
                    high[t][r] = vmlal_high_s8(high[t][r], w, with);
                }
            }
        }
    }
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            const int16x8_t a = low[t][r], b = high[t][r];
            sum[t][r] = bits == 4
                            ? vpadalq_s16(sum[t][r], vpaddq_s16(a, b))
                            : vaddq_s32(sum[t][r], vpaddq_s32(vpaddlq_s16(a), vpaddlq_s16(b)));
        }
    }
}

PANEL(panel_n4_neon, N4_GROUP, n4_tokens, MANY, QUADS, add_tiles)
PANEL(panel_n4m_neon, N4_GROUP, n4m_tokens, MANY, QUADS, add_tiles)
PANEL(panel_k4_neon, K_GROUP, k4_tokens, MANY, QUADS, add_tiles)
PANEL(panel_k5_neon, K_GROUP, k5_tokens, MANY, QUADS, add_tiles)
PANEL(panel_k6_neon, K_GROUP, k6_tokens, MANY, QUADS, add_tiles)
