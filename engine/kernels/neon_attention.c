/* NEON for attention: up to four queries share one reading of keys and values, as in
 * avx2_attention.c.
 *
 * Scores of floats keep dot_f32's sixteen partial sums in four registers; the last two halvings are
 * pair sums of four rows at once. Values keep 16 registers of sums over all rows: 64 columns for
 * one query, 16 for each of four. Scores of int8 stand in arm_rows.h, since dotprod has its own
 * products. */
#include "engine/kernels/arm_rows.h"

INLINE float32x4_t load4_f32(const void *rows, size_t at)
{
    return vld1q_f32((const float *)rows + at);
}

INLINE float32x4_t load4_f16(const void *rows, size_t at)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)rows + at)));
}

INLINE float32x4_t load4_i8(const void *rows, size_t at)
{
    uint32_t four;
    memcpy(&four, (const int8_t *)rows + at, sizeof(four));
    const int8x8_t bytes = vreinterpret_s8_u32(vdup_n_u32(four));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
}

/* ---- scores ---- */

/* p[t][at]: what is left of one row's sixteen sums for query t after two halvings */
INLINE void dot_floats(const struct kv_rows *keys, size_t row, const struct queries *q,
                       const size_t n_q, load_vec_fn *load4, load1_fn *load1, float32x4_t (*ret)[4],
                       size_t at)
{
    const size_t n = keys->n_cols, begin = row * n;
    float32x4_t p[KERN_QUERIES][4];
    size_t i = 0;

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        p[t][0] = p[t][1] = p[t][2] = p[t][3] = vdupq_n_f32(0);
    }
    for (; i < n - n % 16; i += 16) {
        UNROLL for (size_t j = 0; j < 4; j++)
        {
            const float32x4_t k = load4(keys->rows, begin + i + j * 4);
            UNROLL for (size_t t = 0; t < n_q; t++)
            {
                p[t][j] = vfmaq_f32(p[t][j], k, vld1q_f32((const float *)q->q[t] + i + j * 4));
            }
        }
    }
    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        if (i < n) { /* one by one: a zero added in their place could turn -0 into 0 */
            const float *x = q->q[t];
            float each[16];
            memcpy(each, p[t], sizeof(each));
            for (size_t j = i; j < n; j++) {
                each[j - i] = __builtin_fmaf(load1(keys->rows, begin + j), x[j], each[j - i]);
            }
            memcpy(p[t], each, sizeof(each));
        }
        ret[t][at] = vaddq_f32(vaddq_f32(p[t][0], p[t][2]), vaddq_f32(p[t][1], p[t][3]));
    }
}

/* p[j] += p[j + 2], then p[0] + p[1], of four rows */
INLINE float32x4_t trees(const float32x4_t p[4])
{
    const float32x4_t a = vaddq_f32(vcombine_f32(vget_low_f32(p[0]), vget_low_f32(p[1])),
                                    vcombine_f32(vget_high_f32(p[0]), vget_high_f32(p[1])));
    const float32x4_t b = vaddq_f32(vcombine_f32(vget_low_f32(p[2]), vget_low_f32(p[3])),
                                    vcombine_f32(vget_high_f32(p[2]), vget_high_f32(p[3])));
    return vpaddq_f32(a, b);
}

INLINE void scores_floats(const struct kv_rows *keys, const struct queries *q, const size_t n_q,
                          load_vec_fn *load4, load1_fn *load1, size_t row_bytes, float *const *ret)
{
    float32x4_t p[KERN_QUERIES][4];

    memset(p, 0, sizeof(p));
    for (size_t first = 0; first < keys->n; first += 4) {
        const size_t left = keys->n - first, n = left < 4 ? left : 4;
        for (size_t i = 0; i < n; i++) {
            ask_for(ahead_of(keys) + (first + i) * row_bytes, row_bytes);
            dot_floats(keys, first + i, q, n_q, load4, load1, p, i);
        }
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            store_some(ret[t] + first, vmulq_n_f32(trees(p[t]), q->scale[t]), n);
        }
    }
}

#define CALL(n) scores_floats(keys, q, n, load4_f32, load1_f32, keys->n_cols * 4, ret)
SCORES(scores_f32_neon, CALL)
#undef CALL
#define CALL(n) scores_floats(keys, q, n, load4_f16, load1_f16, keys->n_cols * 2, ret)
SCORES(scores_f16_neon, CALL)
#undef CALL

/* Two products of -128 * -128 do not fit int16: they are added in int32. */
INLINE int32x4_t add_products(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    const int32x4_t low = vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b)));

    return vpadalq_s16(low, vmull_high_s8(a, b));
}

SCORES_I8(scores_i8_neon, add_products)

/* ---- values ---- */

#define MIXED(n, ...)                                                                              \
    mix_rows(&(struct mixing){.values = values, .weight = weight, .out = out, .sum = sum}, n,      \
             (n) == 1   ? 16                                                                       \
             : (n) == 2 ? 8                                                                        \
                        : 4,                                                                       \
             __VA_ARGS__)

#define CALL(n) MIXED(n, load4_f32, load1_f32, 4, false)
MIX(mix_f32_neon, CALL)
#undef CALL
#define CALL(n) MIXED(n, load4_f16, load1_f16, 2, false)
MIX(mix_f16_neon, CALL)
#undef CALL
#define CALL(n) MIXED(n, load4_i8, load1_i8, 1, true)
MIX(mix_i8_neon, CALL)
#undef CALL
