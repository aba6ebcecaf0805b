/* NEON for attention: up to four queries share one reading of keys and values, as in
 * avx2_attention.c.
 *
 * Scores of floats keep dot_f32's sixteen partial sums in four registers; the last two halvings are
 * pair sums of four rows at once. Values keep 16 registers of sums over all rows: 64 columns for
 * one query, 16 for each of four. Scores of int8 stand in arm_rows.h, since dotprod has its own
 * products. */
#include "engine/kernels/arm_rows.h"

typedef float32x4_t load4_fn(const void *rows, size_t at); /* four columns from `at` on */

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

typedef float load1_fn(const void *rows, size_t at);

INLINE float load1_f32(const void *rows, size_t at)
{
    return ((const float *)rows)[at];
}

INLINE float load1_f16(const void *rows, size_t at)
{
    return f16_to_f32(((const uint16_t *)rows)[at]);
}

INLINE float load1_i8(const void *rows, size_t at)
{
    return ((const int8_t *)rows)[at];
}

/* ---- scores ---- */

/* p[t][at]: what is left of one row's sixteen sums for query t after two halvings */
INLINE void dot_floats(const struct kv_rows *keys, size_t row, const struct queries *q,
                       const size_t n_q, load4_fn *load4, load1_fn *load1, float32x4_t (*ret)[4],
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
                          load4_fn *load4, load1_fn *load1, size_t row_bytes, float *const *ret)
{
    float32x4_t p[KERN_QUERIES][4];

    memset(p, 0, sizeof(p));
    for (size_t first = 0; first < keys->n; first += 4) {
        const size_t left = keys->n - first, n = left < 4 ? left : 4;
        for (size_t i = 0; i < n; i++) {
            prefetch_row(keys, first + i, row_bytes);
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

/* n_regs times four columns from `col` on, over all rows */
INLINE void mix_columns(const struct kv_rows *values, const float (*a)[KERN_ROWS], const size_t n_q,
                        const size_t n_regs, size_t col, load4_fn *load4, float *const *out)
{
    float32x4_t sum[KERN_QUERIES][16];

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < n_regs; r++)
        {
            sum[t][r] = vld1q_f32(out[t] + col + r * 4);
        }
    }
    for (size_t j = 0; j < values->n; j++) {
        const size_t at = j * values->n_cols + col;
        UNROLL for (size_t r = 0; r < n_regs; r++)
        {
            const float32x4_t v = load4(values->rows, at + r * 4);
            UNROLL for (size_t t = 0; t < n_q; t++)
            {
                sum[t][r] = vfmaq_n_f32(sum[t][r], v, a[t][j]);
            }
        }
    }
    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < n_regs; r++)
        {
            vst1q_f32(out[t] + col + r * 4, sum[t][r]);
        }
    }
}

INLINE void mix_rows(const struct kv_rows *values, const float *const *weight, const size_t n_q,
                     load4_fn *load4, load1_fn *load1, bool scaled, size_t row_bytes,
                     float *const *out)
{
    const size_t n_regs = n_q == 1 ? 16 : n_q == 2 ? 8 : 4, n = values->n_cols;
    float a[KERN_QUERIES][KERN_ROWS];
    size_t col = 0;

    for (size_t j = 0; j < values->n; j++) {
        prefetch_row(values, j, row_bytes);
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            a[t][j] = scaled ? weight[t][j] * values->d[j] : weight[t][j];
        }
    }
    for (; col + n_regs * 4 <= n; col += n_regs * 4) {
        mix_columns(values, (const float(*)[KERN_ROWS])a, n_q, n_regs, col, load4, out);
    }
    for (; col + 4 <= n; col += 4) {
        mix_columns(values, (const float(*)[KERN_ROWS])a, n_q, 1, col, load4, out);
    }
    for (; col < n; col++) {
        for (size_t t = 0; t < n_q; t++) {
            for (size_t j = 0; j < values->n; j++) {
                out[t][col] =
                    __builtin_fmaf(a[t][j], load1(values->rows, j * n + col), out[t][col]);
            }
        }
    }
}

#define CALL(n) mix_rows(values, weight, n, load4_f32, load1_f32, false, values->n_cols * 4, out)
MIX(mix_f32_neon, CALL)
#undef CALL
#define CALL(n) mix_rows(values, weight, n, load4_f16, load1_f16, false, values->n_cols * 2, out)
MIX(mix_f16_neon, CALL)
#undef CALL
#define CALL(n) mix_rows(values, weight, n, load4_i8, load1_i8, true, values->n_cols, out)
MIX(mix_i8_neon, CALL)
#undef CALL
