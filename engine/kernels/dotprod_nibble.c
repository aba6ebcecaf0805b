/* sdot for the kinds of four, five and six bits: codes go in as they are. */
#include "engine/kernels/dotprod_common.h"

INLINE void add_tiles(const uint8_t *tiles, const size_t cols, const int bits,
                      uint8x16_t more[QUADS], const struct act_q8 *act, size_t t0,
                      const struct tile of, size_t col, int32x4_t sum[][QUADS])
{
    for (size_t h = 0; h < cols / 16; h++) {
        int8x16_t x[TOKENS];
        load16(act, t0, of, col + h * 16, x);
        UNROLL for (int c = 0; c < 2; c++)
        {
            const uint8_t *tile = tiles + h * 128 + (size_t)c * 64;
            __builtin_prefetch(tile + AHEAD);
            UNROLL for (int r = 0; r < of.quads; r++)
            {
                int8x16_t codes[2];
                tile_codes(tile + of.first * 16, of, r, bits, more, codes);
                UNROLL for (size_t t = 0; t < of.n; t++)
                {
                    sum[t][r] = dot_lane(sum[t][r], codes[0], x[t], 2 * c);
                    sum[t][r] = dot_lane(sum[t][r], codes[1], x[t], 2 * c + 1);
                }
            }
        }
    }
}

PANEL(panel_n4_dotprod, N4_GROUP, n4_tokens, TOKENS, 2, add_tiles)
PANEL(panel_n4m_dotprod, N4_GROUP, n4m_tokens, TOKENS, 2, add_tiles)
PANEL(panel_k4_dotprod, K_GROUP, k4_tokens, TOKENS, 2, add_tiles)
PANEL(panel_k5_dotprod, K_GROUP, k5_tokens, TOKENS, 2, add_tiles)
PANEL(panel_k6_dotprod, K_GROUP, k6_tokens, TOKENS, 2, add_tiles)
