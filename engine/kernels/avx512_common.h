/* What the files of the AVX-512 level share: small static functions, compiled with each file's own
 * flags. One register is the panel: its 16 lanes are the rows, and vpdpbusd adds four unsigned
 * times signed products into each of them, in 32 bits, so that no 16-bit sum has to be watched.
 *
 * An expansion of weights is used for up to eight tokens, whose activations enter as broadcasts
 * from memory. AVX512_INTRIN_HEADER is set where the intrinsics are emulated, to check the
 * arithmetic on machines without the instructions. */
#ifndef ENGINE_KERNELS_AVX512_COMMON_H
#define ENGINE_KERNELS_AVX512_COMMON_H

#include <assert.h>
#include <string.h>

#include "engine/kernels/levels.h"

#ifdef AVX512_INTRIN_HEADER
/* One function for any count of tokens: emulated instructions take minutes to compile unrolled. */
#include AVX512_INTRIN_HEADER
#define INLINE static inline
#undef UNROLL
#define UNROLL
#else
#include <immintrin.h>
#define INLINE static inline __attribute__((always_inline))
#endif

#define TOKENS 8
#define AHEAD 4096 /* bytes of software prefetch */

/* The same value, which gcc does not look through: sums that are made one after the other stay so,
 * where it would make a tree of them that wants more registers than there are. clang does not, and
 * leaves loops with such a thing as they are. */
INLINE __m512i in_order(__m512i x)
{
#if !defined(AVX512_INTRIN_HEADER) && !defined(__clang__)
    __asm__("" : "+v"(x));
#endif
    return x;
}

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

/* 16 f16 of as many rows. */
INLINE __m512 scales(const uint8_t *group)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)group));
}

INLINE __m512 add_block(float d, __m512i s, __m512 part)
{
    return _mm512_fmadd_ps(_mm512_set1_ps(d), _mm512_cvtepi32_ps(s), part);
}

/* Starts the sums of block b at factor * sum(q), which takes an offset off every code. */
INLINE void start_sums(const struct act_q8 *act, size_t t0, const size_t n, size_t b,
                       int32_t factor, __m512i *sum)
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        sum[t] = _mm512_set1_epi32(act->s[(t0 + t) * act->d_stride + b] * factor);
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

INLINE void clear_rows(__m512 *acc, const size_t n)
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        acc[t] = _mm512_setzero_ps();
    }
}

INLINE void store_rows(float *out, size_t out_stride, const __m512 *acc, const size_t n)
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        _mm512_storeu_ps(out + t * out_stride, acc[t]);
    }
}

/* Tokens by eights, then what is left. */
#define PANEL(name, group, tokens)                                                                 \
    PANEL_FN(name, group,                                                                          \
             BY(TOKENS, tokens, out, out_stride) BY(4, tokens, out, out_stride)                    \
                 BY(2, tokens, out, out_stride) BY(1, tokens, out, out_stride))

#endif
