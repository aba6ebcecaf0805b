/* ARM matrix products: smmla multiplies two rows of 8 columns by two tokens of 8 columns, twice the
 * work of sdot per instruction.
 *
 * Its operand wants 8 columns of one row side by side, where the packed tiles hold 4. The B1 masks
 * are spread in that order by the table lookup itself, at no cost; the other kinds zip two
 * neighbouring tiles once for all tokens. A result holds rows 2i and 2i+1 for tokens t and t+1,
 * taken apart at the end of a block. A single token has no partner and goes to the sdot version,
 * which is as fast for it. */
#include "engine/kernels/i8mm_common.h"

/* 8 columns of B1: two tiles. Masks are -1 and 0, so a lane collects -sum(kept). */
INLINE void b1_tiles(const uint8_t *tile, const int8x16_t *x, const size_t n,
                     int32x4_t sum[TOKENS / 2][PAIRS])
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

INLINE void b1_block(const uint8_t *tiles, const struct act_q8 *act, size_t t0, const size_t n,
                     size_t col, int32x4_t sum[][QUADS])
{
    int32x4_t less[TOKENS / 2][PAIRS];

    memset(less, 0, sizeof(less));
    for (size_t c = 0; c < 4; c++) {
        int8x16_t x[TOKENS / 2];
        load_tokens(act, t0, n, col + c * 8, x);
        b1_tiles(tiles + c * 16, x, n, less);
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            sum[t][r] = vmlsq_n_s32(sum[t][r], rows_of(less, t, r), 2);
        }
    }
}

INLINE void i8_block(const uint8_t *tiles, const struct act_q8 *act, size_t t0, const size_t n,
                     size_t col, int32x4_t sum[][QUADS])
{
    int32x4_t pairs[TOKENS / 2][PAIRS];

    memset(pairs, 0, sizeof(pairs));
    for (size_t c = 0; c < 8; c += 2) {
        const int8_t *tile = (const int8_t *)tiles + c * 64;
        int8x16_t x[TOKENS / 2];
        __builtin_prefetch(tile + AHEAD);
        __builtin_prefetch(tile + 64 + AHEAD);
        load_tokens(act, t0, n, col + c * 4, x);
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            add_quads(vld1q_s8(tile + r * 16), vld1q_s8(tile + 64 + r * 16), r, x, n, pairs);
        }
    }
    take_apart(pairs, n, sum);
}

MATRIX(panel_b1_i8mm, B1_GROUP, b1_tokens, b1_block, panel_b1_dotprod)
MATRIX(panel_i8_i8mm, I8_GROUP, i8_tokens, i8_block, panel_i8_dotprod)
