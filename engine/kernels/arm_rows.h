/* Attention on ARM: what the levels share. A level gives its way of multiplying int8. */
#ifndef ENGINE_KERNELS_ARM_ROWS_H
#define ENGINE_KERNELS_ARM_ROWS_H

#include "engine/kernels/neon_common.h"

#define VEC float32x4_t
#define VEC_LANES 4
#define vec_load vld1q_f32
#define vec_store vst1q_f32
#define vec_all vdupq_n_f32
#define vec_fma(a, b, c) vfmaq_f32(c, a, b)
#include "engine/kernels/attention_rows.h"

INLINE void store_some(float *ret, float32x4_t x, size_t n)
{
    float each[4];

    if (n >= 4) {
        vst1q_f32(ret, x);
    } else {
        vst1q_f32(each, x);
        memcpy(ret, each, n * sizeof(*ret));
    }
}

/* sum + the sixteen products of a and b, in any lanes */
typedef int32x4_t add_products_fn(int32x4_t sum, int8x16_t a, int8x16_t b);

/* One row's product with a query, in four sums. */
INLINE int32x4_t dot_bytes(const int8_t *k, const int8_t *q, size_t n,
                           add_products_fn *add_products)
{
    int32x4_t even = vdupq_n_s32(0), odd = even;
    int32_t rest = 0;
    size_t i = 0;

    for (; i < n - n % 32; i += 32) {
        even = add_products(even, vld1q_s8(k + i), vld1q_s8(q + i));
        odd = add_products(odd, vld1q_s8(k + i + 16), vld1q_s8(q + i + 16));
    }
    if (i + 16 <= n) {
        even = add_products(even, vld1q_s8(k + i), vld1q_s8(q + i));
        i += 16;
    }
    for (; i < n; i++) {
        rest += k[i] * q[i];
    }
    return vaddq_s32(vaddq_s32(even, odd), vsetq_lane_s32(rest, vdupq_n_s32(0), 0));
}

/* Four rows at a time: their sums are added up by pairs. */
INLINE void scores_bytes(const struct kv_rows *keys, const struct queries *q,
                         add_products_fn *add_products, float *const *ret)
{
    const int8_t *rows = keys->rows;
    const size_t n_cols = keys->n_cols;

    assert(keys->n >= 1 && keys->n <= KERN_ROWS && q->n >= 1 && q->n <= KERN_QUERIES);

    for (size_t first = 0; first < keys->n; first += 4) {
        const size_t left = keys->n - first, n = left < 4 ? left : 4;
        float each[4] = {0};
        ask_for(ahead_of(keys) + first * n_cols, n * n_cols);
        memcpy(each, keys->d + first, n * sizeof(*each));
        const float32x4_t d = vld1q_f32(each);
        for (size_t t = 0; t < q->n; t++) {
            int32x4_t p[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
            for (size_t i = 0; i < n; i++) {
                p[i] = dot_bytes(rows + (first + i) * n_cols, q->q[t], n_cols, add_products);
            }
            const int32x4_t dots = vpaddq_s32(vpaddq_s32(p[0], p[1]), vpaddq_s32(p[2], p[3]));
            const float32x4_t scores = vmulq_n_f32(vmulq_f32(vcvtq_f32_s32(dots), d), q->scale[t]);
            store_some(ret[t] + first, scores, n);
        }
    }
}

#define SCORES_I8(name, add_products)                                                              \
    void name(const struct kv_rows *keys, const struct queries *q, float *const *ret)              \
    {                                                                                              \
        scores_bytes(keys, q, add_products, ret);                                                  \
    }

#endif
