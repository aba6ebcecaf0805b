/* What the files of the ARM levels share: small static functions, compiled with each file's own
 * flags. A register holds 4 rows x 4 columns of a tile; four of them are the panel's 16 rows. */
#ifndef ENGINE_KERNELS_NEON_COMMON_H
#define ENGINE_KERNELS_NEON_COMMON_H

#include <arm_neon.h>
#include <assert.h>
#include <string.h>

#include "engine/kernels/levels.h"

#define INLINE static inline __attribute__((always_inline))
#define QUADS 4    /* registers of 4 rows in a panel */
#define AHEAD 1024 /* bytes of software prefetch */

/* Byte i of `bit` tests column i % 4 of an even row (low nibble) or of the odd row behind it. */
INLINE uint8x16_t bit_of_byte(void)
{
    return vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
}

/* Where the bits of row quad r lie in tile j of two tiles: eight times the byte of its first two rows,
 * eight times the next one. */
INLINE uint8x16_t bytes_of_quad(int j, int r)
{
    const uint8_t at = (uint8_t)(j * 8 + r * 2);
    return vcombine_u8(vdup_n_u8(at), vdup_n_u8((uint8_t)(at + 1)));
}

INLINE float32x4_t scales(const uint8_t *group, int r)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(group + r * 8)));
}

INLINE float32x4_t add_block(float d, int32x4_t s, float32x4_t part)
{
    return vfmaq_n_f32(part, vcvtq_f32_s32(s), d);
}

/* Tokens by `many`, then one by one: each count is compiled for itself. */
#define PANEL(name, group, tokens, many)                                                           \
    void name(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,           \
              size_t out_stride)                                                                   \
    {                                                                                              \
        assert(n_cols % (group) == 0 && n_cols <= KERN_COLS_MAX);                                  \
                                                                                                   \
        size_t t = 0;                                                                              \
        for (; t + (many) <= act->n_tokens; t += (many)) {                                         \
            tokens(panel, n_cols, act, t, many, out, out_stride);                                  \
        }                                                                                          \
        for (; t < act->n_tokens; t++) {                                                           \
            tokens(panel, n_cols, act, t, 1, out, out_stride);                                     \
        }                                                                                          \
    }

#endif
