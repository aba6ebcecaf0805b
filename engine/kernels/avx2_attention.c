/* AVX2 for attention: up to four queries share one reading of keys and values.
 *
 * Scores of floats keep dot_f32's sixteen partial sums in two registers; their last three halvings
 * are made for eight rows at once, by shuffles between them, so that no sum runs along a register.
 * Scores of int8 multiply |k|, up to 128, by q with the sign of k: a pair is within 2 * 128 * 127 <
 * 2^15, so that maddubs does not saturate, also for a key of -128; q is within +-127.
 *
 * Values keep their sums in registers: eight of them over all rows, as 8 columns x 8 for one
 * query to 2 x 8 columns for each of four. A value is widened once for all queries. */
#include "engine/kernels/avx2_common.h"

#include <stdbool.h>

typedef __m256 load8_fn(const void *rows, size_t at); /* eight columns from column `at` on */

INLINE __m256 load8_f32(const void *rows, size_t at)
{
    return _mm256_loadu_ps((const float *)rows + at);
}

INLINE __m256 load8_f16(const void *rows, size_t at)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)rows + at)));
}

INLINE __m256 load8_i8(const void *rows, size_t at)
{
    const __m128i eight = _mm_loadl_epi64((const __m128i *)((const int8_t *)rows + at));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
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

/* Ask for row i of what comes next. */
INLINE void prefetch_row(const struct kv_rows *rows, size_t i, size_t row_bytes)
{
    if (rows->next) {
        for (size_t at = 0; at < row_bytes; at += 64) {
            _mm_prefetch((const char *)rows->next + i * row_bytes + at, _MM_HINT_T0);
        }
    }
}

/* ---- scores ---- */

/* The sums p[0..7] of eight rows, halved three times in dot_f32's order. */
INLINE __m256 trees(const float (*p)[8])
{
    __m256 four[4], two[2];

    for (size_t i = 0; i < 4; i++) { /* rows i and i + 4 */
        const __m256 a = _mm256_loadu_ps(p[i]), b = _mm256_loadu_ps(p[i + 4]);
        four[i] = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), //
                                _mm256_permute2f128_ps(a, b, 0x31));
    }
    for (size_t i = 0; i < 2; i++) {
        const __m256 a = four[2 * i], b = four[2 * i + 1];
        two[i] = _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee));
    }
    return _mm256_add_ps(_mm256_shuffle_ps(two[0], two[1], 0x88),
                         _mm256_shuffle_ps(two[0], two[1], 0xdd));
}

/* The same for integers, whose order is free. */
INLINE __m256i sums(const int32_t (*p)[8])
{
    __m256i two[4];

    for (size_t i = 0; i < 4; i++) { /* 2i, 2i + 1 in both halves */
        two[i] = _mm256_hadd_epi32(load(p[2 * i]), load(p[2 * i + 1]));
    }
    const __m256i a = _mm256_hadd_epi32(two[0], two[1]), b = _mm256_hadd_epi32(two[2], two[3]);
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), //
                            _mm256_permute2x128_si256(a, b, 0x31));
}

/* The last columns of one row, from column i on, added one by one: a zero in their place could turn
 * -0 into 0. */
INLINE void add_tail(const struct kv_rows *keys, size_t row, size_t i, const float *q,
                     load1_fn *load1, __m256 *low, __m256 *high)
{
    float each[16];

    _mm256_storeu_ps(each, *low);
    _mm256_storeu_ps(each + 8, *high);
    for (size_t j = i; j < keys->n_cols; j++) {
        const float k = load1(keys->rows, row * keys->n_cols + j);
        each[j - i] = __builtin_fmaf(k, q[j], each[j - i]);
    }
    *low = _mm256_loadu_ps(each);
    *high = _mm256_loadu_ps(each + 8);
}

/* p[t][at + r]: the eight sums of query t and row `row + r`. Several rows at a time, since one
 * query's two chains would wait for themselves. */
