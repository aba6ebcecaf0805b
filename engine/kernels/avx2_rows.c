/* AVX2 for one value after the other: exp and SiLU, norms, residuals, rotation. Lanes are
 * independent and each does the operations of mathf.c in their order, so the bits are those of the
 * scalar functions; what fills no register goes through those.
 *
 * exp works on doubles, four to a register. Adding 1.5 * 2^52 leaves the nearest integer k in the
 * low bits, from where a shift puts it into the exponent. The special cases of exp come by
 * themselves: beyond the limits the argument is held at them, where the result, rounded to float,
 * is the same (0 or infinity); NaN is put back at the end. Those of SiLU are looked for. */
#include "engine/kernels/avx2_common.h"

#include <math.h>

#include "engine/mathf.h"

#define ROUNDER 0x1.8p52
#define LOG2_E 0x1.71547652b82fep0
#define LN2_HIGH 0x1.62e42feep-1
#define LN2_LOW 0x1.a39ef35793c76p-33

INLINE __m256d mul(__m256d a, __m256d b)
{
    return _mm256_mul_pd(a, b);
}

INLINE __m256d add(__m256d a, __m256d b)
{
    return _mm256_add_pd(a, b);
}

/* a + x * b, two roundings */
INLINE __m256d line(double a, __m256d x, double b)
{
    return add(_mm256_set1_pd(a), mul(x, _mm256_set1_pd(b)));
}

/* e^x in two steps. Inside one step a register waits for itself and several side by side fill the
 * time; more than the 16 there are lie in memory between the steps. */

/* Between the steps: x without the nearest multiple k of ln 2, and k where the exponent is. */
struct reduced {
    __m256d r;
    __m256i exponent;
};

/* exp_short() of mathf.c, up to r. k * LN2_HIGH is exact, so that taking it away at once rounds as
 * the two operations there. */
INLINE struct reduced reduce(__m256d x)
{
    const __m256d rounder = _mm256_set1_pd(ROUNDER);
    const __m256d shifted = add(mul(x, _mm256_set1_pd(LOG2_E)), rounder);
    const __m256d k = _mm256_sub_pd(shifted, rounder);
    const __m256d most = _mm256_fnmadd_pd(k, _mm256_set1_pd(LN2_HIGH), x);

    return (struct reduced){.r = _mm256_sub_pd(most, mul(k, _mm256_set1_pd(LN2_LOW))),
                            .exponent = _mm256_slli_epi64(_mm256_castpd_si256(shifted), 52)};
}

/* The rest of it. The series is near 1, and times 2^k is k added to its exponent. */
INLINE __m256d raise(struct reduced x)
{
    const __m256d r = x.r, r2 = mul(r, r), r4 = mul(r2, r2);
    const __m256d low = add(add(_mm256_set1_pd(1.0), r), mul(r2, line(0.5, r, 1.0 / 6)));
    const __m256d mid = add(line(1.0 / 24, r, 1.0 / 120), mul(r2, line(1.0 / 720, r, 1.0 / 5040)));
    const __m256d p = add(low, mul(r4, add(mid, mul(r4, _mm256_set1_pd(1.0 / 40320)))));

    return _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(p), x.exponent));
}

/* ---- exp ---- */

#define AT_ONCE 8         /* registers that go through exp together */
#define RUN (AT_ONCE * 4) /* floats of one go */
#define REGS (RUN / 8)    /* their registers */
#define EACH UNROLL for (size_t j = 0; j < AT_ONCE; j++)

INLINE void exp_short(__m256d x[AT_ONCE])
{
    struct reduced between[AT_ONCE];

    EACH
    {
        between[j] = reduce(x[j]);
    }
    EACH
    {
        x[j] = raise(between[j]);
    }
}

/* min and max return their second operand when one is NaN */
INLINE __m256 held(__m256 x, float least, float most)
{
    return _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(least)), _mm256_set1_ps(most));
}

INLINE void to_doubles(const __m256 x[REGS], float least, float most, __m256d ret[AT_ONCE])
{
    UNROLL for (size_t i = 0; i < REGS; i++)
    {
        const __m256 h = held(x[i], least, most);
        ret[2 * i] = _mm256_cvtps_pd(_mm256_castps256_ps128(h));
        ret[2 * i + 1] = _mm256_cvtps_pd(_mm256_extractf128_ps(h, 1));
    }
}

INLINE __m256 narrow8(__m256d low, __m256d high)
{
    return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low));
}

/* math_expf() */
INLINE void exp_run(__m256 x[REGS])
{
    __m256d e[AT_ONCE];

    to_doubles(x, -104.0f, 89.0f, e);
    exp_short(e);
    UNROLL for (size_t i = 0; i < REGS; i++)
    {
        const __m256 nan = _mm256_cmp_ps(x[i], x[i], _CMP_UNORD_Q);
        x[i] = _mm256_blendv_ps(narrow8(e[2 * i], e[2 * i + 1]), x[i], nan);
    }
}

