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
#define TOKENS 4   /* the most that share one expansion: 16 accumulators of the 32 registers */
#define AHEAD 1024 /* bytes of software prefetch */

/* Where things lie in the groups of K4, K5 and K6 (kernels.h). */
#define K45_SC 64
#define K45_MN 192
#define K45_TILES 320
#define K5_FIFTH 2368
#define K6_SC 32
#define K6_TILES 288
#define K6_LINES 2336

INLINE float32x4_t scales(const uint8_t *group, int r)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(group + r * 8)));
}

INLINE float32x4_t add_block(float d, int32x4_t s, float32x4_t part)
{
    return vfmaq_n_f32(part, vcvtq_f32_s32(s), d);
}

INLINE int8x16_t broadcast4(const int8_t *q)
{
    return vreinterpretq_s8_s32(vld1q_dup_s32((const void *)q));
}

/* (token, row) floats of n tokens from t0 on */
INLINE void store_rows(float32x4_t acc[][QUADS], size_t t0, const size_t n, float *out,
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

/* The end of TROW: (sum * scale) / r, three roundings. */
INLINE void store_scaled(const uint8_t *panel, float r, const int32x4_t sum[QUADS], float *out)
{
    UNROLL for (int i = 0; i < QUADS; i++)
    {
        const float32x4_t scale = vreinterpretq_f32_u8(vld1q_u8(panel + i * 16));
        const float32x4_t part = vmulq_f32(vcvtq_f32_s32(sum[i]), scale);
        vst1q_f32(out + i * 4, vdivq_f32(part, vdupq_n_f32(r)));
    }
}

/* Sixteen bytes, one per row. */
INLINE void widen_u8(const uint8_t *at, int32x4_t ret[QUADS])
{
    const uint8x16_t bytes = vld1q_u8(at);
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);

    ret[0] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low)));
    ret[1] = vreinterpretq_s32_u32(vmovl_high_u16(low));
    ret[2] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high)));
    ret[3] = vreinterpretq_s32_u32(vmovl_high_u16(high));
}

INLINE void widen_s8(const uint8_t *at, int32x4_t ret[QUADS])
{
    const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(at));
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);

    ret[0] = vmovl_s16(vget_low_s16(low));
    ret[1] = vmovl_high_s16(low);
    ret[2] = vmovl_s16(vget_low_s16(high));
    ret[3] = vmovl_high_s16(high);
}

/* ---- what becomes of a block's integer sums, (token, row) for n tokens from t0 on ---- */

/* sum = factor * the sum of q in block `at` */
INLINE void sums_at(const struct act_q8 *act, size_t t0, const size_t n, size_t at, int32_t factor,
                    int32x4_t sum[][QUADS])
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        const int32x4_t s = vdupq_n_s32(factor * act->s[(t0 + t) * act->d_stride + at]);
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            sum[t][r] = s;
        }
    }
}

/* part = fma(d, sum, part) */
INLINE void add_blocks(const struct act_q8 *act, size_t t0, const size_t n, size_t at,
                       int32x4_t sum[][QUADS], float32x4_t part[][QUADS])
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        const float d = act->d[(t0 + t) * act->d_stride + at];
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            part[t][r] = add_block(d, sum[t][r], part[t][r]);
        }
    }
}

/* acc = fma(scale, part, acc) */
INLINE void add_parts(const uint8_t *scale, const size_t n, float32x4_t part[][QUADS],
                      float32x4_t acc[][QUADS])
{
    UNROLL for (int r = 0; r < QUADS; r++)
    {
        const float32x4_t with = scales(scale, r);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            acc[t][r] = vfmaq_f32(acc[t][r], with, part[t][r]);
        }
    }
}

/* A block that is a whole group: its part is a single product, rounded, then scaled into acc. */
INLINE void add_groups(const struct act_q8 *act, size_t t0, const size_t n, size_t at,
                       const uint8_t *scale, int32x4_t sum[][QUADS], float32x4_t acc[][QUADS])
{
    UNROLL for (int r = 0; r < QUADS; r++)
    {
        const float32x4_t with = scales(scale, r);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const float d = act->d[(t0 + t) * act->d_stride + at];
            const float32x4_t part = add_block(d, sum[t][r], vdupq_n_f32(0));
            acc[t][r] = vfmaq_f32(acc[t][r], with, part);
        }
    }
}