INLINE void dot_floats(const struct kv_rows *keys, size_t row, const size_t n_rows,
                       const struct queries *q, const size_t n_q, load8_fn *load8, load1_fn *load1,
                       float (*p)[8][8], size_t at)
{
    const size_t n = keys->n_cols;
    __m256 low[KERN_QUERIES][4], high[KERN_QUERIES][4];
    size_t i = 0;

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < n_rows; r++)
        {
            low[t][r] = high[t][r] = _mm256_setzero_ps();
        }
    }
    for (; i < n - n % 16; i += 16) {
        UNROLL for (size_t r = 0; r < n_rows; r++)
        {
            const __m256 k0 = load8(keys->rows, (row + r) * n + i);
            const __m256 k1 = load8(keys->rows, (row + r) * n + i + 8);
            UNROLL for (size_t t = 0; t < n_q; t++)
            {
                const float *x = (const float *)q->q[t] + i;
                low[t][r] = _mm256_fmadd_ps(k0, _mm256_loadu_ps(x), low[t][r]);
                high[t][r] = _mm256_fmadd_ps(k1, _mm256_loadu_ps(x + 8), high[t][r]);
            }
        }
    }
    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < n_rows; r++)
        {
            if (i < n) {
                add_tail(keys, row + r, i, q->q[t], load1, &low[t][r], &high[t][r]);
            }
            _mm256_storeu_ps(p[t][at + r], _mm256_add_ps(low[t][r], high[t][r]));
        }
    }
}

INLINE void store_some(float *ret, __m256 x, size_t n)
{
    float each[8];

    if (n >= 8) {
        _mm256_storeu_ps(ret, x);
    } else {
        _mm256_storeu_ps(each, x);
        memcpy(ret, each, n * sizeof(*ret));
    }
}

INLINE void scores_floats(const struct kv_rows *keys, const struct queries *q, const size_t n_q,
                          load8_fn *load8, load1_fn *load1, size_t row_bytes, float *const *ret)
{
    const size_t at_once = n_q == 1 ? 4 : n_q == 2 ? 2 : 1;
    float p[KERN_QUERIES][8][8];

    for (size_t first = 0; first < keys->n; first += 8) {
        const size_t left = keys->n - first, n = left < 8 ? left : 8;
        size_t i = 0;
        for (size_t r = 0; r < n; r++) {
            prefetch_row(keys, first + r, row_bytes);
        }
        for (; i + at_once <= n; i += at_once) {
            dot_floats(keys, first + i, at_once, q, n_q, load8, load1, p, i);
        }
        for (; i < n; i++) {
            dot_floats(keys, first + i, 1, q, n_q, load8, load1, p, i);
        }
        for (size_t t = 0; t < n_q; t++) { /* lanes of no row */
            memset(p[t][n], 0, (8 - n) * sizeof(p[t][0]));
        }
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            const __m256 dots = trees((const float(*)[8])p[t]);
            store_some(ret[t] + first, _mm256_mul_ps(dots, _mm256_set1_ps(q->scale[t])), n);
        }
    }
}

/* p[t][at + r]: eight sums of query t and row `row + r`, which added up are the product */
INLINE void dot_bytes(const struct kv_rows *keys, size_t row, const size_t n_rows,
                      const struct queries *q, const size_t n_q, int32_t (*p)[8][8], size_t at)
{
    const size_t n = keys->n_cols;
    const int8_t *k = (const int8_t *)keys->rows + row * n;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum[KERN_QUERIES][4];
    size_t i = 0;

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < n_rows; r++)
        {
            sum[t][r] = _mm256_setzero_si256();
        }
    }
    for (; i < n - n % 32; i += 32) {
        UNROLL for (size_t r = 0; r < n_rows; r++)
        {
            const __m256i some = load(k + r * n + i), magnitude = _mm256_abs_epi8(some);
            UNROLL for (size_t t = 0; t < n_q; t++)
            {
                const __m256i x = _mm256_sign_epi8(load((const int8_t *)q->q[t] + i), some);
                const __m256i pairs = _mm256_maddubs_epi16(magnitude, x);
                sum[t][r] = _mm256_add_epi32(sum[t][r], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < n_rows; r++)
        {
            _mm256_storeu_si256((__m256i *)p[t][at + r], sum[t][r]);
            for (size_t j = i; j < n; j++) {
                p[t][at + r][0] += k[r * n + j] * ((const int8_t *)q->q[t])[j];
            }
        }
    }
}

INLINE void scores_bytes(const struct kv_rows *keys, const struct queries *q, const size_t n_q,
                         float *const *ret)
{
    const size_t at_once = n_q == 1 ? 4 : n_q == 2 ? 2 : 1;
    int32_t p[KERN_QUERIES][8][8];

    for (size_t first = 0; first < keys->n; first += 8) {
        const size_t left = keys->n - first, n = left < 8 ? left : 8;
        float each[8] = {0};
        size_t i = 0;
        for (size_t r = 0; r < n; r++) {
            prefetch_row(keys, first + r, keys->n_cols);
        }
        for (; i + at_once <= n; i += at_once) {
            dot_bytes(keys, first + i, at_once, q, n_q, p, i);
        }
        for (; i < n; i++) {
            dot_bytes(keys, first + i, 1, q, n_q, p, i);
        }
        for (size_t t = 0; t < n_q; t++) { /* lanes of no row */
            memset(p[t][n], 0, (8 - n) * sizeof(p[t][0]));
        }
        memcpy(each, keys->d + first, n * sizeof(*each));
        const __m256 d = _mm256_loadu_ps(each);
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            const __m256 dots = _mm256_cvtepi32_ps(sums((const int32_t(*)[8])p[t]));
            const __m256 scale = _mm256_set1_ps(q->scale[t]);
            store_some(ret[t] + first, _mm256_mul_ps(_mm256_mul_ps(dots, d), scale), n);
        }
    }
}

