/* AVX-512 with VNNI: I8 and everything that is no panel.
 *
 * I8: weight + 128 is the byte, lanes start at -128 * sum(all). No signed byte is negated
 * anywhere. */
#include "engine/kernels/avx512_common.h"

INLINE void i8_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    const __m512i offset = _mm512_set1_epi8((char)-128);
    __m512 acc[TOKENS];

    clear_rows(acc, n);
    for (size_t g = 0; g < n_cols / I8_GROUP; g++) {
        const uint8_t *group = panel + g * I8_GROUP_BYTES;
        const int8_t *q = act->q + t0 * act->q_stride + g * I8_GROUP;
        __m512i sum[TOKENS];

        start_sums(act, t0, n, g, -128, sum);
        for (size_t c = 0; c < 8; c++) {
            const uint8_t *tile = group + 32 + c * 64;
            const __m512i w = _mm512_xor_si512(_mm512_loadu_si512(tile), offset);
            prefetch(tile);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const __m512i x = broadcast4(q + t * act->q_stride + c * 4);
                sum[t] = _mm512_dpbusd_epi32(sum[t], w, x);
            }
        }
        add_group(act, t0, n, g, scales(group), sum, acc);
    }
    store_rows(out + t0 * out_stride, out_stride, acc, n);
}

PANEL(panel_i8_avx512, I8_GROUP, i8_tokens)

INLINE float tree(__m512 p)
{
    float each[16];

    _mm512_storeu_ps(each, p);
    const __m256 p8 = _mm256_add_ps(_mm256_loadu_ps(each), _mm256_loadu_ps(each + 8));
    const __m128 p4 = _mm_add_ps(_mm256_castps256_ps128(p8), _mm256_extractf128_ps(p8, 1));
    const __m128 p2 = _mm_add_ps(p4, _mm_movehl_ps(p4, p4));
    return _mm_cvtss_f32(_mm_add_ss(p2, _mm_shuffle_ps(p2, p2, 1)));
}

INLINE float same(float x)
{
    return x;
}

INLINE __m512 load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

INLINE __m512 load_bf16(const uint16_t *p)
{
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* The last n % 16 elements go one by one: a zero added in their place could turn -0 into 0. */
#define DOT(name, type, load16, widen)                                                             \
    float name(const type *w, const float *x, size_t n)                                            \
    {                                                                                              \
        __m512 p = _mm512_setzero_ps();                                                            \
        size_t i = 0;                                                                              \
                                                                                                   \
        for (; i < n - n % 16; i += 16) {                                                          \
            p = _mm512_fmadd_ps(load16(w + i), _mm512_loadu_ps(x + i), p);                         \
        }                                                                                          \
        if (i < n) {                                                                               \
            float each[16];                                                                        \
            _mm512_storeu_ps(each, p);                                                             \
            for (; i < n; i++) {                                                                   \
                each[i % 16] = __builtin_fmaf(widen(w[i]), x[i], each[i % 16]);                    \
            }                                                                                      \
            p = _mm512_loadu_ps(each);                                                             \
        }                                                                                          \
        return tree(p);                                                                            \
    }

DOT(dot_f32_avx512, float, _mm512_loadu_ps, same)
DOT(dot_f16_avx512, uint16_t, load_f16, f16_to_f32)
DOT(dot_bf16_avx512, uint16_t, load_bf16, bf16_to_f32)

void f32_to_f16_avx512(const float *x, uint16_t *ret, size_t n)
{
    size_t i = 0;

    for (; i < n - n % 16; i += 16) {
        const __m256i half = _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
        _mm256_storeu_si256((__m256i *)(ret + i), half);
    }
    for (; i < n; i++) {
        ret[i] = f16_from_f32(x[i]);
    }
}
