/* ARM matrix products: smmla multiplies two rows of 8 columns by two tokens of 8 columns, twice the
 * work of sdot per instruction.
 *
 * Its operand wants 8 columns of one row side by side, where the packed tiles hold 4. The B1 masks are
 * spread in that order by the table lookup itself, at no cost; the other kinds zip two neighbouring
 * tiles once for all tokens. A result holds rows 2i and 2i+1 for tokens t and t+1, taken apart at the
 * end of a block. A single token has no partner and goes to the sdot version, which is as fast for
 * it. */
#include "engine/kernels/i8mm_common.h"

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
        add_parts(group, n, part, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

INLINE void i8_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[MANY][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / I8_GROUP; g++) {
        const uint8_t *group = panel + g * I8_GROUP_BYTES;
        const int8_t *tile = (const int8_t *)group + 32;
        int32x4_t pairs[MANY / 2][PAIRS], sum[MANY][QUADS];

        memset(pairs, 0, sizeof(pairs));
        memset(sum, 0, sizeof(sum));
        for (size_t c = 0; c < 8; c += 2) {
            int8x16_t x[MANY / 2];
            __builtin_prefetch(tile + c * 64 + AHEAD);
            __builtin_prefetch(tile + c * 64 + 64 + AHEAD);
            load_tokens(act, t0, n, g * I8_GROUP + c * 4, x);
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const int8_t *at = tile + c * 64 + r * 16;
                add_quads(vld1q_s8(at), vld1q_s8(at + 64), r, x, n, pairs);
            }
        }
        take_apart(pairs, n, sum);
        add_groups(act, t0, n, g, group, sum, acc);
    }
    store_rows(acc, t0, n, out, out_stride);
}

MATRIX(panel_b1_i8mm, B1_GROUP, b1_tokens, panel_b1_dotprod)
MATRIX(panel_i8_i8mm, I8_GROUP, i8_tokens, panel_i8_dotprod)
