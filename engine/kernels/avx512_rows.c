/* AVX-512 for one value after the other: exp and SiLU, norms, residuals, rotation. Lanes are
 * independent and each does the operations of mathf.c in their order, so the bits are those of the
 * scalar functions. The last lanes of a row are masked.
 *
 * exp works on doubles, eight to a register, as avx2_rows.c says it. */
#include "engine/kernels/avx512_common.h"

#include <math.h>

#include "engine/mathf.h"

#define ROUNDER 0x1.8p52
#define LOG2_E 0x1.71547652b82fep0
#define LN2_HIGH 0x1.62e42feep-1
#define LN2_LOW 0x1.a39ef35793c76p-33

INLINE __m512d all(double x)
{
    return _mm512_set1_pd(x);
}

INLINE __m512d mul(__m512d a, __m512d b)
{
    return _mm512_mul_pd(a, b);
}

INLINE __m512d add(__m512d a, __m512d b)
{
    return _mm512_add_pd(a, b);
}

/* a + x * b, two roundings */
INLINE __m512d line(double a, __m512d x, double b)
{
    return add(all(a), mul(x, all(b)));
}

/* Of n lanes that are left, those of one register. */
INLINE __mmask16 lanes_of(size_t n)
{
    return (__mmask16)(n < 16 ? (1u << n) - 1 : 0xffff);
}

/* ---- exp ---- */

#define AT_ONCE 8         /* registers that go through exp together */
#define RUN (AT_ONCE * 8) /* floats of one go */
#define OF_ALL UNROLL for (size_t j = 0; j < n; j++)

/* exp_short() of mathf.c for n registers: the same operations. Inside one step a register waits for
 * itself, and several side by side fill the time.
 *
 * k * LN2_HIGH is exact, so that taking it away at once rounds as the two operations there. The
 * integer k stands in the low bits of what was rounded; the series is near 1, and times 2^k is k
 * added to its exponent. */
INLINE void exp_short(__m512d *x, const size_t n)
{
    __m512d r[AT_ONCE], r2[AT_ONCE], low[AT_ONCE], mid[AT_ONCE];
    __m512i exponent[AT_ONCE];

    OF_ALL
    {
        const __m512d shifted = add(mul(x[j], all(LOG2_E)), all(ROUNDER));
        const __m512d k = _mm512_sub_pd(shifted, all(ROUNDER));
        const __m512d most = _mm512_fnmadd_pd(k, all(LN2_HIGH), x[j]);
        r[j] = _mm512_sub_pd(most, mul(k, all(LN2_LOW)));
        exponent[j] = _mm512_slli_epi64(_mm512_castpd_si512(shifted), 52);
    }
    OF_ALL
    {
        r2[j] = mul(r[j], r[j]);
        mid[j] = line(1.0 / 720, r[j], 1.0 / 5040);
        low[j] = line(0.5, r[j], 1.0 / 6);
    }
    OF_ALL
    {
        mid[j] = add(line(1.0 / 24, r[j], 1.0 / 120), mul(r2[j], mid[j]));
        low[j] = add(add(all(1.0), r[j]), mul(r2[j], low[j]));
    }
    OF_ALL
    {
        const __m512d r4 = mul(r2[j], r2[j]);
        const __m512d p = add(low[j], mul(r4, add(mid[j], mul(r4, all(1.0 / 40320)))));
        x[j] = _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(p), exponent[j]));
    }
}

INLINE __m512d low_half(__m512 x)
{
    return _mm512_cvtps_pd(_mm512_castps512_ps256(x));
}

INLINE __m512d high_half(__m512 x)
{
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
}

INLINE __m512 narrow(__m512d low, __m512d high)
{
    const __m512 some = _mm512_castps256_ps512(_mm512_cvtpd_ps(low));

    return _mm512_insertf32x8(some, _mm512_cvtpd_ps(high), 1);
}

/* math_expf() of n / 2 registers. Beyond its limits the argument is held at them, where the result,
 * rounded to float, is the same: 0 or infinity. min and max return their second operand when one is
 * NaN, and a NaN goes through all that follows. */
INLINE void exp_run(__m512 *x, const size_t n)
{
    __m512d e[AT_ONCE];

    UNROLL for (size_t j = 0; j < n; j += 2)
    {
        const __m512 above = _mm512_max_ps(_mm512_set1_ps(-104.0f), x[j / 2]);
        const __m512 held = _mm512_min_ps(_mm512_set1_ps(89.0f), above);
        e[j] = low_half(held);
        e[j + 1] = high_half(held);
    }
    exp_short(e, n);
    UNROLL for (size_t j = 0; j < n; j += 2)
    {
        x[j / 2] = narrow(e[j], e[j + 1]);
    }
}

