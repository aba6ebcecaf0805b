/* AVX-512 with VNNI for attention; what is not here is avx2_attention.c's.
 *
 * Scores of int8: key + 128 is the unsigned byte, and 128 * sum(q) is taken off the exact sum.
 * Values keep up to 16 registers of sums over all rows, and a value is widened once for all
 * queries. */
#include "engine/kernels/avx512_common.h"

#include <stdbool.h>

/* Ask for row i of what comes next. */
INLINE void prefetch_row(const struct kv_rows *rows, size_t i, size_t row_bytes)
{
    if (rows->next) {
        for (size_t at = 0; at < row_bytes; at += 64) {
            __builtin_prefetch((const char *)rows->next + i * row_bytes + at);
        }
    }
}

/* ---- scores of int8 ---- */

/* 64 bytes, or the last n of a row with zeros behind them */
INLINE __m512i load_bytes(const int8_t *p, size_t n)
{
    int8_t each[64] = {0};

    if (n >= 64) {
        return _mm512_loadu_si512(p);
    }
    memcpy(each, p, n);
    return _mm512_loadu_si512(each);
}

/* 128 * the sum of q */
INLINE int32_t offset_of(const int8_t *q, size_t n)
{
    const __m512i each = _mm512_set1_epi8((char)-128); /* 128, unsigned */
    __m512i sum = _mm512_setzero_si512();

    for (size_t i = 0; i < n; i += 64) {
        sum = _mm512_dpbusd_epi32(sum, each, load_bytes(q + i, n - i));
    }
    return _mm512_reduce_add_epi32(sum);
}

INLINE void scores_bytes(const struct kv_rows *keys, const struct queries *q, const size_t n_q,
                         float *const *ret)
{
    const __m512i offset = _mm512_set1_epi8((char)-128);
    const size_t n = keys->n_cols;
    int32_t less[KERN_QUERIES];

    for (size_t t = 0; t < n_q; t++) {
        less[t] = offset_of(q->q[t], n);
    }
    for (size_t row = 0; row < keys->n; row++) {
        const int8_t *k = (const int8_t *)keys->rows + row * n;
        __m512i sum[KERN_QUERIES];

        prefetch_row(keys, row, n);
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            sum[t] = _mm512_setzero_si512();
        }
        for (size_t i = 0; i < n; i += 64) {
            const __m512i some = _mm512_xor_si512(load_bytes(k + i, n - i), offset);
            UNROLL for (size_t t = 0; t < n_q; t++)
            {
                const __m512i x = load_bytes((const int8_t *)q->q[t] + i, n - i);
                sum[t] = _mm512_dpbusd_epi32(sum[t], some, x);
            }
        }
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            const int32_t dot = _mm512_reduce_add_epi32(sum[t]) - less[t];
            ret[t][row] = (float)dot * keys->d[row] * q->scale[t];
        }
    }
}

#define CALL(n) scores_bytes(keys, q, n, ret)
SCORES(scores_i8_avx512, CALL)
#undef CALL

/* ---- values ---- */

typedef __m512 load16_fn(const void *rows, size_t at); /* sixteen columns from `at` on */

INLINE __m512 load16_f32(const void *rows, size_t at)
{
    return _mm512_loadu_ps((const float *)rows + at);
}

INLINE __m512 load16_f16(const void *rows, size_t at)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((const uint16_t *)rows + at)));
}

INLINE __m512 load16_i8(const void *rows, size_t at)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)((const int8_t *)rows + at));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
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

/* n_regs times sixteen columns from `col` on, over all rows */
INLINE void mix_columns(const struct kv_rows *values, const float (*a)[KERN_ROWS], const size_t n_q,
                        const size_t n_regs, size_t col, load16_fn *load16, float *const *out)
{
    __m512 sum[KERN_QUERIES][8];

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < n_regs; r++)
        {
            sum[t][r] = _mm512_loadu_ps(out[t] + col + r * 16);
        }
    }
    for (size_t j = 0; j < values->n; j++) {
        const size_t at = j * values->n_cols + col;
        __m512 weight[KERN_QUERIES];
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            weight[t] = _mm512_set1_ps(a[t][j]);
        }
        UNROLL for (size_t r = 0; r < n_regs; r++)
        {
            const __m512 v = load16(values->rows, at + r * 16);
            UNROLL for (size_t t = 0; t < n_q; t++)
            {
                sum[t][r] = _mm512_fmadd_ps(weight[t], v, sum[t][r]);
            }
        }
    }
    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < n_regs; r++)
        {
            _mm512_storeu_ps(out[t] + col + r * 16, sum[t][r]);
        }
    }
}

INLINE void mix_rows(const struct kv_rows *values, const float *const *weight, const size_t n_q,
                     load16_fn *load16, load1_fn *load1, bool scaled, size_t row_bytes,
                     float *const *out)
{
    const size_t n = values->n_cols;
    float a[KERN_QUERIES][KERN_ROWS];
    size_t col = 0;

    for (size_t j = 0; j < values->n; j++) {
        prefetch_row(values, j, row_bytes);
        for (size_t t = 0; t < n_q; t++) {
            a[t][j] = scaled ? weight[t][j] * values->d[j] : weight[t][j];
        }
    }
    for (; n_q <= 2 && col + 128 <= n; col += 128) {
        mix_columns(values, (const float(*)[KERN_ROWS])a, n_q, 8, col, load16, out);
    }
    for (; col + 64 <= n; col += 64) {
        mix_columns(values, (const float(*)[KERN_ROWS])a, n_q, 4, col, load16, out);
    }
    for (; col + 16 <= n; col += 16) {
        mix_columns(values, (const float(*)[KERN_ROWS])a, n_q, 1, col, load16, out);
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

#define CALL(n) mix_rows(values, weight, n, load16_f32, load1_f32, false, values->n_cols * 4, out)
MIX(mix_f32_avx512, CALL)
#undef CALL
#define CALL(n) mix_rows(values, weight, n, load16_f16, load1_f16, false, values->n_cols * 2, out)
MIX(mix_f16_avx512, CALL)
#undef CALL
#define CALL(n) mix_rows(values, weight, n, load16_i8, load1_i8, true, values->n_cols, out)
MIX(mix_i8_avx512, CALL)
#undef CALL
