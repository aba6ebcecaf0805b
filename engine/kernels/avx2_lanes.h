/* AVX2's registers for wide products (wide.h says what each of these does): 16 tokens in one. */
#ifndef ENGINE_KERNELS_AVX2_LANES_H
#define ENGINE_KERNELS_AVX2_LANES_H

#include <stdbool.h>

#include "engine/kernels/avx2_common.h"
#include "engine/kernels/x86_columns.h"

#define LANES 16
/* Unpacking works in halves of a register: these bring eight tokens in order to each. */
#define TOKEN_OF(lane) ((lane) / 4 == 1 ? (lane) + 4 : (lane) / 4 == 2 ? (lane)-4 : (lane))

typedef __m256i ivec;
typedef __m256 fvec;

INLINE ivec iv_load(const void *p)
{
    return _mm256_load_si256(p);
}

INLINE void iv_store(void *p, ivec x)
{
    _mm256_store_si256(p, x);
}

INLINE ivec iv_all(int16_t x)
{
    return _mm256_set1_epi16(x);
}

INLINE ivec iv_add(ivec a, ivec b)
{
    return _mm256_add_epi16(a, b);
}

INLINE ivec iv_sub(ivec a, ivec b)
{
    return _mm256_sub_epi16(a, b);
}

INLINE fvec fv_load(const float *p)
{
    return _mm256_load_ps(p);
}

INLINE void fv_store(float *p, fvec x)
{
    _mm256_store_ps(p, x);
}

INLINE fvec fv_all(float x)
{
    return _mm256_set1_ps(x);
}

INLINE fvec fv_add(fvec a, fvec b)
{
    return _mm256_add_ps(a, b);
}

INLINE fvec fv_mul(fvec a, fvec b)
{
    return _mm256_mul_ps(a, b);
}

INLINE fvec fv_div(fvec a, fvec b)
{
    return _mm256_div_ps(a, b);
}

INLINE fvec fv_fma(fvec a, fvec b, fvec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE void iv_floats(ivec sum, fvec ret[2])
{
    const ivec two23 = _mm256_set1_epi16(0x4b00);
    const fvec less = _mm256_set1_ps(0x1p23f + 32768.0f);

    ret[0] = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_unpacklo_epi16(sum, two23)), less);
    ret[1] = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_unpackhi_epi16(sum, two23)), less);
}

INLINE void iv_columns(const int8_t *const q[LANES], size_t at, ivec ret[8])
{
    __m128i column[8];

    columns_of_16(q, at, column);
    UNROLL for (int i = 0; i < 8; i++)
    {
        ret[i] = _mm256_cvtepi8_epi16(column[i]);
    }
}

INLINE bool q_has_lowest(const int8_t *q, size_t n)
{
    const __m256i lowest = _mm256_set1_epi8(INT8_MIN);
    __m256i seen = _mm256_setzero_si256();

    for (size_t i = 0; i < n; i += 32) {
        seen = _mm256_or_si256(seen, _mm256_cmpeq_epi8(load(q + i), lowest));
    }
    return _mm256_movemask_epi8(seen) != 0;
}

INLINE void scales_of_rows(const uint8_t *group, float *ret)
{
    _mm256_storeu_ps(ret, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)group)));
    _mm256_storeu_ps(ret + 8, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(group + 16))));
}

/* Byte i of a row stands at [i][row]. */
INLINE void line_words(const uint8_t *line, __m128i ret[4])
{
    const __m128i *at = (const __m128i *)line;
    const __m128i a = _mm_loadu_si128(at), b = _mm_loadu_si128(at + 1);
    const __m128i c = _mm_loadu_si128(at + 2), d = _mm_loadu_si128(at + 3);
    const __m128i ab[2] = {_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b)};
    const __m128i cd[2] = {_mm_unpacklo_epi8(c, d), _mm_unpackhi_epi8(c, d)};

    UNROLL for (int i = 0; i < 2; i++)
    {
        ret[2 * i] = _mm_unpacklo_epi16(ab[i], cd[i]);
        ret[2 * i + 1] = _mm_unpackhi_epi16(ab[i], cd[i]);
    }
}

INLINE void tile_words(const uint8_t *lines, uint64_t ret[PANEL_ROWS])
{
    __m128i a[4], b[4];

    line_words(lines, a);
    line_words(lines + B1_LINE_BYTES, b);
    UNROLL for (int i = 0; i < 4; i++)
    {
        __m128i *to = (__m128i *)(ret + 4 * i);
        _mm_store_si128(to, _mm_unpacklo_epi32(a[i], b[i]));
        _mm_store_si128(to + 1, _mm_unpackhi_epi32(a[i], b[i]));
    }
}

/* The codes of a byte, a + 4b + 16c + 64d, as a + 3b + 9c + 27d; with a 3 among them 128 at least:
 * either half of it is 128 then, and the sum of both stops at 255. */
INLINE __m256i digits_of(__m256i codes)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i low = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, -128, 3, 4, 5, -128, 6, 7, 8, -128, -128, -128, -128, -128));
    const __m256i high = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 9, 18, -128, 27, 36, 45, -128, 54, 63, 72, -128, -128, -128, -128, -128));
    const __m256i a = _mm256_shuffle_epi8(low, _mm256_and_si256(codes, nibble));
    const __m256i b =
        _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble));

    return _mm256_adds_epu8(a, b);
}

/* Rows 8i.. of both lines: a row's four bytes of each, side by side. */
INLINE unsigned line_digits(const uint8_t *lines, uint8_t (*ret)[8])
{
    __m256i seen = _mm256_setzero_si256();

    UNROLL for (int i = 0; i < 2; i++)
    {
        const __m256i a = digits_of(load(lines + 32 * i));
        const __m256i b = digits_of(load(lines + T_LINE_BYTES + 32 * i));
        const __m256i low = _mm256_unpacklo_epi32(a, b), high = _mm256_unpackhi_epi32(a, b);
        __m256i *to = (__m256i *)ret[8 * i];
        seen = _mm256_or_si256(seen, _mm256_or_si256(a, b));
        _mm256_store_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
        _mm256_store_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
    }
    return (unsigned)_mm256_movemask_epi8(seen);
}

/* Eight rows of eight tokens, to n tokens of eight rows. */
INLINE void turn(const float *from, size_t from_stride, float *to, size_t to_stride, size_t n)
{
    __m256 x[8], y[8];

    UNROLL for (size_t i = 0; i < 4; i++)
    {
        const __m256 a = _mm256_load_ps(from + i * from_stride);
        const __m256 b = _mm256_load_ps(from + (i + 4) * from_stride);
        x[i] = _mm256_permute2f128_ps(a, b, 0x20);
        x[i + 4] = _mm256_permute2f128_ps(a, b, 0x31);
    }
    UNROLL for (int i = 0; i < 8; i += 4)
    {
        const __m256 a = _mm256_unpacklo_ps(x[i], x[i + 1]);
        const __m256 b = _mm256_unpackhi_ps(x[i], x[i + 1]);
        const __m256 c = _mm256_unpacklo_ps(x[i + 2], x[i + 3]);
        const __m256 d = _mm256_unpackhi_ps(x[i + 2], x[i + 3]);
        y[i] = _mm256_shuffle_ps(a, c, 0x44);
        y[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
        y[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
        y[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    for (size_t i = 0; i < n; i++) {
        _mm256_storeu_ps(to + i * to_stride, y[i]);
    }
}

#endif