static float largest_number(const float *x, size_t n)
{
    float each[8], max = -INFINITY;
    __m256 top = _mm256_set1_ps(-INFINITY);
    size_t i = 0;

    for (; i < n - n % 8; i += 8) {
        top = _mm256_max_ps(_mm256_loadu_ps(x + i), top); /* of a NaN and top: top */
    }
    _mm256_storeu_ps(each, top);
    for (size_t j = 0; j < 8; j++) {
        max = each[j] > max ? each[j] : max;
    }
    for (; i < n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    return max;
}

INLINE void exp_below(float *x, float max)
{
    __m256 e[REGS];

    UNROLL for (size_t i = 0; i < REGS; i++)
    {
        e[i] = _mm256_sub_ps(_mm256_loadu_ps(x + i * 8), _mm256_set1_ps(max));
    }
    exp_run(e);
    UNROLL for (size_t i = 0; i < REGS; i++)
    {
        _mm256_storeu_ps(x + i * 8, e[i]);
    }
}

/* What fills no run goes through one, too: a run costs as much as four values one by one. */
void exp_below_max_avx2(float *x, size_t n)
{
    const float max = largest_number(x, n);
    size_t i = 0;

    for (; i + RUN <= n; i += RUN) {
        exp_below(x + i, max);
    }
    if (i < n) {
        float rest[RUN] = {0};
        memcpy(rest, x + i, (n - i) * sizeof(*x));
        exp_below(rest, max);
        memcpy(x + i, rest, (n - i) * sizeof(*x));
    }
}

/* ---- SiLU ---- */

/* Sixteen values take the first step while the sixteen before them take the second and those before
 * these are divided: none waits for what was just begun. */
#define SILU_REGS 4
#define SILU_STEP (SILU_REGS * 4)
#define SILU_RUN (SILU_STEP * 4)
#define OF_STEP UNROLL for (size_t j = 0; j < SILU_REGS; j++)

struct silu_reduced {
    struct reduced x[SILU_REGS];
};

struct silu_raised {
    __m256d e[SILU_REGS];
};

INLINE __m256d four(const float *x)
{
    return _mm256_cvtps_pd(_mm_loadu_ps(x));
}

INLINE struct silu_reduced silu_reduce(const float *gate)
{
    struct silu_reduced ret;

    OF_STEP
    {
        ret.x[j] = reduce(_mm256_xor_pd(four(gate + j * 4), _mm256_set1_pd(-0.0)));
    }
    return ret;
}

INLINE struct silu_raised silu_raise(struct silu_reduced between)
{
    struct silu_raised ret;

    OF_STEP
    {
        ret.e[j] = raise(between.x[j]);
    }
    return ret;
}

INLINE void silu_end(struct silu_raised power, float *gate, const float *up)
{
    OF_STEP
    {
        const __m256d below = add(_mm256_set1_pd(1.0), power.e[j]);
        const __m128 silu = _mm256_cvtpd_ps(_mm256_div_pd(four(gate + j * 4), below));
        _mm_storeu_ps(gate + j * 4, _mm_mul_ps(silu, _mm_loadu_ps(up + j * 4)));
    }
}

/* Is every value of a run where math_siluf() computes, within +-120? Magnitudes order like their
 * bits, NaN above infinity. */
INLINE bool silu_usual(const float *gate)
{
    const __m256i most = _mm256_castps_si256(_mm256_set1_ps(120.0f));
    __m256i top = most;

    UNROLL for (size_t i = 0; i < SILU_RUN; i += 8)
    {
        const __m256i magnitude = _mm256_and_si256(load(gate + i), _mm256_set1_epi32(0x7fffffff));
        top = _mm256_max_epu32(top, magnitude);
    }
    return _mm256_movemask_epi8(_mm256_cmpeq_epi32(top, most)) == -1;
}

INLINE void silu_run(float *gate, const float *up)
{
    struct silu_reduced between = silu_reduce(gate);
    struct silu_raised power = silu_raise(between);
    size_t i = 0;

    between = silu_reduce(gate + SILU_STEP);
    for (; i < SILU_RUN - 2 * SILU_STEP; i += SILU_STEP) {
        const struct silu_reduced next = silu_reduce(gate + i + 2 * SILU_STEP);
        const struct silu_raised next_power = silu_raise(between);
        silu_end(power, gate + i, up + i);
        between = next;
        power = next_power;
    }
    silu_end(power, gate + i, up + i);
    silu_end(silu_raise(between), gate + i + SILU_STEP, up + i + SILU_STEP);
}

void silu_mul_avx2(float *gate, const float *up, size_t n)
{
    size_t i = 0;

    for (; i + SILU_RUN <= n; i += SILU_RUN) {
        if (silu_usual(gate + i)) {
            silu_run(gate + i, up + i);
        } else {
            silu_mul_scalar(gate + i, up + i, SILU_RUN);
        }
    }
    silu_mul_scalar(gate + i, up + i, n - i);
}

void relu2_mul_avx2(float *gate, const float *up, size_t n)
{
    size_t i = 0;

    for (; i < n - n % 8; i += 8) {
        const __m256 x = _mm256_loadu_ps(gate + i);
        const __m256 below = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ);
        const __m256 r = _mm256_andnot_ps(below, x); /* a NaN is not below */
        const __m256 y = _mm256_mul_ps(_mm256_mul_ps(r, r), _mm256_loadu_ps(up + i));
        _mm256_storeu_ps(gate + i, y);
    }
    relu2_mul_scalar(gate + i, up + i, n - i);
}