/* Block j of a group of K4 or K5, which is block `at` of the activations. */
INLINE void k45_block(const uint8_t *group, size_t j, const struct act_q8 *act, size_t t0,
                      const size_t n, size_t at, int32x4_t sum[][QUADS], float32x4_t part[][QUADS],
                      float32x4_t less[][QUADS])
{
    int32x4_t sc[QUADS], mn[QUADS];

    widen_u8(group + K45_SC + j * 16, sc);
    widen_u8(group + K45_MN + j * 16, mn);
    UNROLL for (size_t t = 0; t < n; t++)
    {
        const float d = act->d[(t0 + t) * act->d_stride + at];
        const int32_t s = act->s[(t0 + t) * act->d_stride + at];
        UNROLL for (int r = 0; r < QUADS; r++)
        {
            part[t][r] = add_block(d, vmulq_s32(sc[r], sum[t][r]), part[t][r]);
            less[t][r] = add_block(d, vmulq_n_s32(mn[r], s), less[t][r]);
        }
    }
}

INLINE void k45_group(const uint8_t *group, const size_t n, float32x4_t part[][QUADS],
                      float32x4_t less[][QUADS], float32x4_t acc[][QUADS])
{
    add_parts(group, n, part, acc);
    UNROLL for (int r = 0; r < QUADS; r++)
    {
        const float32x4_t with = scales(group + 32, r);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            acc[t][r] = vfmsq_f32(acc[t][r], with, less[t][r]);
        }
    }
}

/* ---- codes out of packed bytes, a register of 4 rows x 4 columns each ---- */

/* One block's scale and the sum of its q, negated, for n tokens. */
INLINE void load_block(const struct act_q8 *act, size_t t0, const size_t n, size_t at,
                       float d[TOKENS], int32x4_t less_all[TOKENS])
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        d[t] = act->d[(t0 + t) * act->d_stride + at];
        less_all[t] = vdupq_n_s32(-act->s[(t0 + t) * act->d_stride + at]);
    }
}

INLINE int8x16_t two_bits(uint8x16_t w, int plane)
{
    const uint8x16_t shifted = plane ? vshlq_u8(w, vdupq_n_s8((int8_t)(-2 * plane))) : w;
    return vreinterpretq_s8_u8(plane == 3 ? shifted : vandq_u8(shifted, vdupq_n_u8(3)));
}

/* Row quad r's codes in one tile of 8 columns: columns 0..3, then columns 4..7. `more` has what
 * lies above the fourth bit: in K5 the next two bits of each byte, lowest first, in K6 the next two
 * pairs, and is shifted on to the following tile. */
INLINE void tile_codes(const uint8_t *tile, int r, const int bits, uint8x16_t more[QUADS],
                       int8x16_t ret[2])
{
    const uint8x16_t w = vld1q_u8(tile + r * 16), right = vshrq_n_u8(w, 4);

    if (bits == 5) {
        const uint8x16_t mask = vdupq_n_u8(31);
        const uint8x16_t next = vshrq_n_u8(more[r], 1);
        ret[0] = vreinterpretq_s8_u8(vandq_u8(vsliq_n_u8(w, more[r], 4), mask));
        ret[1] = vreinterpretq_s8_u8(vandq_u8(vsliq_n_u8(right, next, 4), mask));
        more[r] = vshrq_n_u8(next, 1);
    } else if (bits == 6) {
        const uint8x16_t mask = vdupq_n_u8(63);
        const uint8x16_t next = vshrq_n_u8(more[r], 2);
        ret[0] = vreinterpretq_s8_u8(vandq_u8(vsliq_n_u8(w, more[r], 4), mask));
        ret[1] = vreinterpretq_s8_u8(vandq_u8(vsliq_n_u8(right, next, 4), mask));
        more[r] = vshrq_n_u8(next, 2);
    } else {
        ret[0] = vreinterpretq_s8_u8(vandq_u8(w, vdupq_n_u8(15)));
        ret[1] = vreinterpretq_s8_u8(right);
    }
}

INLINE void load_quads(const uint8_t *at, uint8x16_t ret[QUADS])
{
    UNROLL for (int r = 0; r < QUADS; r++)
    {
        ret[r] = vld1q_u8(at + r * 16);
    }
}

/* sums: the level's function for the kind (arm_panels.h). */
#define PANEL(name, group, tokens, many, sums)                                                     \
    PANEL_FN(name, group,                                                                          \
             BY(many, tokens, out, out_stride, sums) BY(1, tokens, out, out_stride, sums))

#endif
