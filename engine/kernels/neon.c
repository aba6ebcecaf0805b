/* NEON of any aarch64: masks and widening pair sums, since there is no dot product yet.
 *
 * B1: a table lookup spreads the bits of four rows over 16 bytes, cmtst turns them into masks, AND
 * keeps the +1 activations, and sadalp adds neighbouring pairs into int16 (8 tiles of a block stay
 * within 8 * 256); the sum over +1 and -1 weights is 2 * sum(kept) - sum(all), so that no int8 is
 * negated. I8 multiplies into int16 and adds pairs into int32 at once, since two products of
 * -128 * -128 do not fit int16. */
#include "engine/kernels/neon_common.h"

/* One block of B1, 32 columns: the kept activations' sums as int16, two per row. */
INLINE void b1_block(const uint8_t *tile, const int8_t *q, size_t q_stride, const size_t n,
                     int16x8_t kept[][QUADS])
{
    const uint8x16_t bits = bit_of_byte();

    for (size_t pair = 0; pair < 4; pair++) {
        const uint8x16_t two = vld1q_u8(tile + pair * 16);
        UNROLL for (int j = 0; j < 2; j++)
        {
            int8x16_t x[4];
            UNROLL for (size_t t = 0; t < n; t++)
            {
                x[t] = broadcast4(q + t * q_stride + pair * 8 + (size_t)j * 4);
            }
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const uint8x16_t spread = vqtbl1q_u8(two, bytes_of_quad(j, r));
                const int8x16_t mask = vreinterpretq_s8_u8(vtstq_u8(spread, bits));
                UNROLL for (size_t t = 0; t < n; t++)
                {
                    kept[t][r] = vpadalq_s8(kept[t][r], vandq_s8(mask, x[t]));
                }
            }
        }
    }
}

INLINE void b1_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[4][QUADS], part[4][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / B1_GROUP; g++) {
        const uint8_t *group = panel + g * B1_GROUP_BYTES;
        memset(part, 0, sizeof(part));
        for (size_t b = 0; b < 4; b++) {
            const int8_t *q = act->q + t0 * act->q_stride + g * B1_GROUP + b * ACT_BLOCK;
            int16x8_t kept[4][QUADS];

            __builtin_prefetch(group + 32 + b * 64 + AHEAD);
            memset(kept, 0, sizeof(kept));
            b1_block(group + 32 + b * 64, q, act->q_stride, n, kept);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const size_t at = (t0 + t) * act->d_stride + g * 4 + b;
                UNROLL for (int r = 0; r < QUADS; r++)
                {
                    const int32x4_t k = vshlq_n_s32(vpaddlq_s16(kept[t][r]), 1);
                    const int32x4_t s = vsubq_s32(k, vdupq_n_s32(act->s[at]));
                    part[t][r] = add_block(act->d[at], s, part[t][r]);
                }
            }
        }
        add_parts(group, n, part, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

INLINE void i8_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[2][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / I8_GROUP; g++) {
        const uint8_t *group = panel + g * I8_GROUP_BYTES;
        const int8_t *tile = (const int8_t *)group + 32;
        const int8_t *q = act->q + t0 * act->q_stride + g * I8_GROUP;
        int32x4_t low[2][QUADS], high[2][QUADS]; /* rows 0, 1 and rows 2, 3 of a quad */
        int32x4_t sum[2][QUADS];

        memset(low, 0, sizeof(low));
        memset(high, 0, sizeof(high));
        for (size_t c = 0; c < 8; c++) {
            __builtin_prefetch(tile + c * 64 + AHEAD);
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const int8x16_t w = vld1q_s8(tile + c * 64 + r * 16);
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
                sum[t][r] = vpaddq_s32(low[t][r], high[t][r]);
            }
        }
        add_groups(act, t0, n, g, group, sum, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

PANEL(panel_b1_neon, B1_GROUP, b1_tokens, 4)
PANEL(panel_i8_neon, I8_GROUP, i8_tokens, 2)
