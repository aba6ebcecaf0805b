/* NEON's registers for wide products (wide.h says what each of these does): 8 tokens in one. */
#ifndef ENGINE_KERNELS_NEON_LANES_H
#define ENGINE_KERNELS_NEON_LANES_H

#include <arm_neon.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/kernels/levels.h"

#define INLINE static inline __attribute__((always_inline))
#define LANES 8
#define TOKEN_OF(lane) (lane)

typedef int16x8_t ivec;
typedef float32x4_t fvec;

INLINE ivec iv_load(const void *p)
{
    return vld1q_s16(p);
}

INLINE void iv_store(void *p, ivec x)
{
    vst1q_s16(p, x);
}

INLINE ivec iv_all(int16_t x)
{
    return vdupq_n_s16(x);
}

/* Additions stay in the order written: gcc 12 would finish one register of sums after the other,
 * each addition waiting for the one before, which cores that go in order cannot hide. */
INLINE ivec iv_add(ivec a, ivec b)
{
    ivec sum = vaddq_s16(a, b);
    __asm__("" : "+w"(sum));
    return sum;
}

INLINE ivec iv_sub(ivec a, ivec b)
{
    return vsubq_s16(a, b);
}

INLINE fvec fv_load(const float *p)
{
    return vld1q_f32(p);
}

INLINE void fv_store(float *p, fvec x)
{
    vst1q_f32(p, x);
}

INLINE fvec fv_all(float x)
{
    return vdupq_n_f32(x);
}

INLINE fvec fv_add(fvec a, fvec b)
{
    return vaddq_f32(a, b);
}

INLINE fvec fv_mul(fvec a, fvec b)
{
    return vmulq_f32(a, b);
}

INLINE fvec fv_div(fvec a, fvec b)
{
    return vdivq_f32(a, b);
}

INLINE fvec fv_fma(fvec a, fvec b, fvec c)
{
    return vfmaq_f32(c, a, b);
}

/* A widening addition puts the sum under the upper half: either pipe does it, and at once. */
INLINE void iv_floats(ivec sum, fvec ret[2])
{
    const uint32x4_t two23 = vdupq_n_u32(0x4b000000);
    const fvec less = vdupq_n_f32(0x1p23f + 32768.0f);
    const uint16x8_t up = vreinterpretq_u16_s16(sum);

    ret[0] = vsubq_f32(vreinterpretq_f32_u32(vaddw_u16(two23, vget_low_u16(up))), less);
    ret[1] = vsubq_f32(vreinterpretq_f32_u32(vaddw_high_u16(two23, up)), less);
}

/* Pairs of rows woven together three times: each time a column's bytes are twice as close. */
INLINE void iv_columns(const int8_t *const q[LANES], size_t at, ivec ret[8])
{
    int8x16_t x[8], y[4];

    UNROLL for (int i = 0; i < 8; i++)
    {
        x[i] = vcombine_s8(vld1_s8(q[i] + at), vdup_n_s8(0));
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        y[i] = vzip1q_s8(x[i], x[i + 4]); /* columns 0..7 of lanes i, i + 4 */
    }
    UNROLL for (int i = 0; i < 2; i++)
    {
        x[i] = vzip1q_s8(y[i], y[i + 2]); /* 0..3 of every other lane from i on */
        x[i + 2] = vzip2q_s8(y[i], y[i + 2]);
    }
    UNROLL for (int i = 0; i < 2; i++)
    {
        const int8x16_t a = vzip1q_s8(x[2 * i], x[2 * i + 1]);
        const int8x16_t b = vzip2q_s8(x[2 * i], x[2 * i + 1]);
        ret[4 * i] = vmovl_s8(vget_low_s8(a));
        ret[4 * i + 1] = vmovl_high_s8(a);
        ret[4 * i + 2] = vmovl_s8(vget_low_s8(b));
        ret[4 * i + 3] = vmovl_high_s8(b);
    }
}

INLINE bool q_has_lowest(const int8_t *q, size_t n)
{
    const int8x16_t lowest = vdupq_n_s8(INT8_MIN);
    uint8x16_t seen = vdupq_n_u8(0);

    for (size_t i = 0; i < n; i += 16) {
        seen = vorrq_u8(seen, vceqq_s8(vld1q_s8(q + i), lowest));
    }
    return vmaxvq_u8(seen) != 0;
}

