/* smmla for the kinds of four, five and six bits: codes go in as they are. A tile's two halves are
 * 8 neighbouring columns once zipped. */
#include "engine/kernels/i8mm_common.h"

INLINE void add_tiles(const uint8_t *tiles, const size_t cols, const int bits,
                      uint8x16_t more[QUADS], const struct act_q8 *act, size_t t0,
                      const struct tile of, size_t col, int32x4_t sum[][QUADS])
{
    int32x4_t pairs[TOKENS / 2][PAIRS];

    clear_pairs(of, pairs);
    for (size_t c = 0; c < cols / 8; c++) {
        int8x16_t x[TOKENS / 2];

        __builtin_prefetch(tiles + c * 64 + AHEAD);
        load_tokens(act, t0, of, col + c * 8, x);
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            int8x16_t codes[2];
            tile_codes(tiles + c * 64 + of.first * 16, of, r, bits, more, codes);
            add_quads(codes[0], codes[1], r, x, of, pairs);
        }
    }
    take_apart(pairs, of, sum);
}

MATRIX(panel_n4_i8mm, N4_GROUP, n4_tokens, 2, add_tiles, panel_n4_dotprod)
MATRIX(panel_n4m_i8mm, N4_GROUP, n4m_tokens, 2, add_tiles, panel_n4m_dotprod)
MATRIX(panel_k4_i8mm, K_GROUP, k4_tokens, 2, add_tiles, panel_k4_dotprod)
MATRIX(panel_k5_i8mm, K_GROUP, k5_tokens, 2, add_tiles, panel_k5_dotprod)
MATRIX(panel_k6_i8mm, K_GROUP, k6_tokens, 2, add_tiles, panel_k6_dotprod)
