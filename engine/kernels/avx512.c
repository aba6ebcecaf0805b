/* AVX-512 with VNNI: one register is the panel. Its 16 lanes are the rows, and vpdpbusd adds four
 * unsigned times signed products into each of them.
 *
 * B1: a tile is a 64-bit mask. It expands to bytes of 0 or 2, the lanes start at -sum(all), and what
 * stands there after a block is 2 * sum(kept) - sum(all), the sum over +1 and -1 weights. T2: the codes
 * are the bytes, lanes start at -sum(all) since the weight is code - 1. I8: weight + 128 is the byte,
 * lanes start at -128 * sum(all). No signed byte is negated anywhere, and no 16-bit sum saturates, as
 * vpdpbusd adds in 32 bits.
 *
 * An expansion of weights is used for up to eight tokens, whose activations enter as broadcasts from
 * memory. AVX512_INTRIN_HEADER is set where the intrinsics are emulated, to check this file's
 * arithmetic on machines without the instructions. */
#include "engine/kernels/levels.h"

#include <assert.h>
#include <string.h>

#ifdef AVX512_INTRIN_HEADER
#include AVX512_INTRIN_HEADER
#else
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define TOKENS 8
#define AHEAD 2048 /* bytes of software prefetch */

/* Four neighbouring activations in every lane. */
INLINE __m512i broadcast4(const int8_t *q)
{
    int32_t four;
    memcpy(&four, q, sizeof(four));
    return _mm512_set1_epi32(four);
}

INLINE void prefetch(const void *p)
{
    __builtin_prefetch((const char *)p + AHEAD);
}

INLINE __m512 scales(const uint8_t *group)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)group));
}

INLINE __m512 add_block(float d, __m512i s, __m512 part)
{
    return _mm512_fmadd_ps(_mm512_set1_ps(d), _mm512_cvtepi32_ps(s), part);
}

INLINE void b1_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    const __m512i twos = _mm512_set1_epi8(2);
    __m512 acc[TOKENS], part[TOKENS];

    UNROLL for (size_t t = 0; t < n; t++)
    {
        acc[t] = _mm512_setzero_ps();
    }
    for (size_t g = 0; g < n_cols / B1_GROUP; g++) {
        const uint8_t *group = panel + g * B1_GROUP_BYTES;
        const __m512 scale = scales(group);
        UNROLL for (size_t t = 0; t < n; t++)
        {
            part[t] = _mm512_setzero_ps();
        }
        for (size_t b = 0; b < 4; b++) {
            const uint8_t *tile = group + 32 + b * 64;
            const int8_t *q = act->q + t0 * act->q_stride + g * B1_GROUP + b * ACT_BLOCK;
            __m512i sum[TOKENS];

            prefetch(tile);
            UNROLL for (size_t t = 0; t < n; t++)
            {
                sum[t] = _mm512_set1_epi32(-act->s[(t0 + t) * act->d_stride + g * 4 + b]);
            }
            for (size_t c = 0; c < 8; c++) {
                uint64_t bits;
                memcpy(&bits, tile + c * 8, sizeof(bits));
                const __m512i w = _mm512_maskz_mov_epi8(bits, twos);
                UNROLL for (size_t t = 0; t < n; t++)
                {
                    const __m512i x = broadcast4(q + t * act->q_stride + c * 4);
                    sum[t] = _mm512_dpbusd_epi32(sum[t], w, x);
                }
            }
            UNROLL for (size_t t = 0; t < n; t++)
            {
                const float d = act->d[(t0 + t) * act->d_stride + g * 4 + b];
                part[t] = add_block(d, sum[t], part[t]);
            }
        }
        UNROLL for (size_t t = 0; t < n; t++)
        {
            acc[t] = _mm512_fmadd_ps(scale, part[t], acc[t]);
        }
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        _mm512_storeu_ps(out + (t0 + t) * out_stride, acc[t]);
    }
}

/* One block whose group it is: the part is a single product, rounded, then scaled into acc. */
INLINE void add_group(const struct act_q8 *act, size_t t0, const size_t n, size_t g, __m512 scale,
                      const __m512i *sum, __m512 *acc)
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        const float d = act->d[(t0 + t) * act->d_stride + g];
        const __m512 part = add_block(d, sum[t], _mm512_setzero_ps());
        acc[t] = _mm512_fmadd_ps(scale, part, acc[t]);
    }
}

INLINE void i8_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    const __m512i offset = _mm512_set1_epi8((char)-128);
    __m512 acc[TOKENS];

    UNROLL for (size_t t = 0; t < n; t++)
    {
        acc[t] = _mm512_setzero_ps();
    }
    for (size_t g = 0; g < n_cols / I8_GROUP; g++) {
        const uint8_t *group = panel + g * I8_GROUP_BYTES;
        const int8_t *q = act->q + t0 * act->q_stride + g * I8_GROUP;
        __m512i sum[TOKENS];

        UNROLL for (size_t t = 0; t < n; t++)
        {
            sum[t] = _mm512_set1_epi32(act->s[(t0 + t) * act->d_stride + g] * -128);
        }
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
    UNROLL for (size_t t = 0; t < n; t++)
    {
        _mm512_storeu_ps(out + (t0 + t) * out_stride, acc[t]);
    }
}

