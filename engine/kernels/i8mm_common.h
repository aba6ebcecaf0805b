/* What the files of the smmla level share. */
#ifndef ENGINE_KERNELS_I8MM_COMMON_H
#define ENGINE_KERNELS_I8MM_COMMON_H

#include "engine/kernels/arm_panels.h"

#define PAIRS 8 /* pairs of rows in a panel */

/* 8 columns of tokens t and t + 1 for each pair of tokens. */
INLINE void load_tokens(const struct act_q8 *act, size_t t0, const struct tile of, size_t col,
                        int8x16_t x[TOKENS / 2])
{
    UNROLL for (size_t p = 0; p < of.n / 2; p++)
    {
        const int8_t *q = act->q + (t0 + 2 * p) * act->q_stride + col;
        x[p] = vcombine_s8(vld1_s8(q), vld1_s8(q + act->q_stride));
    }
}

INLINE void clear_pairs(const struct tile of, int32x4_t pairs[TOKENS / 2][PAIRS])
{
    UNROLL for (size_t p = 0; p < of.n / 2; p++)
    {
        UNROLL for (int i = 0; i < 2 * of.quads; i++)
        {
            pairs[p][i] = vdupq_n_s32(0);
        }
    }
}

/* The four rows of quad r for token t, out of the results of its two pairs of rows. */
INLINE int32x4_t rows_of(int32x4_t sum[TOKENS / 2][PAIRS], size_t t, int r)
{
    const int32x4_t a = sum[t / 2][2 * r], b = sum[t / 2][2 * r + 1];
    return t % 2 ? vuzp2q_s32(a, b) : vuzp1q_s32(a, b);
}

/* Two quads of the same four rows, 4 columns each, into the two pairs of rows, 8 columns each. */
INLINE void add_quads(int8x16_t left, int8x16_t right, int r, const int8x16_t *x,
                      const struct tile of, int32x4_t sum[TOKENS / 2][PAIRS])
{
    const int32x4_t a = vreinterpretq_s32_s8(left), b = vreinterpretq_s32_s8(right);
    const int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(a, b));
    const int8x16_t high = vreinterpretq_s8_s32(vzip2q_s32(a, b));

    UNROLL for (size_t p = 0; p < of.n / 2; p++)
    {
        sum[p][2 * r] = vmmlaq_s32(sum[p][2 * r], low, x[p]);
        sum[p][2 * r + 1] = vmmlaq_s32(sum[p][2 * r + 1], high, x[p]);
    }
}

/* Results taken apart, onto sums by (token, row). */
INLINE void take_apart(int32x4_t pairs[TOKENS / 2][PAIRS], const struct tile of,
                       int32x4_t sum[][QUADS])
{
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            sum[t][r] = vaddq_s32(sum[t][r], rows_of(pairs, t, r));
        }
    }
}

/* What is left of a panel_fn's tokens, one at the most, by another. */
#define ALONE(single)                                                                              \
    if (t < act->n_tokens) {                                                                       \
        struct act_q8 last = *act;                                                                 \
        last.q += t * act->q_stride;                                                               \
        last.d += t * act->d_stride;                                                               \
        last.s += t * act->d_stride;                                                               \
        last.n_tokens = 1;                                                                         \
        single(panel, n_cols, &last, out + t * out_stride, out_stride);                            \
    }

/* Tokens by fours, for `quads` row quads at a time, a pair, and the last one alone by sdot. sums:
 * the level's function for the kind. */
#define MATRIX(name, group, tokens, quads, sums, single)                                           \
    PANEL_FN(name, group,                                                                          \
             TILES(TOKENS, quads, tokens, sums) TILES(2, QUADS, tokens, sums) ALONE(single))

#endif
