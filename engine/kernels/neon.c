/* NEON of any aarch64: masks and widening pair sums, since there is no dot product yet.
 *
 * B1: cmtst makes a plane of a line into masks, AND keeps the +1 activations, and sadalp adds
 * neighbouring pairs into int16 (8 planes of a block stay within 8 * 256); the sum over +1 and -1
 * weights is 2 * sum(kept) - sum(all), so that no int8 is negated. I8 multiplies into int16 and
 * adds pairs into int32 at once, since two products of -128 * -128 do not fit int16. */
#include "engine/kernels/arm_panels.h"

INLINE void b1_line(const uint8_t *line, const struct act_q8 *act, size_t t0, const size_t n,
                    size_t at, float32x4_t part[][QUADS])
{
    const int8_t *q = act->q + t0 * act->q_stride + at * ACT_BLOCK;
    int8x16_t x[B1_PLANES][TOKENS];
    int32x4_t less_all[TOKENS];
    float d[TOKENS];

    UNROLL for (size_t k = 0; k < B1_PLANES; k++)
    {
        UNROLL for (size_t t = 0; t < n; t++)
        {
            x[k][t] = broadcast4(q + t * act->q_stride + k * 4);
        }
    }
    load_block(act, t0, n, at, d, less_all);
    for (int r = 0; r < QUADS; r++) { /* as a loop, its operands stay in registers */
        const uint8x16_t w = vld1q_u8(line + r * 16);
        int16x8_t kept[TOKENS]; /* two lanes per row */

        memset(kept, 0, sizeof(kept));
        UNROLL for (int k = 0; k < B1_PLANES; k++)
        {
            const int8x16_t mask = plane_mask(w, vdupq_n_u8((uint8_t)(1u << k)));
            UNROLL for (size_t t = 0; t < n; t++)
            {
                kept[t] = vpadalq_s8(kept[t], vandq_s8(mask, x[k][t]));
            }
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const int32x4_t twice = vshlq_n_s32(vpaddlq_s16(kept[t]), 1);
            part[t][r] = add_block(d[t], vaddq_s32(less_all[t], twice), part[t][r]);
        }
    }
}

INLINE void i8_block(const uint8_t *tiles, const struct act_q8 *act, size_t t0, const size_t n,
                     size_t col, int32x4_t sum[][QUADS])
{
    const int8_t *q = act->q + t0 * act->q_stride + col;
    int32x4_t low[2][QUADS], high[2][QUADS]; /* rows 0, 1 and rows 2, 3 of a quad */

    memset(low, 0, sizeof(low));
    memset(high, 0, sizeof(high));
    for (size_t c = 0; c < 8; c++) {
        const int8_t *tile = (const int8_t *)tiles + c * 64;
        __builtin_prefetch(tile + AHEAD);
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            const int8x16_t w = vld1q_s8(tile + r * 16);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const int8x16_t x = broadcast4(q + t * act->q_stride + c * 4);
                low[t][r] = vpadalq_s16(low[t][r], vmull_s8(vget_low_s8(w), vget_low_s8(x)));
                high[t][r] = vpadalq_s16(high[t][r], vmull_high_s8(w, x));
            }
        }
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            sum[t][r] = vaddq_s32(sum[t][r], vpaddq_s32(low[t][r], high[t][r]));
        }
    }
}

PANEL(panel_b1_neon, B1_GROUP, b1_tokens, 2, b1_line)
PANEL(panel_i8_neon, I8_GROUP, i8_tokens, 2, i8_block)