/* x - x is 0, or a NaN where x is not finite. */
float largest_avx2(const float *x, size_t n)
{
    __m256 top[4], bad = _mm256_setzero_ps();
    float each[8], rest = x[0];
    size_t i = 0;

    assert(n >= 1);
    UNROLL for (size_t j = 0; j < 4; j++)
    {
        top[j] = _mm256_set1_ps(-INFINITY);
    }
    for (; i < n - n % 32; i += 32) {
        UNROLL for (size_t j = 0; j < 4; j++)
        {
            const __m256 v = _mm256_loadu_ps(x + i + j * 8);
            top[j] = _mm256_max_ps(top[j], v);
            bad = _mm256_or_ps(bad, _mm256_sub_ps(v, v));
        }
    }
    top[0] = _mm256_max_ps(_mm256_max_ps(top[0], top[1]), _mm256_max_ps(top[2], top[3]));
    _mm256_storeu_ps(each, top[0]);
    if (i < n) {
        rest = largest_scalar(x + i, n - i);
    }
    if (_mm256_movemask_ps(_mm256_cmp_ps(bad, bad, _CMP_UNORD_Q)) != 0 || rest != rest) {
        return NAN;
    }
    for (size_t j = 0; j < 8; j++) {
        rest = each[j] > rest ? each[j] : rest;
    }
    return rest + 0.0f;
}

void scale_mul_avx2(const float *x, float scale, const float *w, float *ret, size_t n)
{
    const __m256 factor = _mm256_set1_ps(scale);
    size_t i = 0;

    for (; i < n - n % 8; i += 8) {
        const __m256 y = _mm256_mul_ps(_mm256_loadu_ps(x + i), factor);
        _mm256_storeu_ps(ret + i, _mm256_mul_ps(y, _mm256_loadu_ps(w + i)));
    }
    scale_mul_scalar(x + i, scale, w + i, ret + i, n - i);
}

void add_scaled_avx2(const float *x, const float *y, float a, float *ret, size_t n)
{
    const __m256 factor = _mm256_set1_ps(a);
    size_t i = 0;

    for (; i < n - n % 8; i += 8) {
        const __m256 more = _mm256_mul_ps(_mm256_loadu_ps(y + i), factor);
        _mm256_storeu_ps(ret + i, _mm256_add_ps(_mm256_loadu_ps(x + i), more));
    }
    add_scaled_scalar(x + i, y + i, a, ret + i, n - i);
}

/* The last pairs, from pair i on. */
#define ROTATE_REST(a_at, b_at)                                                                    \
    for (; i < n; i++) {                                                                           \
        const float a = x[a_at], b = x[b_at];                                                      \
        x[a_at] = a * c[i] - b * s[i];                                                             \
        x[b_at] = a * s[i] + b * c[i];                                                             \
    }

void rotate_halves_avx2(float *x, const float *c, const float *s, size_t n)
{
    size_t i = 0;

    for (; i < n - n % 8; i += 8) {
        const __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + n + i);
        const __m256 cosine = _mm256_loadu_ps(c + i), sine = _mm256_loadu_ps(s + i);
        _mm256_storeu_ps(x + i, _mm256_sub_ps(_mm256_mul_ps(a, cosine), _mm256_mul_ps(b, sine)));
        _mm256_storeu_ps(x + n + i,
                         _mm256_add_ps(_mm256_mul_ps(a, sine), _mm256_mul_ps(b, cosine)));
    }
    ROTATE_REST(i, n + i)
}

/* Each of four floats twice. */
INLINE __m256 doubled(const float *p)
{
    const __m128 four = _mm_loadu_ps(p);

    return _mm256_set_m128(_mm_unpackhi_ps(four, four), _mm_unpacklo_ps(four, four));
}

/* Of a, b: a * c - b * s in the even lane, b * c + a * s in the odd one; sums may be swapped. */
void rotate_pairs_avx2(float *x, const float *c, const float *s, size_t n)
{
    size_t i = 0;

    for (; i < n - n % 4; i += 4) {
        const __m256 ab = _mm256_loadu_ps(x + 2 * i), ba = _mm256_permute_ps(ab, 0xb1);
        const __m256 with_c = _mm256_mul_ps(ab, doubled(c + i));
        const __m256 with_s = _mm256_mul_ps(ba, doubled(s + i));
        _mm256_storeu_ps(x + 2 * i, _mm256_addsub_ps(with_c, with_s));
    }
    ROTATE_REST(2 * i, 2 * i + 1)
}
