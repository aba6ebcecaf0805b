/* ARM matrix products: smmla multiplies two rows of 8 columns by two tokens of 8 columns, twice the
 * work of sdot per instruction.
 *
 * Its operand wants 8 columns of one row side by side, where a tile or a plane holds 4. A line of
 * B1 is zipped with itself, so that each row stands twice and one test takes two planes of it; the
 * other kinds zip two neighbouring tiles. Both are done once for all tokens. A result holds rows 2i
 * and 2i+1 for tokens t and t+1, taken apart at the end of a block. A single token has no partner
 * and goes to the sdot version, which is as fast for it. */
#include "engine/kernels/i8mm_common.h"

/* Plane k for the first four bytes of a row, plane k + 1 for the next four. */
INLINE uint8x16_t bits_of_planes(int k)
{
    const uint64_t first = 0x01010101u * (1ull << k);
    return vreinterpretq_u8_u64(vdupq_n_u64(first | first << 33));
}

/* Masks are -1 and 0, so a lane collects -sum(kept). */
INLINE void b1_line(const uint8_t *line, const struct act_q8 *act, size_t t0, const size_t n,
                    size_t at, float32x4_t part[][QUADS])
{
    int8x16_t x[4][TOKENS / 2];
    int32x4_t less_all[TOKENS];
    float d[TOKENS];

    UNROLL for (size_t k = 0; k < 4; k++)
    {
        load_tokens(act, t0, n, at * ACT_BLOCK + k * 8, x[k]);
    }
    load_block(act, t0, n, at, d, less_all);
    for (int r = 0; r < QUADS; r++) { /* as a loop, its operands stay in registers */
        const uint32x4_t w = vreinterpretq_u32_u8(vld1q_u8(line + r * 16));
        const uint8x16_t low = vreinterpretq_u8_u32(vzip1q_u32(w, w)); /* each row twice */
        const uint8x16_t high = vreinterpretq_u8_u32(vzip2q_u32(w, w));
        int32x4_t less[TOKENS / 2][2];

        memset(less, 0, sizeof(less));
        UNROLL for (int k = 0; k < 4; k++)
        {
            const uint8x16_t bits = bits_of_planes(2 * k);
            const int8x16_t m0 = plane_mask(low, bits), m1 = plane_mask(high, bits);
            UNROLL for (size_t p = 0; p < n / 2; p++)
            {
                less[p][0] = vmmlaq_s32(less[p][0], m0, x[k][p]);
                less[p][1] = vmmlaq_s32(less[p][1], m1, x[k][p]);
            }
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const int32x4_t a = less[t / 2][0], b = less[t / 2][1];
            const int32x4_t four = t % 2 ? vuzp2q_s32(a, b) : vuzp1q_s32(a, b);
            const int32x4_t sum = vsubq_s32(less_all[t], vaddq_s32(four, four));
            part[t][r] = add_block(d[t], sum, part[t][r]);
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

MATRIX(panel_b1_i8mm, B1_GROUP, b1_tokens, b1_line, panel_b1_dotprod)
MATRIX(panel_i8_i8mm, I8_GROUP, i8_tokens, i8_block, panel_i8_dotprod)
