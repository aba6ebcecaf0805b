/* AVX-512 with VNNI for attention; what is not here is avx2_attention.c's.
 *
 * Scores of int8: key + 128 is the unsigned byte, and 128 * sum(q) is taken off the exact sum.
 * Values keep up to 16 registers of sums over all rows. */
#include "engine/kernels/avx512_common.h"

#define VEC __m512
#define VEC_LANES 16
#define vec_load _mm512_loadu_ps
#define vec_store _mm512_storeu_ps
#define vec_all _mm512_set1_ps
#define vec_fma _mm512_fmadd_ps
#include "engine/kernels/attention_rows.h"

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

        ask_for(ahead_of(keys) + row * n, n);
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

#define MIXED(n, ...)                                                                              \
    mix_rows(&(struct mixing){.values = values, .weight = weight, .out = out, .sum = sum}, n,      \
             (n) <= 2 ? 8 : 4, __VA_ARGS__)

#define CALL(n) MIXED(n, load16_f32, load1_f32, 4, false)
MIX(mix_f32_avx512, CALL)
#undef CALL
#define CALL(n) MIXED(n, load16_f16, load1_f16, 2, false)
MIX(mix_f16_avx512, CALL)
#undef CALL
#define CALL(n) MIXED(n, load16_i8, load1_i8, 1, true)
MIX(mix_i8_avx512, CALL)
#undef CALL
