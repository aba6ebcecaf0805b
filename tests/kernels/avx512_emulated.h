/* The AVX-512 intrinsics in portable C: SIMDe's, and those that it lacks or rounds differently,
 * here. Each of ours says what the instruction does, one lane after the other. */
#ifndef TESTS_KERNELS_AVX512_EMULATED_H
#define TESTS_KERNELS_AVX512_EMULATED_H

#define SIMDE_ENABLE_NATIVE_ALIASES
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wcast-qual"
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#pragma GCC diagnostic pop

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/kernels/kernels.h"

/* Vectors of 16 lanes as arrays. */
#define EACH(type, name, vector)                                                                   \
    type name[sizeof(vector) / sizeof(type)];                                                      \
    memcpy(name, &(vector), sizeof(vector))

static inline simde__m512 emulated_ps(const float lanes[16])
{
    simde__m512 ret;
    memcpy(&ret, lanes, sizeof(ret));
    return ret;
}

static inline simde__m512 emulated_fmadd_ps(simde__m512 a, simde__m512 b, simde__m512 c)
{
    EACH(float, x, a);
    EACH(float, y, b);
    EACH(float, z, c);
    for (int i = 0; i < 16; i++) {
        z[i] = fmaf(x[i], y[i], z[i]); /* one rounding, unlike a product and a sum */
    }
    return emulated_ps(z);
}

static inline simde__m512 emulated_fnmadd_ps(simde__m512 a, simde__m512 b, simde__m512 c)
{
    EACH(float, x, a);
    for (int i = 0; i < 16; i++) {
        x[i] = -x[i];
    }
    return emulated_fmadd_ps(emulated_ps(x), b, c);
}

static inline simde__m512 emulated_cvtepi32_ps(simde__m512i a)
{
    EACH(int32_t, v, a);
    float ret[16];
    for (int i = 0; i < 16; i++) {
        ret[i] = (float)v[i];
    }
    return emulated_ps(ret);
}

static inline simde__m512i emulated_cvtps_epi32(simde__m512 a)
{
    EACH(float, x, a);
    int32_t v[16];
    for (int i = 0; i < 16; i++) {
        v[i] = (int32_t)lrintf(x[i]);
    }
    simde__m512i ret;
    memcpy(&ret, v, sizeof(ret));
    return ret;
}

static inline simde__m512 emulated_cvtph_ps(simde__m256i a)
{
    EACH(uint16_t, h, a);
    float ret[16];
    for (int i = 0; i < 16; i++) {
        ret[i] = f16_to_f32(h[i]);
    }
    return emulated_ps(ret);
}

static inline simde__m256i emulated_cvtps_ph(simde__m512 a)
{
    EACH(float, x, a);
    uint16_t h[16];
    for (int i = 0; i < 16; i++) {
        h[i] = f16_from_f32(x[i]);
    }
    simde__m256i ret;
    memcpy(&ret, h, sizeof(ret));
    return ret;
}

static inline simde__m512i emulated_cvtepu16_epi32(simde__m256i a)
{
    EACH(uint16_t, h, a);
    uint32_t v[16];
    for (int i = 0; i < 16; i++) {
        v[i] = h[i];
    }
    simde__m512i ret;
    memcpy(&ret, v, sizeof(ret));
    return ret;
}

static inline simde__m512i emulated_cvtepu8_epi32(simde__m128i a)
{
    EACH(uint8_t, bytes, a);
    int32_t v[16];
    for (int i = 0; i < 16; i++) {
        v[i] = bytes[i];
    }
    simde__m512i ret;
    memcpy(&ret, v, sizeof(ret));
    return ret;
}

static inline simde__m512i emulated_cvtepi8_epi32(simde__m128i a)
{
    EACH(int8_t, bytes, a);
    int32_t v[16];
    for (int i = 0; i < 16; i++) {
        v[i] = bytes[i];
    }
    simde__m512i ret;
    memcpy(&ret, v, sizeof(ret));
    return ret;
}

static inline simde__m512i emulated_srai_epi32(simde__m512i a, unsigned bits)
{
    EACH(int32_t, v, a);
    for (int i = 0; i < 16; i++) {
        v[i] >>= bits;
    }
    simde__m512i ret;
    memcpy(&ret, v, sizeof(ret));
    return ret;
}

/* Sums that wrap around, as the instructions' do: SIMDe's are signed, where that is undefined. */
#define EMULATED_SUMS(name, type, sign)                                                            \
    static inline simde__m512i name(simde__m512i a, simde__m512i b)                                \
    {                                                                                              \
        EACH(type, x, a);                                                                          \
        EACH(type, y, b);                                                                          \
        for (size_t i = 0; i < sizeof(x) / sizeof(x[0]); i++) {                                    \
            x[i] = (type)(x[i] sign y[i]);                                                         \
        }                                                                                          \
        simde__m512i ret;                                                                          \
        memcpy(&ret, x, sizeof(ret));                                                              \
        return ret;                                                                                \
    }

EMULATED_SUMS(emulated_add_epi8, uint8_t, +)
EMULATED_SUMS(emulated_add_epi16, uint16_t, +)
EMULATED_SUMS(emulated_sub_epi16, uint16_t, -)

