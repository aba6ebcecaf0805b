/* ARM matrix products: smmla multiplies two rows of 8 columns by two tokens of 8 columns, twice the
 * work of sdot per instruction.
 *
 * Its operand wants 8 columns of one row side by side, where a tile holds 4: two neighbouring tiles
 * are zipped, once for all tokens. A result holds rows 2i and 2i+1 for tokens t and t+1, taken
 * apart at the end of a block. A single token has no partner and goes to the sdot version, which is
 * as fast for it. */
#include "engine/kernels/i8mm_common.h"

INLINE void i8_block(const uint8_t *tiles, const struct act_q8 *act, size_t t0,
                     const struct tile of, size_t col, int32x4_t sum[][QUADS])
{
    int32x4_t pairs[TOKENS / 2][PAIRS];

    clear_pairs(of, pairs);
    for (size_t c = 0; c < 8; c += 2) {
        const int8_t *tile = (const int8_t *)tiles + c * 64;
        int8x16_t x[TOKENS / 2];
        __builtin_prefetch(tile + AHEAD);
        __builtin_prefetch(tile + 64 + AHEAD);
        load_tokens(act, t0, of, col + c * 4, x);
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            const int8_t *at = tile + (of.first + r) * 16;
            add_quads(vld1q_s8(at), vld1q_s8(at + 64), r, x, of, pairs);
        }
    }
    take_apart(pairs, of, sum);
}

MATRIX(panel_i8_i8mm, I8_GROUP, i8_tokens, 2, i8_block, panel_i8_dotprod)
