/* ARM matrix products: smmla multiplies two rows of 8 columns by two tokens of 8 columns, twice the
 * work of sdot per instruction.
 *
 * Its operand wants 8 columns of one row side by side, where the packed tiles hold 4. The B1 masks are
 * spread in that order by the table lookup itself, at no cost; I8 and T2 zip two neighbouring tiles
 * once for all tokens. A result holds rows 2i and 2i+1 for tokens t and t+1, taken apart at the end of
 * a block. A single token has no partner and goes to the sdot version, which is as fast for it. */
#include "engine/kernels/neon_common.h"

#define PAIRS 8 /* pairs of rows in a panel */
#define MANY 4  /* tokens that share one expansion: 16 accumulators of the 32 registers */

/* 8 columns of tokens t and t + 1 for each pair of tokens. */
INLINE void load_tokens(const struct act_q8 *act, size_t t0, const size_t n, size_t col,
                        int8x16_t x[MANY / 2])
{
    UNROLL for (size_t p = 0; p < n / 2; p++)
    {
        const int8_t *q = act->q + (t0 + 2 * p) * act->q_stride + col;
        x[p] = vcombine_s8(vld1_s8(q), vld1_s8(q + act->q_stride));
    }
}

/* The four rows of quad r for token t, out of the results of its two pairs of rows. */
INLINE int32x4_t rows_of(int32x4_t sum[MANY / 2][PAIRS], size_t t, int r)
{
    const int32x4_t a = sum[t / 2][2 * r], b = sum[t / 2][2 * r + 1];
    return t % 2 ? vuzp2q_s32(a, b) : vuzp1q_s32(a, b);
}

/* Two quads of the same four rows, 4 columns each, into the two pairs of rows, 8 columns each. */
INLINE void add_quads(int8x16_t left, int8x16_t right, int r, const int8x16_t *x, const size_t n,
                      int32x4_t sum[MANY / 2][PAIRS])
{
    const int32x4_t a = vreinterpretq_s32_s8(left), b = vreinterpretq_s32_s8(right);
    const int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(a, b));
    const int8x16_t high = vreinterpretq_s8_s32(vzip2q_s32(a, b));

    UNROLL for (size_t p = 0; p < n / 2; p++)
    {
        sum[p][2 * r] = vmmlaq_s32(sum[p][2 * r], low, x[p]);
        sum[p][2 * r + 1] = vmmlaq_s32(sum[p][2 * r + 1], high, x[p]);
    }
}

INLINE void store(float32x4_t acc[MANY][QUADS], size_t t0, const size_t n, float *out,
                  size_t out_stride)
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            vst1q_f32(out + (t0 + t) * out_stride + r * 4, acc[t][r]);
        }
    }
}

/* 8 columns of B1: two tiles. Masks are -1 and 0, so a lane collects -sum(kept). */
INLINE void b1_tiles(const uint8_t *tile, const int8x16_t *x, const size_t n,
                     int32x4_t sum[MANY / 2][PAIRS])
{
    const uint8x16_t bits = vcombine_u8(vreinterpret_u8_u64(vdup_n_u64(0x0804020108040201)),
                                        vreinterpret_u8_u64(vdup_n_u64(0x8040201080402010)));
    const uint8x16_t first = vreinterpretq_u8_u64(vdupq_n_u64(0x0808080800000000));
    const uint8x16_t two = vld1q_u8(tile);

    UNROLL for (int i = 0; i < PAIRS; i++)
    {
        const uint8x16_t at = vaddq_u8(first, vdupq_n_u8((uint8_t)i));
        const int8x16_t mask = vreinterpretq_s8_u8(vtstq_u8(vqtbl1q_u8(two, at), bits));
        UNROLL for (size_t p = 0; p < n / 2; p++)
        {
            sum[p][i] = vmmlaq_s32(sum[p][i], mask, x[p]);
        }
    }
}

INLINE void b1_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[MANY][QUADS], part[MANY][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / B1_GROUP; g++) {
        const uint8_t *group = panel + g * B1_GROUP_BYTES;
        memset(part, 0, sizeof(part));
        for (size_t b = 0; b < 4; b++) {
            int32x4_t sum[MANY / 2][PAIRS];

            __builtin_prefetch(group + 32 + b * 64 + AHEAD);
            memset(sum, 0, sizeof(sum));
            for (size_t c = 0; c < 4; c++) {
                int8x16_t x[MANY / 2];
                load_tokens(act, t0, n, g * B1_GROUP + b * ACT_BLOCK + c * 8, x);
                b1_tiles(group + 32 + b * 64 + c * 16, x, n, sum);
            }
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const size_t at = (t0 + t) * act->d_stride + g * 4 + b;
                const int32x4_t less = vdupq_n_s32(-act->s[at]);
                UNROLL for (int r = 0; r < QUADS; r++)
                {
                    const int32x4_t s = vmlsq_n_s32(less, rows_of(sum, t, r), 2);
                    part[t][r] = add_block(act->d[at], s, part[t][r]);
                }
            }
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                acc[t][r] = vfmaq_f32(acc[t][r], scales(group, r), part[t][r]);
            }
        }
    }
    store(acc, t0, n, out, out_stride);
}