static float largest_number(const float *x, size_t n)
{
    const __m512 none = _mm512_set1_ps(-INFINITY);
    __m512 top[4] = {none, none, none, none};
    size_t i = 0;

    for (; i < n - n % 64; i += 64) {
        UNROLL for (size_t j = 0; j < 4; j++)
        {
            top[j] = _mm512_max_ps(_mm512_loadu_ps(x + i + j * 16), top[j]); /* of a NaN: top */
        }
    }
    for (; i < n; i += 16) {
        top[0] = _mm512_max_ps(_mm512_mask_loadu_ps(none, lanes_of(n - i), x + i), top[0]);
    }
    return _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_max_ps(top[0], top[1]), _mm512_max_ps(top[2], top[3])));
}

void exp_below_max_avx512(float *x, size_t n)
{
    const __m512 max = _mm512_set1_ps(largest_number(x, n));
    size_t i = 0;

    for (; i < n - n % RUN; i += RUN) {
        __m512 e[AT_ONCE / 2];
        UNROLL for (size_t j = 0; j < AT_ONCE / 2; j++)
        {
            e[j] = _mm512_sub_ps(_mm512_loadu_ps(x + i + j * 16), max);
        }
        exp_run(e, AT_ONCE);
        UNROLL for (size_t j = 0; j < AT_ONCE / 2; j++)
        {
            _mm512_storeu_ps(x + i + j * 16, e[j]);
        }
    }
    for (; i < n; i += 16) {
        const __mmask16 some = lanes_of(n - i);
        __m512 e = _mm512_sub_ps(_mm512_maskz_loadu_ps(some, x + i), max);
        exp_run(&e, 2);
        _mm512_mask_storeu_ps(x + i, some, e);
    }
}

/* ---- SiLU ---- */

/* Is every value of a run where math_siluf() computes, within +-120? Magnitudes order like their
 * bits, NaN above infinity. */
INLINE bool silu_usual(const float *gate)
{
    const __m512i most = _mm512_castps_si512(_mm512_set1_ps(120.0f));
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i top = most;

    UNROLL for (size_t i = 0; i < RUN; i += 16)
    {
        top = _mm512_max_epu32(top, _mm512_and_si512(_mm512_loadu_si512(gate + i), magnitude));
    }
    return _mm512_cmpeq_epi32_mask(top, most) == 0xffff;
}

INLINE void silu_run(float *gate, const float *up)
{
    const __m512d one = all(1.0);
    __m512d e[AT_ONCE];

    UNROLL for (size_t j = 0; j < AT_ONCE; j++)
    {
        const __m512d x = _mm512_cvtps_pd(_mm256_loadu_ps(gate + j * 8));
        e[j] = _mm512_xor_pd(x, all(-0.0));
    }
    exp_short(e, AT_ONCE);
    UNROLL for (size_t j = 0; j < AT_ONCE; j += 2)
    {
        const __m512 x = _mm512_loadu_ps(gate + j * 8);
        const __m512 silu = narrow(_mm512_div_pd(low_half(x), add(one, e[j])),
                                   _mm512_div_pd(high_half(x), add(one, e[j + 1])));
        _mm512_storeu_ps(gate + j * 8, _mm512_mul_ps(silu, _mm512_loadu_ps(up + j * 8)));
    }
}

void silu_mul_avx512(float *gate, const float *up, size_t n)
{
    size_t i = 0;

    for (; i < n - n % RUN; i += RUN) {
        if (silu_usual(gate + i)) {
            silu_run(gate + i, up + i);
        } else {
            silu_mul_scalar(gate + i, up + i, RUN);
        }
    }
    silu_mul_scalar(gate + i, up + i, n - i);
}

/* ---- floats alone ---- */

/* body(i, lanes) for 16 values after the other; the last ones have a mask. */
#define BY_SIXTEENS(body)                                                                          \
    size_t i = 0;                                                                                  \
    for (; i < n - n % 16; i += 16) {                                                              \
        body(i, 0xffff)                                                                            \
    }                                                                                              \
    if (i < n) {                                                                                   \
        const __mmask16 rest = lanes_of(n - i);                                                    \
        body(i, rest)                                                                              \
    }