INLINE void scales_of_rows(const uint8_t *group, float *ret)
{
    UNROLL for (int i = 0; i < PANEL_ROWS; i += 4)
    {
        vst1q_f32(ret + i, vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(group + 2 * i))));
    }
}

/* Byte i of a row stands at [i][row]. */
INLINE void line_words(const uint8_t *line, uint32x4_t ret[4])
{
    const uint8x16_t a = vld1q_u8(line), b = vld1q_u8(line + 16);
    const uint8x16_t c = vld1q_u8(line + 32), d = vld1q_u8(line + 48);
    const uint8x16_t ab[2] = {vzip1q_u8(a, b), vzip2q_u8(a, b)};
    const uint8x16_t cd[2] = {vzip1q_u8(c, d), vzip2q_u8(c, d)};

    UNROLL for (int i = 0; i < 2; i++)
    {
        const uint16x8_t low = vreinterpretq_u16_u8(ab[i]), high = vreinterpretq_u16_u8(cd[i]);
        ret[2 * i] = vreinterpretq_u32_u16(vzip1q_u16(low, high));
        ret[2 * i + 1] = vreinterpretq_u32_u16(vzip2q_u16(low, high));
    }
}

INLINE void tile_words(const uint8_t *lines, uint64_t ret[PANEL_ROWS])
{
    uint32x4_t a[4], b[4];

    line_words(lines, a);
    line_words(lines + B1_LINE_BYTES, b);
    UNROLL for (int i = 0; i < 4; i++)
    {
        vst1q_u64(ret + 4 * i, vreinterpretq_u64_u32(vzip1q_u32(a[i], b[i])));
        vst1q_u64(ret + 4 * i + 2, vreinterpretq_u64_u32(vzip2q_u32(a[i], b[i])));
    }
}

/* The codes of a byte, a + 4b + 16c + 64d, as a + 3b + 9c + 27d; with a 3 among them 128 at least:
 * either half of it is 128 then, and the sum of both stops at 255. */
INLINE uint8x16_t digits_of(uint8x16_t codes)
{
    static const uint8_t low[16] = {0, 1, 2, 128, 3, 4, 5, 128, 6, 7, 8, 128, 128, 128, 128, 128};
    static const uint8_t high[16] = {0,  9,  18, 128, 27,  36,  45,  128,
                                     54, 63, 72, 128, 128, 128, 128, 128};
    const uint8x16_t a = vqtbl1q_u8(vld1q_u8(low), vandq_u8(codes, vdupq_n_u8(15)));
    const uint8x16_t b = vqtbl1q_u8(vld1q_u8(high), vshrq_n_u8(codes, 4));

    return vqaddq_u8(a, b);
}

/* Rows 4i.. of both lines: a row's four bytes of each, side by side. */
INLINE unsigned line_digits(const uint8_t *lines, uint8_t (*ret)[8])
{
    uint8x16_t seen = vdupq_n_u8(0);

    UNROLL for (int i = 0; i < 4; i++)
    {
        const uint8x16_t a = digits_of(vld1q_u8(lines + 16 * i));
        const uint8x16_t b = digits_of(vld1q_u8(lines + T_LINE_BYTES + 16 * i));
        const uint32x4_t x = vreinterpretq_u32_u8(a), y = vreinterpretq_u32_u8(b);
        seen = vorrq_u8(seen, vorrq_u8(a, b));
        vst1q_u8(ret[4 * i], vreinterpretq_u8_u32(vzip1q_u32(x, y)));
        vst1q_u8(ret[4 * i + 2], vreinterpretq_u8_u32(vzip2q_u32(x, y)));
    }
    return vmaxvq_u8(seen) >> 7;
}

/* Four rows of four tokens, to n tokens of four rows. */
INLINE void turn(const float *from, size_t from_stride, float *to, size_t to_stride, size_t n)
{
    float32x4_t x[4];

    UNROLL for (size_t i = 0; i < 4; i++)
    {
        x[i] = vld1q_f32(from + i * from_stride);
    }
    const float32x4_t a = vzip1q_f32(x[0], x[2]), b = vzip2q_f32(x[0], x[2]);
    const float32x4_t c = vzip1q_f32(x[1], x[3]), d = vzip2q_f32(x[1], x[3]);
    const float32x4_t y[4] = {vzip1q_f32(a, c), vzip2q_f32(a, c), vzip1q_f32(b, d),
                              vzip2q_f32(b, d)};
    for (size_t i = 0; i < n; i++) {
        vst1q_f32(to + i * to_stride, y[i]);
    }
}

#endif