INLINE void t2_tokens(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, size_t t0,
                      const size_t n, float *out, size_t out_stride)
{
    const __m512i threes = _mm512_set1_epi8(3);
    __m512 acc[TOKENS];

    UNROLL for (size_t t = 0; t < n; t++)
    {
        acc[t] = _mm512_setzero_ps();
    }
    for (size_t g = 0; g < n_cols / T256_GROUP; g++) {
        const uint8_t *group = panel + g * T256_GROUP_BYTES;
        const int8_t *q = act->q + t0 * act->q_stride + g * T256_GROUP;
        __m512i sum[TOKENS];

        UNROLL for (size_t t = 0; t < n; t++)
        {
            sum[t] = _mm512_set1_epi32(-act->s[(t0 + t) * act->d_stride + g]);
        }
        for (size_t l = 0; l < 16; l++) {
            const uint8_t *line = group + 32 + l * 64;
            const __m512i codes = _mm512_loadu_si512(line);
            prefetch(line);
            const __m512i w[4] = {
                _mm512_and_si512(codes, threes),
                _mm512_and_si512(_mm512_srli_epi16(codes, 2), threes),
                _mm512_and_si512(_mm512_srli_epi16(codes, 4), threes),
                _mm512_and_si512(_mm512_srli_epi16(codes, 6), threes),
            };
            UNROLL for (size_t p = 0; p < 4; p++)
            {
                UNROLL for (size_t t = 0; t < n; t++)
                {
                    const __m512i x = broadcast4(q + t * act->q_stride + l * 16 + p * 4);
                    sum[t] = _mm512_dpbusd_epi32(sum[t], w[p], x);
                }
            }
        }
        add_group(act, t0, n, g, scales(group), sum, acc);
    }
    UNROLL for (size_t t = 0; t < n; t++)
    {
        _mm512_storeu_ps(out + (t0 + t) * out_stride, acc[t]);
    }
}

/* Tokens by eights, then what is left: each count is compiled for itself. */
#define PANEL(name, group, tokens)                                                                 \
    void name(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,           \
              size_t out_stride)                                                                   \
    {                                                                                              \
        assert(n_cols % (group) == 0 && n_cols <= KERN_COLS_MAX);                                  \
                                                                                                   \
        size_t t = 0;                                                                              \
        for (; t + TOKENS <= act->n_tokens; t += TOKENS) {                                         \
            tokens(panel, n_cols, act, t, TOKENS, out, out_stride);                                \
        }                                                                                          \
        for (; t + 4 <= act->n_tokens; t += 4) {                                                   \
            tokens(panel, n_cols, act, t, 4, out, out_stride);                                     \
        }                                                                                          \
        for (; t + 2 <= act->n_tokens; t += 2) {                                                   \
            tokens(panel, n_cols, act, t, 2, out, out_stride);                                     \
        }                                                                                          \
        for (; t < act->n_tokens; t++) {                                                           \
            tokens(panel, n_cols, act, t, 1, out, out_stride);                                     \
        }                                                                                          \
    }

PANEL(panel_b1_avx512, B1_GROUP, b1_tokens)
PANEL(panel_i8_avx512, I8_GROUP, i8_tokens)
PANEL(panel_t256_avx512, T256_GROUP, t2_tokens)

/* The largest magnitude's bits: magnitudes order like their bits, NaN above infinity. */
INLINE uint32_t top_bits(const float *x, size_t n)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i top = _mm512_setzero_si512();

    for (size_t i = 0; i < n; i += 16) {
        top = _mm512_max_epu32(top, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
    }
    return _mm512_reduce_max_epu32(top);
}

void quant_avx512(const float *x, size_t n, size_t block, int8_t *q, float *d, int32_t *s)
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
        const __m512 inverse = _mm512_set1_ps(127.0f / amax);
        const __m512i most = _mm512_set1_epi32(127), least = _mm512_set1_epi32(-127);
        __m512i sum = _mm512_setzero_si512();
        for (size_t i = b * block; i < (b + 1) * block; i += 16) {
            const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x + i), inverse);
            __m512i v = _mm512_cvtps_epi32(scaled); /* to nearest even */
            v = _mm512_max_epi32(_mm512_min_epi32(v, most), least);
            sum = _mm512_add_epi32(sum, v);
            _mm_storeu_si128((__m128i *)(q + i), _mm512_cvtsepi32_epi8(v));
        }
        s[b] = _mm512_reduce_add_epi32(sum);
        d[b] = amax / 127.0f;
    }
}

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

#define AXPY(name, type, load16, widen)                                                            \
    void name(float a, const type *x, float *y, size_t n)                                          \
    {                                                                                              \
        const __m512 factor = _mm512_set1_ps(a);                                                   \
        size_t i = 0;                                                                              \
                                                                                                   \
        for (; i < n - n % 16; i += 16) {                                                          \
            const __m512 sum = _mm512_fmadd_ps(factor, load16(x + i), _mm512_loadu_ps(y + i));     \
            _mm512_storeu_ps(y + i, sum);                                                          \
        }                                                                                          \
        for (; i < n; i++) {                                                                       \
            y[i] = __builtin_fmaf(a, widen(x[i]), y[i]);                                           \
        }                                                                                          \
    }

AXPY(axpy_f32_avx512, float, _mm512_loadu_ps, same)
AXPY(axpy_f16_avx512, uint16_t, load_f16, f16_to_f32)

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
