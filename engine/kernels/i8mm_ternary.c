/* smmla for the ternary kinds: codes 0..3 go in as they are. Two planes of a line are 8
 * neighbouring columns once zipped. */
#include "engine/kernels/i8mm_common.h"

INLINE void sum_lines(const uint8_t *lines, const size_t n_lines, const struct act_q8 *act,
                      size_t t0, const struct tile of, size_t col, size_t at,
                      int32x4_t sum[][QUADS])
{
    int32x4_t pairs[TOKENS / 2][PAIRS];

    clear_pairs(of, pairs);
    for (size_t l = 0; l < n_lines; l++) {
        const uint8_t *line = lines + l * T_LINE_BYTES;
        int8x16_t x[TOKENS / 2], y[TOKENS / 2];

        __builtin_prefetch(line + AHEAD);
        load_tokens(act, t0, of, col + l * T_LINE, x);
        load_tokens(act, t0, of, col + l * T_LINE + 8, y);
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            const uint8x16_t w = vld1q_u8(line + (of.first + r) * 16);
            add_quads(two_bits(w, 0), two_bits(w, 1), r, x, of, pairs);
            add_quads(two_bits(w, 2), two_bits(w, 3), r, y, of, pairs);
        }
    }
    sums_at(act, t0, of, at, -1, sum);
    take_apart(pairs, of, sum);
}

MATRIX(panel_t64_i8mm, 64, t64_tokens, 2, sum_lines, panel_t64_dotprod)
MATRIX(panel_t128_i8mm, 128, t128_tokens, 2, sum_lines, panel_t128_dotprod)
MATRIX(panel_t256_i8mm, T256_GROUP, t256_tokens, QUADS, sum_lines, panel_t256_dotprod)
MATRIX(panel_trow_i8mm, TROW_GROUP, trow_tokens, QUADS, sum_lines, panel_trow_dotprod)