#define CALL(n) scores_floats(keys, q, n, load8_f32, load1_f32, keys->n_cols * 4, ret)
SCORES(scores_f32_avx2, CALL)
#undef CALL
#define CALL(n) scores_floats(keys, q, n, load8_f16, load1_f16, keys->n_cols * 2, ret)
SCORES(scores_f16_avx2, CALL)
#undef CALL
#define CALL(n) scores_bytes(keys, q, n, ret)
SCORES(scores_i8_avx2, CALL)
#undef CALL

/* ---- values ---- */

/* n_regs times eight columns from `col` on, over all rows */
INLINE void mix_columns(const struct kv_rows *values, const float (*a)[KERN_ROWS], const size_t n_q,
                        const size_t n_regs, size_t col, load8_fn *load8, float *const *out)
{
    __m256 sum[KERN_QUERIES][8];

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < n_regs; r++)
        {
            sum[t][r] = _mm256_loadu_ps(out[t] + col + r * 8);
        }
    }
    for (size_t j = 0; j < values->n; j++) {
        const size_t at = j * values->n_cols + col;
        __m256 weight[KERN_QUERIES];
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            weight[t] = _mm256_set1_ps(a[t][j]);
        }
        UNROLL for (size_t r = 0; r < n_regs; r++)
        {
            const __m256 v = load8(values->rows, at + r * 8);
            UNROLL for (size_t t = 0; t < n_q; t++)
            {
                sum[t][r] = _mm256_fmadd_ps(weight[t], v, sum[t][r]);
            }
        }
    }
    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        UNROLL for (size_t r = 0; r < n_regs; r++)
        {
            _mm256_storeu_ps(out[t] + col + r * 8, sum[t][r]);
        }
    }
}

INLINE void mix_rows(const struct kv_rows *values, const float *const *weight, const size_t n_q,
                     load8_fn *load8, load1_fn *load1, bool scaled, size_t row_bytes,
                     float *const *out)
{
    const size_t n_regs = n_q == 1 ? 8 : n_q == 2 ? 4 : 2, n = values->n_cols;
    float a[KERN_QUERIES][KERN_ROWS];
    size_t col = 0;

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        for (size_t j = 0; j < values->n; j++) {
            a[t][j] = scaled ? weight[t][j] * values->d[j] : weight[t][j];
        }
    }
    for (size_t j = 0; j < values->n; j++) {
        prefetch_row(values, j, row_bytes);
    }
    for (; col + n_regs * 8 <= n; col += n_regs * 8) {
        mix_columns(values, (const float(*)[KERN_ROWS])a, n_q, n_regs, col, load8, out);
    }
    for (; col + 8 <= n; col += 8) {
        mix_columns(values, (const float(*)[KERN_ROWS])a, n_q, 1, col, load8, out);
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

#define CALL(n) mix_rows(values, weight, n, load8_f32, load1_f32, false, values->n_cols * 4, out)
MIX(mix_f32_avx2, CALL)
#undef CALL
#define CALL(n) mix_rows(values, weight, n, load8_f16, load1_f16, false, values->n_cols * 2, out)
MIX(mix_f16_avx2, CALL)
#undef CALL
#define CALL(n) mix_rows(values, weight, n, load8_i8, load1_i8, true, values->n_cols, out)
MIX(mix_i8_avx2, CALL)
#undef CALL
