/* NEON for plain vectors: quantization of activations, dot products, sums and conversions. Lengths
 * that fill no register end element by element, or in a copy filled up with zeros where zeros
 * change nothing. */
#include "engine/kernels/neon_common.h"
#include "engine/kernels/quant.h"

INLINE uint32_t top_bits(const float *x, size_t n)
{
    const uint32x4_t sign = vdupq_n_u32(0x80000000);
    uint32x4_t top[4] = {vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0)};
    size_t i = 0;

    for (; i < n - n % 16; i += 16) {
        UNROLL for (size_t j = 0; j < 4; j++)
        {
            const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + i + j * 4));
            top[j] = vmaxq_u32(top[j], vbicq_u32(bits, sign));
        }
    }
    const uint32x4_t most = vmaxq_u32(vmaxq_u32(top[0], top[1]), vmaxq_u32(top[2], top[3]));
    return top_of_rest(x + i, n - i, vmaxvq_u32(most));
}

INLINE int16x4_t quant4(const float *x, float inverse)
{
    return vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), inverse)));
}

INLINE int8x8_t quant8(const float *x, float inverse)
{
    const int16x8_t wide = vcombine_s16(quant4(x, inverse), quant4(x + 4, inverse));
    return vmax_s8(vqmovn_s16(wide), vdup_n_s8(-127));
}

INLINE int32_t quant_block(const float *x, size_t n, float inverse, int8_t *q)
{
    int32x4_t sum = vdupq_n_s32(0);
    size_t i = 0;

    for (; i < n - n % 8; i += 8) {
        const int8x8_t bytes = quant8(x + i, inverse);
        vst1_s8(q + i, bytes);
        sum = vpadalq_s16(sum, vmovl_s8(bytes));
    }
    if (i < n) {
        float rest[8] = {0};
        int8_t ends[8];
        memcpy(rest, x + i, (n - i) * sizeof(*x));
        const int8x8_t bytes = quant8(rest, inverse);
        vst1_s8(ends, bytes);
        memcpy(q + i, ends, n - i);
        sum = vpadalq_s16(sum, vmovl_s8(bytes));
    }
    return vaddvq_s32(sum);
}

QUANT(quant_neon, quant_token_neon, top_bits, quant_block)

INLINE float tree(const float32x4_t p[4])
{
    const float32x4_t p4 = vaddq_f32(vaddq_f32(p[0], p[2]), vaddq_f32(p[1], p[3]));
    const float32x2_t p2 = vadd_f32(vget_low_f32(p4), vget_high_f32(p4));

    return vget_lane_f32(p2, 0) + vget_lane_f32(p2, 1);
}

INLINE float32x4_t load_f32(const float *p)
{
    return vld1q_f32(p);
}

INLINE float32x4_t load_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

INLINE float32x4_t load_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

INLINE float same(float x)
{
    return x;
}

/* The last n % 16 elements go one by one: a zero added in their place could turn -0 into 0. */
#define DOT(name, type, load4, widen)                                                              \
    float name(const type *w, const float *x, size_t n)                                            \
    {                                                                                              \
        float32x4_t p[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};       \
        size_t i = 0;                                                                              \
                                                                                                   \
        for (; i < n - n % 16; i += 16) {                                                          \
            UNROLL for (size_t j = 0; j < 4; j++)                                                  \
            {                                                                                      \
                p[j] = vfmaq_f32(p[j], load4(w + i + j * 4), vld1q_f32(x + i + j * 4));            \
            }                                                                                      \
        }                                                                                          \
        if (i < n) {                                                                               \
            float each[16];                                                                        \
            memcpy(each, p, sizeof(each));                                                         \
            for (; i < n; i++) {                                                                   \
                each[i % 16] = __builtin_fmaf(widen(w[i]), x[i], each[i % 16]);                    \
            }                                                                                      \
            memcpy(p, each, sizeof(each));                                                         \
        }                                                                                          \
        return tree(p);                                                                            \
    }

DOT(dot_f32_neon, float, load_f32, same)
DOT(dot_f16_neon, uint16_t, load_f16, f16_to_f32)
DOT(dot_bf16_neon, uint16_t, load_bf16, bf16_to_f32)

void f32_to_f16_neon(const float *x, uint16_t *ret, size_t n)
{
    size_t i = 0;

    for (; i < n - n % 4; i += 4) {
        vst1_u16(ret + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
    }
    for (; i < n; i++) {
        ret[i] = f16_from_f32(x[i]);
    }
}
