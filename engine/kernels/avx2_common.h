/* What the files of the AVX2 level share: small static functions, compiled with each file's own
 * flags. A register holds eight rows x four columns of a panel, so two are the 16 rows; a 32-bit
 * lane is one row throughout, and nothing is summed across.
 *
 * Sums are made by maddubs, unsigned codes times signed activations, whose two neighbouring
 * products are added into int16: such a pair is within 2 * code * 128, and each file says how many
 * pairs it adds before it widens. An expansion of weights costs more than its use: it is made once
 * for up to four tokens. */
#ifndef ENGINE_KERNELS_AVX2_COMMON_H
#define ENGINE_KERNELS_AVX2_COMMON_H

#include <assert.h>
#include <immintrin.h>
#include <string.h>

#include "engine/kernels/levels.h"

#define INLINE static inline __attribute__((always_inline))
#define TOKENS 4   /* tokens that share one expansion: 8 accumulators of the 16 registers */
#define AHEAD 2048 /* bytes of software prefetch */

INLINE __m256i load(const void *p)
{
    return _mm256_loadu_si256(p);
}

INLINE void prefetch(const void *p)
{
    _mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
}

/* sum += x, where the sum is. Written as a sum of intrinsics, gcc 12 makes all the products of a
 * loop first and has them spilled: that costs a quarter of the time. */
INLINE void add16(__m256i *sum, __m256i x)
{
    __asm__("vpaddw %1, %0, %0" : "+x"(*sum) : "x"(x));
}

INLINE void add32(__m256i *sum, __m256i x)
{
    __asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(x));
}

/* Four neighbouring activations in every lane. */
INLINE __m256i broadcast4(const void *q)
{
    int32_t four;
    memcpy(&four, q, sizeof(four));
    return _mm256_set1_epi32(four);
}

/* 16 f16 of as many rows. */
INLINE void scales(const uint8_t *group, __m256 ret[2])
{
    ret[0] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)group));
    ret[1] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(group + 16)));
}

/* Of each of four: the largest lane as unsigned, or all lanes added up. */
#define OF_FOUR(name, combine128, combine256)                                                      \
    INLINE __m128i name(const __m256i p[4])                                                        \
    {                                                                                              \
        const __m256i a = combine256(_mm256_unpacklo_epi32(p[0], p[1]), /**/                       \
                                     _mm256_unpackhi_epi32(p[0], p[1]));                           \
        const __m256i b = combine256(_mm256_unpacklo_epi32(p[2], p[3]), /**/                       \
                                     _mm256_unpackhi_epi32(p[2], p[3]));                           \
        const __m256i all = combine256(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));  \
        return combine128(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));          \
    }

OF_FOUR(largest_of_four, _mm_max_epu32, _mm256_max_epu32)
OF_FOUR(sums_of_four, _mm_add_epi32, _mm256_add_epi32)

/* The two halves of an int16 lane pair, added up in its 32-bit lane. */
INLINE __m256i widen(__m256i pairs)
{
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

INLINE __m256 add_block(float d, __m256i s, __m256 part)
{
    return _mm256_fmadd_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(s), part);
}

/* One block whose group it is: the part is a single product, rounded, then scaled into acc. */
INLINE void add_group(float d, const __m256i s[2], const __m256 scale[2], __m256 acc[2])
{
    for (size_t h = 0; h < 2; h++) {
        acc[h] = _mm256_fmadd_ps(scale[h], add_block(d, s[h], _mm256_setzero_ps()), acc[h]);
    }
}

INLINE void clear_rows(__m256 (*acc)[2], const size_t n)
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        acc[t][0] = acc[t][1] = _mm256_setzero_ps();
    }
}

INLINE void clear_sums(__m256i (*sum)[2], const size_t n)
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        sum[t][0] = sum[t][1] = _mm256_setzero_si256();
    }
}

INLINE void store_rows(float *out, size_t out_stride, __m256 (*acc)[2], const size_t n)
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        _mm256_storeu_ps(out + t * out_stride, acc[t][0]);
        _mm256_storeu_ps(out + t * out_stride + 8, acc[t][1]);
    }
}

/* A tile's codes of two column quads, c[half][quad], times their eight activations: part is their
 * sums, or they are added to it. */
INLINE void add_quads(__m256i c[2][2], const int8_t *q, size_t q_stride, const size_t n,
                      const bool first, __m256i (*part)[2])
{
    UNROLL for (size_t t = 0; t < n; t++)
    {
        const __m256i x0 = broadcast4(q + t * q_stride), x1 = broadcast4(q + t * q_stride + 4);
        UNROLL for (size_t h = 0; h < 2; h++)
        {
            const __m256i product = _mm256_maddubs_epi16(c[h][0], x0);
            if (first) {
                part[t][h] = product;
            } else {
                add16(&part[t][h], product);
            }
            add16(&part[t][h], _mm256_maddubs_epi16(c[h][1], x1));
        }
    }
}

/* The low and the high four bits of a tile's bytes, by its halves. */
INLINE void split_tile(const uint8_t *tile, __m256i ret[2][2])
{
    const __m256i low = _mm256_set1_epi8(15);

    for (size_t h = 0; h < 2; h++) {
        const __m256i w = load(tile + h * 32);
        ret[h][0] = _mm256_and_si256(w, low);
        ret[h][1] = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);
    }
}

/* The four tiles of a block of 32 columns: part = sum(code * q), codes 0..15. */
INLINE void nibbles(const uint8_t *tile, const int8_t *q, size_t q_stride, const size_t n,
                    __m256i (*part)[2])
{
    UNROLL for (size_t i = 0; i < 4; i++)
    {
        __m256i c[2][2];

        prefetch(tile + i * 64);
        split_tile(tile + i * 64, c);
        add_quads(c, q + i * 8, q_stride, n, i == 0, part);
    }
}

/* Tokens in tiles of 4, 3 and 2: one alone costs more than its share. */
#define PANEL(name, group, tokens)                                                                 \
    PANEL_FN(                                                                                      \
        name, group,                                                                               \
        for (; act->n_tokens - t >= 6 || act->n_tokens - t == TOKENS; t += TOKENS) {               \
            tokens(panel, n_cols, act, t, TOKENS, out, out_stride);                                \
        } BY(3, tokens, out, out_stride) BY(2, tokens, out, out_stride)                            \
            BY(1, tokens, out, out_stride))

#endif
