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

/* What shares the registers of one pass: n tokens, and `quads` of the panel's row quads, all or
 * half of them, from `first` on. Arrays are by token and by row quad of the pass. */
struct tile {
    size_t n;
    int first, quads;
};

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
INLINE void store_rows(float32x4_t acc[][QUADS], size_t t0, const struct tile of, float *out,
                       size_t out_stride)
{
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            vst1q_f32(out + (t0 + t) * out_stride + (of.first + r) * 4, acc[t][r]);
        }
    }
}

/* The end of TROW: (sum * scale) / r, three roundings. */
INLINE void store_scaled(const uint8_t *panel, float r, const struct tile of,
                         const int32x4_t sum[QUADS], float *out)
{
    UNROLL for (int i = 0; i < of.quads; i++)
    {
        const float32x4_t scale = vreinterpretq_f32_u8(vld1q_u8(panel + (of.first + i) * 16));
        const float32x4_t part = vmulq_f32(vcvtq_f32_s32(sum[i]), scale);
        vst1q_f32(out + (of.first + i) * 4, vdivq_f32(part, vdupq_n_f32(r)));
    }
}

INLINE void clear_sums(const struct tile of, int32x4_t sum[][QUADS])
{
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            sum[t][r] = vdupq_n_s32(0);
        }
    }
}

INLINE void clear_parts(const struct tile of, float32x4_t part[][QUADS])
{
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            part[t][r] = vdupq_n_f32(0);
        }
    }
}

/* One byte per row, as floats. */
INLINE void widen_u8(const uint8_t *at, const struct tile of, float32x4_t ret[QUADS])
{
    UNROLL for (int r = 0; r < of.quads; r += 2)
    {
        const uint16x8_t two = vmovl_u8(vld1_u8(at + (of.first + r) * 4));
        ret[r] = vcvtq_f32_u32(vmovl_u16(vget_low_u16(two)));
        ret[r + 1] = vcvtq_f32_u32(vmovl_high_u16(two));
    }
}

INLINE void widen_s8(const uint8_t *at, const struct tile of, float32x4_t ret[QUADS])
{
    UNROLL for (int r = 0; r < of.quads; r += 2)
    {
        const int16x8_t two = vmovl_s8(vreinterpret_s8_u8(vld1_u8(at + (of.first + r) * 4)));
        ret[r] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(two)));
        ret[r + 1] = vcvtq_f32_s32(vmovl_high_s16(two));
    }
}

/* ---- what becomes of a block's integer sums, (token, row) for n tokens from t0 on ---- */

/* sum = factor * the sum of q in block `at` */
INLINE void sums_at(const struct act_q8 *act, size_t t0, const struct tile of, size_t at,
                    int32_t factor, int32x4_t sum[][QUADS])
{
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        const int32x4_t s = vdupq_n_s32(factor * act->s[(t0 + t) * act->d_stride + at]);
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            sum[t][r] = s;
        }
    }
}

/* part = fma(d, sum, part) */
INLINE void add_blocks(const struct act_q8 *act, size_t t0, const struct tile of, size_t at,
                       int32x4_t sum[][QUADS], float32x4_t part[][QUADS])
{
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        const float d = act->d[(t0 + t) * act->d_stride + at];
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            part[t][r] = add_block(d, sum[t][r], part[t][r]);
        }
    }
}

/* Results that wait in `out` between groups leave the registers to what a group needs. */
INLINE void clear_rows(size_t t0, const struct tile of, float *out, size_t out_stride)
{
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            vst1q_f32(out + (t0 + t) * out_stride + (of.first + r) * 4, vdupq_n_f32(0));
        }
    }
}

/* acc = fma(scale, part, acc), where acc is in out */
INLINE void add_parts(const uint8_t *scale, size_t t0, const struct tile of,
                      float32x4_t part[][QUADS], float *out, size_t out_stride)
{
    UNROLL for (int r = 0; r < of.quads; r++)
    {
        const float32x4_t with = scales(scale, of.first + r);
        UNROLL for (size_t t = 0; t < of.n; t++)
        {
            float *acc = out + (t0 + t) * out_stride + (of.first + r) * 4;
            vst1q_f32(acc, vfmaq_f32(vld1q_f32(acc), with, part[t][r]));
        }
    }
}

/* A block that is a whole group: its part is a single product, rounded, then scaled into acc. */
INLINE void add_groups(const struct act_q8 *act, size_t t0, const struct tile of, size_t at,
                       const uint8_t *scale, int32x4_t sum[][QUADS], float32x4_t acc[][QUADS])
{
    UNROLL for (int r = 0; r < of.quads; r++)
    {
        const float32x4_t with = scales(scale, of.first + r);
        UNROLL for (size_t t = 0; t < of.n; t++)
        {
            const float d = act->d[(t0 + t) * act->d_stride + at];
            const float32x4_t part = add_block(d, sum[t][r], vdupq_n_f32(0));
            acc[t][r] = vfmaq_f32(acc[t][r], with, part);
        }
    }
}

