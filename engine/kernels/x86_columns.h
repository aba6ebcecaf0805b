/* Bytes of rows to bytes of columns, for the wide products (wide.h) of both x86 levels. */
#ifndef ENGINE_KERNELS_X86_COLUMNS_H
#define ENGINE_KERNELS_X86_COLUMNS_H

#include <emmintrin.h> /* not more, so that AVX-512 can be emulated beside it */

#include "engine/kernels/levels.h"

/**
 * columns_of_16() - columns at..at+7 of sixteen rows, ret[column][row]
 *
 * Pairs of rows are woven together four times, each of which brings a column's bytes twice as
 * close.
 */
static inline __attribute__((always_inline)) void columns_of_16(const int8_t *const q[16],
                                                                size_t at, __m128i ret[8])
{
    __m128i x[16], y[16];

    UNROLL for (int i = 0; i < 16; i++)
    {
        x[i] = _mm_loadl_epi64((const __m128i *)(q[i] + at));
    }
    UNROLL for (int i = 0; i < 8; i++)
    {
        y[i] = _mm_unpacklo_epi8(x[i], x[i + 8]); /* columns 0..7 of rows i, i + 8 */
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        x[i] = _mm_unpacklo_epi8(y[i], y[i + 4]); /* 0..3 of i, i + 4, i + 8, i + 12 */
        x[i + 4] = _mm_unpackhi_epi8(y[i], y[i + 4]);
    }
    UNROLL for (int i = 0; i < 2; i++)
    {
        y[i] = _mm_unpacklo_epi8(x[i], x[i + 2]); /* 0..1 of every other row from i on */
        y[i + 2] = _mm_unpackhi_epi8(x[i], x[i + 2]);
        y[i + 4] = _mm_unpacklo_epi8(x[i + 4], x[i + 6]);
        y[i + 6] = _mm_unpackhi_epi8(x[i + 4], x[i + 6]);
    }
    UNROLL for (int i = 0; i < 8; i += 2)
    {
        ret[i] = _mm_unpacklo_epi8(y[i], y[i + 1]);
        ret[i + 1] = _mm_unpackhi_epi8(y[i], y[i + 1]);
    }
}

#endif
