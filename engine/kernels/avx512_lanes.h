/* AVX-512's registers for wide products (wide.h says what each of these does): 32 tokens in one.
 * Ternary products do not go this way here, and what they alone want is left out. */
#ifndef ENGINE_KERNELS_AVX512_LANES_H
#define ENGINE_KERNELS_AVX512_LANES_H

#include "engine/kernels/avx512_common.h"
#include "engine/kernels/x86_columns.h"

#define LANES 32
/* Unpacking works in quarters of a register: each brings four tokens to either half. */
#define TOKEN_OF(lane) ((lane) % 8 / 4 * 16 + (lane) / 8 * 4 + (lane) % 4)

typedef __m512i ivec;
typedef __m512 fvec;

INLINE ivec iv_load(const void *p)
{
    return _mm512_load_si512(p);
}

INLINE void iv_store(void *p, ivec x)
{
    _mm512_store_si512(p, x);
}

INLINE ivec iv_all(int16_t x)
{
    return _mm512_set1_epi16(x);
}

INLINE ivec iv_add(ivec a, ivec b)
{
    return _mm512_add_epi16(a, b);
}

INLINE ivec iv_sub(ivec a, ivec b)
{
    return _mm512_sub_epi16(a, b);
}

INLINE fvec fv_load(const float *p)
{
    return _mm512_load_ps(p);
}

INLINE void fv_store(float *p, fvec x)
{
    _mm512_store_ps(p, x);
}

INLINE fvec fv_all(float x)
{
    return _mm512_set1_ps(x);
}

INLINE fvec fv_fma(fvec a, fvec b, fvec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE void iv_floats(ivec sum, fvec ret[2])
{
    const ivec two23 = _mm512_set1_epi16(0x4b00);
    const fvec less = _mm512_set1_ps(0x1p23f + 32768.0f);

    ret[0] = _mm512_sub_ps(_mm512_castsi512_ps(_mm512_unpacklo_epi16(sum, two23)), less);
    ret[1] = _mm512_sub_ps(_mm512_castsi512_ps(_mm512_unpackhi_epi16(sum, two23)), less);
}

INLINE void iv_columns(const int8_t *const q[LANES], size_t at, ivec ret[8])
{
    __m128i low[8], high[8];

    columns_of_16(q, at, low);
    columns_of_16(q + 16, at, high);
    UNROLL for (int i = 0; i < 8; i++)
    {
        ret[i] = _mm512_cvtepi8_epi16(_mm256_set_m128i(high[i], low[i]));
    }
}

INLINE void scales_of_rows(const uint8_t *group, float *ret)
{
    _mm512_storeu_ps(ret, scales(group));
}

/* Byte i of a row stands at [i][row]: four rows to a quarter, then their bytes side by side. */
INLINE __m512i line_words(const uint8_t *line)
{
    const __m512i quarters =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i bytes =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i rows = _mm512_permutexvar_epi32(quarters, _mm512_loadu_si512(line));

    return _mm512_shuffle_epi8(rows, bytes);
}

INLINE void tile_words(const uint8_t *lines, uint64_t ret[PANEL_ROWS])
{
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i second =
        _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    const __m512i a = line_words(lines), b = line_words(lines + B1_LINE_BYTES);

    _mm512_store_si512(ret, _mm512_permutex2var_epi32(a, first, b));
    _mm512_store_si512(ret + 8, _mm512_permutex2var_epi32(a, second, b));
}

/* Sixteen rows of sixteen tokens, to n tokens of sixteen rows: by pairs and fours within the
 * quarters, then by the quarters. */
INLINE void turn(const float *from, size_t from_stride, float *to, size_t to_stride, size_t n)
{
    __m512 x[16], y[16];

    UNROLL for (size_t i = 0; i < 16; i++)
    {
        x[i] = _mm512_load_ps(from + i * from_stride);
    }
    UNROLL for (int i = 0; i < 16; i += 4)
    {
        const __m512 a = _mm512_unpacklo_ps(x[i], x[i + 1]);
        const __m512 b = _mm512_unpackhi_ps(x[i], x[i + 1]);
        const __m512 c = _mm512_unpacklo_ps(x[i + 2], x[i + 3]);
        const __m512 d = _mm512_unpackhi_ps(x[i + 2], x[i + 3]);
        y[i] = _mm512_shuffle_ps(a, c, 0x44); /* tokens 0, 4, 8, 12 of rows i..i+3 */
        y[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        y[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        y[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        const __m512 a = _mm512_shuffle_f32x4(y[i], y[i + 4], 0x44); /* 0, 4 of eight rows */
        const __m512 b = _mm512_shuffle_f32x4(y[i], y[i + 4], 0xee); /* 8, 12 */
        const __m512 c = _mm512_shuffle_f32x4(y[i + 8], y[i + 12], 0x44);
        const __m512 d = _mm512_shuffle_f32x4(y[i + 8], y[i + 12], 0xee);
        x[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        x[i + 4] = _mm512_shuffle_f32x4(a, c, 0xdd);
        x[i + 8] = _mm512_shuffle_f32x4(b, d, 0x88);
        x[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
    for (size_t i = 0; i < n; i++) {
        _mm512_storeu_ps(to + i * to_stride, x[i]);
    }
}

#endif