/* Block j of a group of K4 or K5, which is block `at` of the activations. A product of a scale and
 * a sum is taken in float, where it is rounded once, like the integer that the contract converts:
 * the factors are exact there, and a zero's sign is lost in part and less, which begin at +0. */
INLINE void k45_block(const uint8_t *group, size_t j, const struct act_q8 *act, size_t t0,
                      const struct tile of, size_t at, int32x4_t sum[][QUADS],
                      float32x4_t part[][QUADS], float32x4_t less[][QUADS])
{
    float32x4_t sc[QUADS], mn[QUADS];

    widen_u8(group + K45_SC + j * 16, of, sc);
    widen_u8(group + K45_MN + j * 16, of, mn);
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        const float d = act->d[(t0 + t) * act->d_stride + at];
        const float s = (float)act->s[(t0 + t) * act->d_stride + at];
        UNROLL for (int r = 0; r < of.quads; r++)
        {
            const float32x4_t scaled = vmulq_f32(sc[r], vcvtq_f32_s32(sum[t][r]));
            part[t][r] = vfmaq_n_f32(part[t][r], scaled, d);
            less[t][r] = vfmaq_n_f32(less[t][r], vmulq_n_f32(mn[r], s), d);
        }
    }
}

INLINE void k45_group(const uint8_t *group, size_t t0, const struct tile of,
                      float32x4_t part[][QUADS], float32x4_t less[][QUADS], float *out,
                      size_t out_stride)
{
    UNROLL for (int r = 0; r < of.quads; r++)
    {
        const float32x4_t d = scales(group, of.first + r);
        const float32x4_t dmin = scales(group + 32, of.first + r);
        UNROLL for (size_t t = 0; t < of.n; t++)
        {
            float *acc = out + (t0 + t) * out_stride + (of.first + r) * 4;
            const float32x4_t with = vfmaq_f32(vld1q_f32(acc), d, part[t][r]);
            vst1q_f32(acc, vfmsq_f32(with, dmin, less[t][r]));
        }
    }
}

/* ---- codes out of packed bytes, a register of 4 rows x 4 columns each ---- */

INLINE int8x16_t two_bits(uint8x16_t w, int plane)
{
    const uint8x16_t mask = vdupq_n_u8(3);

    switch (plane) { /* constant after inlining, as a shift's width must be */
    case 0:
        return vreinterpretq_s8_u8(vandq_u8(w, mask));
    case 1:
        return vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(w, 2), mask));
    case 2:
        return vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(w, 4), mask));
    default:
        return vreinterpretq_s8_u8(vshrq_n_u8(w, 6));
    }
}

/* K6's weights are code - 32: for several tokens taken off the codes, for one off the sum. */
#define K6_LESS(of) ((of).n > 1 ? 32 : 0)

/* Row quad r's codes in one tile of 8 columns, of which `tile` is at the pass's first row quad:
 * columns 0..3, then columns 4..7, of six bits less K6_LESS. `more` has what lies above the fourth
 * bit: in K5 the next two bits of each byte, lowest first, in K6 the next two pairs, and is shifted
 * on to the following tile. */
INLINE void tile_codes(const uint8_t *tile, const struct tile of, int r, const int bits,
                       uint8x16_t more[QUADS], int8x16_t ret[2])
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
        const uint8x16_t a = vandq_u8(vsliq_n_u8(w, more[r], 4), mask);
        const uint8x16_t b = vandq_u8(vsliq_n_u8(right, next, 4), mask);
        const int8x16_t less = vdupq_n_s8(K6_LESS(of));
        ret[0] = vsubq_s8(vreinterpretq_s8_u8(a), less);
        ret[1] = vsubq_s8(vreinterpretq_s8_u8(b), less);
        more[r] = vshrq_n_u8(next, 2);
    } else {
        ret[0] = vreinterpretq_s8_u8(vandq_u8(w, vdupq_n_u8(15)));
        ret[1] = vreinterpretq_s8_u8(right);
    }
}

INLINE void load_quads(const uint8_t *at, const struct tile of, uint8x16_t ret[QUADS])
{
    UNROLL for (int r = 0; r < of.quads; r++)
    {
        ret[r] = vld1q_u8(at + (of.first + r) * 16);
    }
}

/* In a PANEL_FN's body: `step` tokens at a time while there are so many, for each `n_quads` row
 * quads. Each such tile is compiled for itself. sums: the level's function for the kind
 * (arm_panels.h). */
#define TILES(step, n_quads, tokens, sums)                                                         \
    for (; t + (step) <= act->n_tokens; t += (step)) {                                             \
        for (int first = 0; first < QUADS; first += (n_quads)) {                                   \
            const struct tile of = {step, first, n_quads};                                         \
            tokens(panel, n_cols, act, t, of, out, out_stride, sums);                              \
        }                                                                                          \
    }

#define PANEL(name, group, tokens, many, quads, sums)                                              \
    PANEL_FN(name, group, TILES(many, quads, tokens, sums) TILES(1, QUADS, tokens, sums))

#endif
