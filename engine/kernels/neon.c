/* NEON of any aarch64: masks and widening pair sums, since there is no dot product yet.
 *
 * B1: a table lookup spreads the bits of four rows over 16 bytes, cmtst turns them into masks, AND
 * keeps the +1 activations, and sadalp adds neighbouring pairs into int16 (8 tiles of a block stay
 * within 8 * 256); the sum over +1 and -1 weights is 2 * sum(kept) - sum(all), so that no int8 is
 * negated. T2 multiplies the codes 0..3 into int16 (64 tiles of a block stay within 64 * 384). I8
 * multiplies into int16 and adds pairs into int32 at once, since two products of -128 * -128 do not
 * fit int16. */
#include "engine/kernels/neon_common.h"

INLINE int8x16_t broadcast4(const int8_t *q)
{
    int32_t four;
    memcpy(&four, q, sizeof(four));
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/* One block of B1, 32 columns: the kept activations' sums as int16, two per row. */
INLINE void b1_block(const uint8_t *tile, const int8_t *q, size_t q_stride, const size_t n,
                     int16x8_t kept[][QUADS])
{
    const uint8x16_t bits = bit_of_byte();

    for (size_t pair = 0; pair < 4; pair++) {
        const uint8x16_t two = vld1q_u8(tile + pair * 16);
        UNROLL for (int j = 0; j < 2; j++)
        {
            int8x16_t x[4];
            UNROLL for (size_t t = 0; t < n; t++)
            {
                x[t] = broadcast4(q + t * q_stride + pair * 8 + (size_t)j * 4);
            }
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const uint8x16_t spread = vqtbl1q_u8(two, bytes_of_quad(j, r));
                const int8x16_t mask = vreinterpretq_s8_u8(vtstq_u8(spread, bits));
                UNROLL for (size_t t = 0; t < n; t++)
                {
                    kept[t][r] = vpadalq_s8(kept[t][r], vandq_s8(mask, x[t]));
                }
            }
        }
    }
}

INLINE void b1_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[4][QUADS], part[4][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / B1_GROUP; g++) {
        const uint8_t *group = panel + g * B1_GROUP_BYTES;
        memset(part, 0, sizeof(part));
        for (size_t b = 0; b < 4; b++) {
            const int8_t *q = act->q + t0 * act->q_stride + g * B1_GROUP + b * ACT_BLOCK;
            int16x8_t kept[4][QUADS];

            __builtin_prefetch(group + 32 + b * 64 + AHEAD);
            memset(kept, 0, sizeof(kept));
            b1_block(group + 32 + b * 64, q, act->q_stride, n, kept);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const size_t at = (t0 + t) * act->d_stride + g * 4 + b;
                UNROLL for (int r = 0; r < QUADS; r++)
                {
                    const int32x4_t k = vshlq_n_s32(vpaddlq_s16(kept[t][r]), 1);
                    const int32x4_t s = vsubq_s32(k, vdupq_n_s32(act->s[at]));
                    part[t][r] = add_block(act->d[at], s, part[t][r]);
                }
            }
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                acc[t][r] = vfmaq_f32(acc[t][r], scales(group, r), part[t][r]);
            }
        }
    }
    for (size_t t = 0; t < n; t++) {
        for (int r = 0; r < QUADS; r++) {
            vst1q_f32(out + (t0 + t) * out_stride + r * 4, acc[t][r]);
        }
    }
}

INLINE void i8_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    float32x4_t acc[2][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / I8_GROUP; g++) {
        const uint8_t *group = panel + g * I8_GROUP_BYTES;
        const int8_t *tile = (const int8_t *)group + 32;
        const int8_t *q = act->q + t0 * act->q_stride + g * I8_GROUP;
        int32x4_t low[2][QUADS], high[2][QUADS]; /* rows 0, 1 and rows 2, 3 of a quad */

        memset(low, 0, sizeof(low));
        memset(high, 0, sizeof(high));
        for (size_t c = 0; c < 8; c++) {
            __builtin_prefetch(tile + c * 64 + AHEAD);
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const int8x16_t w = vld1q_s8(tile + c * 64 + r * 16);
                UNROLL for (size_t t = 0; t < n; t++)
                {
                    const int8x16_t x = broadcast4(q + t * act->q_stride + c * 4);
                    low[t][r] = vpadalq_s16(low[t][r], vmull_s8(vget_low_s8(w), vget_low_s8(x)));
                    high[t][r] = vpadalq_s16(high[t][r], vmull_high_s8(w, x));
                }
            }
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const float d = act->d[(t0 + t) * act->d_stride + g];
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const int32x4_t s = vpaddq_s32(low[t][r], high[t][r]);
                const float32x4_t part = add_block(d, s, vdupq_n_f32(0));
                acc[t][r] = vfmaq_f32(acc[t][r], scales(group, r), part);
            }
        }
    }
    for (size_t t = 0; t < n; t++) {
        for (int r = 0; r < QUADS; r++) {
            vst1q_f32(out + (t0 + t) * out_stride + r * 4, acc[t][r]);
        }
    }
}