/* One block that is a whole group: the part is a single product, rounded, then scaled into acc. */
INLINE void add_group(const struct act_q8 *act, size_t t0, const size_t n, size_t g,
                      const uint8_t *group, int32x4_t less[MANY], int32x4_t sum[MANY / 2][PAIRS],
                      float32x4_t acc[MANY][QUADS])
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        const float d = act->d[(t0 + t) * act->d_stride + g];
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            const int32x4_t s = vsubq_s32(rows_of(sum, t, r), less[t]);
            const float32x4_t part = add_block(d, s, vdupq_n_f32(0));
            acc[t][r] = vfmaq_f32(acc[t][r], scales(group, r), part);
        }
    }
}

INLINE void i8_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[MANY][QUADS];
    int32x4_t nothing[MANY];

    memset(acc, 0, sizeof(acc));
    memset(nothing, 0, sizeof(nothing));
    for (size_t g = 0; g < n_cols / I8_GROUP; g++) {
        const uint8_t *group = panel + g * I8_GROUP_BYTES;
        const int8_t *tile = (const int8_t *)group + 32;
        int32x4_t sum[MANY / 2][PAIRS];

        memset(sum, 0, sizeof(sum));
        for (size_t c = 0; c < 8; c += 2) {
            int8x16_t x[MANY / 2];
            __builtin_prefetch(tile + c * 64 + AHEAD);
            __builtin_prefetch(tile + c * 64 + 64 + AHEAD);
            load_tokens(act, t0, n, g * I8_GROUP + c * 4, x);
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const int8_t *at = tile + c * 64 + r * 16;
                add_quads(vld1q_s8(at), vld1q_s8(at + 64), r, x, n, sum);
            }
        }
        add_group(act, t0, n, g, group, nothing, sum, acc);
    }
    store(acc, t0, n, out, out_stride);
}

INLINE int8x16_t codes(uint8x16_t w, int plane)
{
    const uint8x16_t shifted = vshlq_u8(w, vdupq_n_s8((int8_t)(-2 * plane)));
    return vreinterpretq_s8_u8(vandq_u8(shifted, vdupq_n_u8(3)));
}

INLINE void t2_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[MANY][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / T256_GROUP; g++) {
        const uint8_t *group = panel + g * T256_GROUP_BYTES;
        int32x4_t sum[MANY / 2][PAIRS], all[MANY];

        memset(sum, 0, sizeof(sum));
        UNROLL for (size_t t = 0; t < n; t++)
        {
            all[t] = vdupq_n_s32(act->s[(t0 + t) * act->d_stride + g]); /* weight = code - 1 */
        }
        for (size_t l = 0; l < 16; l++) {
            int8x16_t x[MANY / 2], y[MANY / 2];
            __builtin_prefetch(group + 32 + l * 64 + AHEAD);
            load_tokens(act, t0, n, g * T256_GROUP + l * 16, x);
            load_tokens(act, t0, n, g * T256_GROUP + l * 16 + 8, y);
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const uint8x16_t w = vld1q_u8(group + 32 + l * 64 + r * 16);
                add_quads(codes(w, 0), codes(w, 1), r, x, n, sum);
                add_quads(codes(w, 2), codes(w, 3), r, y, n, sum);
            }
        }
        add_group(act, t0, n, g, group, all, sum, acc);
    }
    store(acc, t0, n, out, out_stride);
}

/* Tokens by fours, a pair, and the last one alone by sdot. */
#define MATRIX(name, group, tokens, single)                                                        \
    void name(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,           \
              size_t out_stride)                                                                   \
    {                                                                                              \
        assert(n_cols % (group) == 0 && n_cols <= KERN_COLS_MAX);                                  \
                                                                                                   \
        size_t t = 0;                                                                              \
        for (; t + MANY <= act->n_tokens; t += MANY) {                                             \
            tokens(panel, n_cols, act, t, MANY, out, out_stride);                                  \
        }                                                                                          \
        for (; t + 2 <= act->n_tokens; t += 2) {                                                   \
            tokens(panel, n_cols, act, t, 2, out, out_stride);                                     \
        }                                                                                          \
        if (t < act->n_tokens) {                                                                   \
            struct act_q8 last = *act;                                                             \
            last.q += t * act->q_stride;                                                           \
            last.d += t * act->d_stride;                                                           \
            last.s += t * act->d_stride;                                                           \
            last.n_tokens = 1;                                                                     \
            single(panel, n_cols, &last, out + t * out_stride, out_stride);                        \
        }                                                                                          \
    }

MATRIX(panel_b1_i8mm, B1_GROUP, b1_tokens, panel_b1_dotprod)
MATRIX(panel_i8_i8mm, I8_GROUP, i8_tokens, panel_i8_dotprod)
MATRIX(panel_t256_i8mm, T256_GROUP, t2_tokens, panel_t256_dotprod)