INLINE __m512 get(const float *p, const __mmask16 lanes)
{
    return lanes == 0xffff ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(lanes, p);
}

INLINE void put(float *p, const __mmask16 lanes, __m512 x)
{
    if (lanes == 0xffff) {
        _mm512_storeu_ps(p, x);
    } else {
        _mm512_mask_storeu_ps(p, lanes, x);
    }
}

/* A NaN is not below 0. */
INLINE void relu2_mul(float *gate, const float *up, const __mmask16 lanes)
{
    const __m512 x = get(gate, lanes);
    const __mmask16 kept = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NLT_UQ);
    const __m512 r = _mm512_maskz_mov_ps(kept, x);

    put(gate, lanes, _mm512_mul_ps(_mm512_mul_ps(r, r), get(up, lanes)));
}

void relu2_mul_avx512(float *gate, const float *up, size_t n)
{
#define BODY(i, lanes) relu2_mul(gate + (i), up + (i), lanes);
    BY_SIXTEENS(BODY)
#undef BODY
}

INLINE void scale_mul(const float *x, __m512 scale, const float *w, float *ret,
                      const __mmask16 lanes)
{
    put(ret, lanes, _mm512_mul_ps(_mm512_mul_ps(get(x, lanes), scale), get(w, lanes)));
}

void scale_mul_avx512(const float *x, float scale, const float *w, float *ret, size_t n)
{
    const __m512 factor = _mm512_set1_ps(scale);

#define BODY(i, lanes) scale_mul(x + (i), factor, w + (i), ret + (i), lanes);
    BY_SIXTEENS(BODY)
#undef BODY
}

INLINE void add_scaled(const float *x, const float *y, __m512 a, float *ret, const __mmask16 lanes)
{
    put(ret, lanes, _mm512_add_ps(get(x, lanes), _mm512_mul_ps(get(y, lanes), a)));
}

void add_scaled_avx512(const float *x, const float *y, float a, float *ret, size_t n)
{
    const __m512 factor = _mm512_set1_ps(a);

#define BODY(i, lanes) add_scaled(x + (i), y + (i), factor, ret + (i), lanes);
    BY_SIXTEENS(BODY)
#undef BODY
}

/* a' = a * c - b * s, b' = a * s + b * c, no operation fused */
INLINE void rotate16(__m512 *a, __m512 *b, __m512 c, __m512 s)
{
    const __m512 turned = _mm512_sub_ps(_mm512_mul_ps(*a, c), _mm512_mul_ps(*b, s));

    *b = _mm512_add_ps(_mm512_mul_ps(*a, s), _mm512_mul_ps(*b, c));
    *a = turned;
}

INLINE void rotate_apart(float *x, float *y, const float *c, const float *s, const __mmask16 lanes)
{
    __m512 a = get(x, lanes), b = get(y, lanes);

    rotate16(&a, &b, get(c, lanes), get(s, lanes));
    put(x, lanes, a);
    put(y, lanes, b);
}

void rotate_halves_avx512(float *x, const float *c, const float *s, size_t n)
{
#define BODY(i, lanes) rotate_apart(x + (i), x + n + (i), c + (i), s + (i), lanes);
    BY_SIXTEENS(BODY)
#undef BODY
}

/* Pairs are taken apart, a's and b's each in a register, and woven together again. */
INLINE void rotate_woven(float *x, const float *c, const float *s, const __mmask16 lanes,
                         const __mmask16 low, const __mmask16 high)
{
    const __m512i even =
        _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    const __m512i first = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i second =
        _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
    const __m512 p = get(x, low), q = get(x + 16, high);
    __m512 a = _mm512_permutex2var_ps(p, even, q), b = _mm512_permutex2var_ps(p, odd, q);

    rotate16(&a, &b, get(c, lanes), get(s, lanes));
    put(x, low, _mm512_permutex2var_ps(a, first, b));
    put(x + 16, high, _mm512_permutex2var_ps(a, second, b));
}

void rotate_pairs_avx512(float *x, const float *c, const float *s, size_t n)
{
    size_t i = 0;

    for (; i < n - n % 16; i += 16) {
        rotate_woven(x + 2 * i, c + i, s + i, 0xffff, 0xffff, 0xffff);
    }
    if (i < n) {
        const size_t left = 2 * (n - i);
        rotate_woven(x + 2 * i, c + i, s + i, lanes_of(n - i), lanes_of(left),
                     lanes_of(left < 16 ? 0 : left - 16));
    }
}