INLINE void t2_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    const int8x16_t threes = vdupq_n_s8(3);
    float32x4_t acc[2][QUADS];

    memset(acc, 0, sizeof(acc));
    for (size_t g = 0; g < n_cols / T256_GROUP; g++) {
        const uint8_t *group = panel + g * T256_GROUP_BYTES;
        const int8_t *q = act->q + t0 * act->q_stride + g * T256_GROUP;
        int16x8_t low[2][QUADS], high[2][QUADS]; /* rows 0, 1 and rows 2, 3 of a quad */

        memset(low, 0, sizeof(low));
        memset(high, 0, sizeof(high));
        for (size_t c = 0; c < 64; c++) { /* tiles of 4 columns */
            const int8x16_t shift = vdupq_n_s8((int8_t) - (c % 4 * 2));
            const uint8_t *line = group + 32 + c / 4 * 64;
            __builtin_prefetch(line + AHEAD);
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const uint8x16_t shifted = vshlq_u8(vld1q_u8(line + r * 16), shift);
                const int8x16_t w = vandq_s8(vreinterpretq_s8_u8(shifted), threes);
                UNROLL for (size_t t = 0; t < n; t++)
                {
                    const int8x16_t x = broadcast4(q + t * act->q_stride + c * 4);
                    low[t][r] = vmlal_s8(low[t][r], vget_low_s8(w), vget_low_s8(x));
                    high[t][r] = vmlal_high_s8(high[t][r], w, x);
                }
            }
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            const size_t at = (t0 + t) * act->d_stride + g;
            const int32x4_t all = vdupq_n_s32(act->s[at]); /* weight = code - 1 */
            UNROLL for (int r = 0; r < QUADS; r++)
            {
                const int32x4_t codes = vpaddq_s32(vpaddlq_s16(low[t][r]), vpaddlq_s16(high[t][r]));
                const float32x4_t part =
                    add_block(act->d[at], vsubq_s32(codes, all), vdupq_n_f32(0));
                acc[t][r] = vfmaq_f32(acc[t][r], scales(group, r), part);
            }
        }
    }
    for (size_t t = 0; t < n; t++) {
        for (int r = 0; r < QUADS; r++) {
            vst1q_f32(out + (t0 + t) * out_stride + r * 4, acc[t][r]);
        }
    }
}

PANEL(panel_b1_neon, B1_GROUP, b1_tokens, 4)
PANEL(panel_i8_neon, I8_GROUP, i8_tokens, 2)
PANEL(panel_t256_neon, T256_GROUP, t2_tokens, 2)

/* The largest magnitude's bits: magnitudes order like their bits, NaN above infinity. */
INLINE uint32_t top_bits(const float *x, size_t n)
{
    uint32x4_t top = vdupq_n_u32(0);

    for (size_t i = 0; i < n; i += 4) {
        const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + i));
        top = vmaxq_u32(top, vbicq_u32(bits, vdupq_n_u32(0x80000000)));
    }
    return vmaxvq_u32(top);
}

INLINE int16x4_t quant4(const float *x, float inverse)
{
    return vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), inverse)));
}

void quant_neon(const float *x, size_t n, size_t block, int8_t *q, float *d, int32_t *s)
{
    if (block != ACT_BLOCK && block != ACT_BLOCK_T256) {
        quant_scalar(x, n, block, q, d, s);
        return;
    }
    assert(n % block == 0);

    for (size_t b = 0; b < n / block; b++) {
        const uint32_t top = top_bits(x + b * block, block);
        float amax;
        memcpy(&amax, &top, sizeof(amax));
        s[b] = 0;
        if (top >= 0x7f800000 || amax < 0x1p-100f) {
            const uint32_t bits = top >= 0x7f800000 ? 0x7fc00000 : 0;
            memcpy(&d[b], &bits, sizeof(bits));
            memset(q + b * block, 0, block);
            continue;
        }
        const float inverse = 127.0f / amax;
        for (size_t i = b * block; i < (b + 1) * block; i += 8) {
            const int16x8_t wide = vcombine_s16(quant4(x + i, inverse), quant4(x + i + 4, inverse));
            const int8x8_t bytes = vmax_s8(vqmovn_s16(wide), vdup_n_s8(-127));
            vst1_s8(q + i, bytes);
            s[b] += vaddlv_s8(bytes);
        }
        d[b] = amax / 127.0f;
    }
}

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

#define AXPY(name, type, load4, widen)                                                             \
    void name(float a, const type *x, float *y, size_t n)                                          \
    {                                                                                              \
        size_t i = 0;                                                                              \
                                                                                                   \
        for (; i < n - n % 4; i += 4) {                                                            \
            vst1q_f32(y + i, vfmaq_n_f32(vld1q_f32(y + i), load4(x + i), a));                      \
        }                                                                                          \
        for (; i < n; i++) {                                                                       \
            y[i] = __builtin_fmaf(a, widen(x[i]), y[i]);                                           \
        }                                                                                          \
    }

AXPY(axpy_f32_neon, float, load_f32, same)
AXPY(axpy_f16_neon, uint16_t, load_f16, f16_to_f32)

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
