/* ARM dot products: sdot adds four int8 products of a row straight into its int32 lane.
 *
 * B1: masks of -1 and 0 go into sdot as they are, so a lane collects -sum(kept), and the sum over
 * +1 and -1 weights is -2 * lane - sum(all). I8 uses its weights. The activations of four planes or
 * tiles lie in one register and enter by lane, without a broadcast. */
#include "engine/kernels/dotprod_common.h"

/* What a line of B1 takes from the activations. */
struct b1_block {
    int8x16_t x[2][TOKENS];
    int32x4_t less_all[TOKENS];
    float d[TOKENS];
};

/* Row quad r. */
INLINE void b1_quad(const uint8_t *line, int r, const struct b1_block *in, const size_t n,
                    float32x4_t part[][QUADS])
{
    const uint8x16_t w = vld1q_u8(line + r * 16);
    int32x4_t less[TOKENS]; /* -sum(kept) */

    memset(less, 0, sizeof(less));
    UNROLL for (int k = 0; k < B1_PLANES; k++)
    {
        const int8x16_t mask = plane_mask(w, vdupq_n_u8((uint8_t)(1u << k)));
        UNROLL for (size_t t = 0; t < n; t++)
        {
            less[t] = dot_lane(less[t], mask, in->x[k / 4][t], k % 4);
        }
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        const int32x4_t sum = vsubq_s32(in->less_all[t], vaddq_s32(less[t], less[t]));
        part[t][r] = add_block(in->d[t], sum, part[t][r]);
    }
}

INLINE void b1_line(const uint8_t *line, const struct act_q8 *act, size_t t0, const size_t n,
                    size_t at, float32x4_t part[][QUADS])
{
    struct b1_block in;

    load16(act, t0, n, at * ACT_BLOCK, in.x[0]);
    load16(act, t0, n, at * ACT_BLOCK + 16, in.x[1]);
    load_block(act, t0, n, at, in.d, in.less_all);
    if (n == 1) {
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            b1_quad(line, r, &in, n, part);
        }
        return;
    }
    for (int r = 0; r < QUADS; r++) { /* as a loop, its operands stay in registers */
        b1_quad(line, r, &in, n, part);
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

PANEL(panel_b1_dotprod, B1_GROUP, b1_tokens, TOKENS, b1_line)
PANEL(panel_i8_dotprod, I8_GROUP, i8_tokens, TOKENS, i8_block)