static inline int32_t emulated_reduce_add_epi32(simde__m512i a)
{
    EACH(int32_t, v, a);
    int32_t ret = 0;
    for (int i = 0; i < 16; i++) {
        ret += v[i];
    }
    return ret;
}

static inline uint32_t emulated_reduce_max_epu32(simde__m512i a)
{
    EACH(uint32_t, v, a);
    uint32_t ret = 0;
    for (int i = 0; i < 16; i++) {
        ret = v[i] > ret ? v[i] : ret;
    }
    return ret;
}

static inline simde__m512d emulated_cvtps_pd(simde__m256 a)
{
    EACH(float, x, a);
    double each[8];
    for (int i = 0; i < 8; i++) {
        each[i] = x[i];
    }
    simde__m512d ret;
    memcpy(&ret, each, sizeof(ret));
    return ret;
}

static inline simde__m256 emulated_cvtpd_ps(simde__m512d a)
{
    EACH(double, x, a);
    float each[8];
    for (int i = 0; i < 8; i++) {
        each[i] = (float)x[i];
    }
    simde__m256 ret;
    memcpy(&ret, each, sizeof(ret));
    return ret;
}

static inline simde__m256 emulated_extractf32x8_ps(simde__m512 a, int half)
{
    EACH(float, x, a);
    simde__m256 ret;
    memcpy(&ret, x + 8 * half, sizeof(ret));
    return ret;
}

/* Lanes that are not in the mask are not touched in memory. */
static inline simde__m512 emulated_mask_loadu_ps(simde__m512 rest, unsigned mask, const float *p)
{
    EACH(float, x, rest);
    for (int i = 0; i < 16; i++) {
        if (mask >> i & 1) {
            x[i] = p[i];
        }
    }
    return emulated_ps(x);
}

static inline void emulated_mask_storeu_ps(float *p, unsigned mask, simde__m512 a)
{
    EACH(float, x, a);
    for (int i = 0; i < 16; i++) {
        if (mask >> i & 1) {
            p[i] = x[i];
        }
    }
}

/* The second operand when one is NaN, or both are zeros. */
static inline simde__m512 emulated_max_ps(simde__m512 a, simde__m512 b)
{
    EACH(float, x, a);
    EACH(float, y, b);
    for (int i = 0; i < 16; i++) {
        x[i] = x[i] > y[i] ? x[i] : y[i];
    }
    return emulated_ps(x);
}

static inline float emulated_reduce_max_ps(simde__m512 a)
{
    EACH(float, x, a);
    float ret = x[0];
    for (int i = 1; i < 16; i++) {
        ret = x[i] > ret ? x[i] : ret;
    }
    return ret;
}

static inline simde__m512 emulated_min_ps(simde__m512 a, simde__m512 b)
{
    EACH(float, x, a);
    EACH(float, y, b);
    for (int i = 0; i < 16; i++) {
        x[i] = x[i] < y[i] ? x[i] : y[i];
    }
    return emulated_ps(x);
}

#undef _mm512_fmadd_ps
#undef _mm512_add_epi8
#undef _mm512_add_epi16
#undef _mm512_sub_epi16
#undef _mm512_fnmadd_ps
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtps_epi32
#undef _mm512_cvtph_ps
#undef _mm512_cvtps_ph
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepu8_epi32
#undef _mm512_cvtepi8_epi32
#undef _mm512_srai_epi32
#undef _mm512_reduce_add_epi32
#undef _mm512_reduce_max_epu32
#undef _mm512_reduce_max_ps
#undef _mm512_max_ps
#undef _mm512_min_ps
typedef simde__mmask16 __mmask16;
#define _mm512_fmadd_ps emulated_fmadd_ps
#define _mm512_add_epi8 emulated_add_epi8
#define _mm512_add_epi16 emulated_add_epi16
#define _mm512_sub_epi16 emulated_sub_epi16
#define _mm512_shuffle_f32x4(a, b, which)                                                          \
    _mm512_castsi512_ps(_mm512_shuffle_i32x4(_mm512_castps_si512(a), _mm512_castps_si512(b), which))
#define _mm512_fnmadd_ps emulated_fnmadd_ps
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#define _mm512_cvtps_epi32 emulated_cvtps_epi32
#define _mm512_cvtph_ps emulated_cvtph_ps
#define _mm512_cvtps_ph(a, rounding) emulated_cvtps_ph(a)
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
#define _mm512_cvtepu8_epi32 emulated_cvtepu8_epi32
#define _mm512_cvtepi8_epi32 emulated_cvtepi8_epi32
#define _mm512_srai_epi32 emulated_srai_epi32
#define _mm512_reduce_add_epi32 emulated_reduce_add_epi32
#define _mm512_reduce_max_epu32 emulated_reduce_max_epu32
#define _mm512_cvtps_pd emulated_cvtps_pd
#define _mm512_cvtpd_ps emulated_cvtpd_ps
#define _mm512_extractf32x8_ps emulated_extractf32x8_ps
#define _mm512_mask_loadu_ps emulated_mask_loadu_ps
#define _mm512_maskz_loadu_ps(mask, p) emulated_mask_loadu_ps(_mm512_setzero_ps(), mask, p)
#define _mm512_mask_storeu_ps emulated_mask_storeu_ps
#define _mm512_reduce_max_ps emulated_reduce_max_ps
#define _mm512_max_ps emulated_max_ps
#define _mm512_min_ps emulated_min_ps

#endif
