/* NEON for one value after the other: exp and SiLU, norms, residuals, rotation. As in avx2_rows.c,
 * each lane does the operations of mathf.c in their order, doubles two to a register; what fills no
 * register goes through the scalar functions. */
#include "engine/kernels/neon_common.h"

#include <math.h>

#include "engine/mathf.h"

#define ROUNDER 0x1.8p52
#define LOG2_E 0x1.71547652b82fep0
#define LN2_HIGH 0x1.62e42feep-1
#define LN2_LOW 0x1.a39ef35793c76p-33

#define AT_ONCE 4 /* registers that go through exp together: one alone waits for itself */
#define EACH UNROLL for (size_t j = 0; j < AT_ONCE; j++)

INLINE float64x2_t mul(float64x2_t a, float64x2_t b)
{
    return vmulq_f64(a, b);
}

INLINE float64x2_t add(float64x2_t a, float64x2_t b)
{
    return vaddq_f64(a, b);
}

INLINE float64x2_t both(double x)
{
    return vdupq_n_f64(x);
}

/* a + x * b, two roundings */
INLINE float64x2_t line(double a, float64x2_t x, double b)
{
    return add(both(a), mul(x, both(b)));
}

/* exp_short() of mathf.c. Adding 1.5 * 2^52 leaves the nearest integer k in the low bits, from
 * where a shift puts it into the exponent. */
INLINE void exp_short(float64x2_t x[AT_ONCE])
{
    float64x2_t power[AT_ONCE];

    EACH
    {
        const float64x2_t shifted = add(mul(x[j], both(LOG2_E)), both(ROUNDER));
        const int64x2_t biased = vaddq_s64(vreinterpretq_s64_f64(shifted), vdupq_n_s64(1023));
        const float64x2_t k = vsubq_f64(shifted, both(ROUNDER));
        power[j] = vreinterpretq_f64_s64(vshlq_n_s64(biased, 52));
        x[j] = vsubq_f64(x[j], mul(k, both(LN2_HIGH)));
        x[j] = vsubq_f64(x[j], mul(k, both(LN2_LOW)));
    }
    EACH
    {
        const float64x2_t r = x[j], r2 = mul(r, r), r4 = mul(r2, r2);
        const float64x2_t low = add(add(both(1.0), r), mul(r2, line(0.5, r, 1.0 / 6)));
        const float64x2_t mid =
            add(line(1.0 / 24, r, 1.0 / 120), mul(r2, line(1.0 / 720, r, 1.0 / 5040)));
        x[j] = mul(add(low, mul(r4, add(mid, mul(r4, both(1.0 / 40320))))), power[j]);
    }
}

INLINE void widen8(float32x4_t a, float32x4_t b, float64x2_t ret[AT_ONCE])
{
    ret[0] = vcvt_f64_f32(vget_low_f32(a));
    ret[1] = vcvt_high_f64_f32(a);
    ret[2] = vcvt_f64_f32(vget_low_f32(b));
    ret[3] = vcvt_high_f64_f32(b);
}

INLINE float32x4_t narrow4(float64x2_t low, float64x2_t high)
{
    return vcvt_high_f32_f64(vcvt_f32_f64(low), high);
}

/* Beyond its limits the functions give what they give there; a NaN becomes the least here, and is
 * put back by the caller. */
INLINE float32x4_t held(float32x4_t x, float least, float most)
{
    const float32x4_t low = vdupq_n_f32(least), high = vdupq_n_f32(most);
    const float32x4_t above = vbslq_f32(vcgtq_f32(x, low), x, low);

    return vbslq_f32(vcltq_f32(above, high), above, high);
}

/* math_expf() */
INLINE void exp8(float32x4_t x[2])
{
    float64x2_t e[AT_ONCE];

    widen8(held(x[0], -104.0f, 89.0f), held(x[1], -104.0f, 89.0f), e);
    exp_short(e);
    UNROLL for (size_t i = 0; i < 2; i++)
    {
        x[i] = vbslq_f32(vceqq_f32(x[i], x[i]), narrow4(e[2 * i], e[2 * i + 1]), x[i]);
    }
}

/* math_siluf() */
INLINE void silu8(float32x4_t x[2])
{
    float64x2_t in[AT_ONCE], e[AT_ONCE];

    widen8(held(x[0], -120.0f, 120.0f), held(x[1], -120.0f, 120.0f), in);
    EACH
    {
        e[j] = vnegq_f64(in[j]);
    }
    exp_short(e);
    EACH
    {
        e[j] = vdivq_f64(in[j], add(both(1.0), e[j]));
    }
    UNROLL for (size_t i = 0; i < 2; i++)
    {
        const uint32x4_t within = vcleq_f32(x[i], vdupq_n_f32(120.0f));
        x[i] = vbslq_f32(within, narrow4(e[2 * i], e[2 * i + 1]), x[i]);
    }
}

static float largest_number(const float *x, size_t n)
{
    float32x4_t top = vdupq_n_f32(-INFINITY);
    float each[4], max = -INFINITY;
    size_t i = 0;

    for (; i < n - n % 4; i += 4) {
        const float32x4_t v = vld1q_f32(x + i);
        top = vbslq_f32(vcgtq_f32(v, top), v, top); /* a NaN is not greater */
    }
    vst1q_f32(each, top);
    for (size_t j = 0; j < 4; j++) {
        max = each[j] > max ? each[j] : max;
    }
    for (; i < n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    return max;
}

void exp_below_max_neon(float *x, size_t n)
{
    const float max = largest_number(x, n);
    size_t i = 0;

    for (; i < n - n % 8; i += 8) {
        float32x4_t e[2] = {vsubq_f32(vld1q_f32(x + i), vdupq_n_f32(max)),
                            vsubq_f32(vld1q_f32(x + i + 4), vdupq_n_f32(max))};
        exp8(e);
        vst1q_f32(x + i, e[0]);
        vst1q_f32(x + i + 4, e[1]);
    }
    for (; i < n; i++) {
        x[i] = math_expf(x[i] - max);
    }
}

void silu_mul_neon(float *gate, const float *up, size_t n)
{
    size_t i = 0;

    for (; i < n - n % 8; i += 8) {
        float32x4_t y[2] = {vld1q_f32(gate + i), vld1q_f32(gate + i + 4)};
        silu8(y);
        vst1q_f32(gate + i, vmulq_f32(y[0], vld1q_f32(up + i)));
        vst1q_f32(gate + i + 4, vmulq_f32(y[1], vld1q_f32(up + i + 4)));
    }
    silu_mul_scalar(gate + i, up + i, n - i);
}

void relu2_mul_neon(float *gate, const float *up, size_t n)
{
    size_t i = 0;

    for (; i < n - n % 4; i += 4) {
        const float32x4_t x = vld1q_f32(gate + i);
        const uint32x4_t below = vcltzq_f32(x); /* a NaN is not below */
        const float32x4_t r = vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), below));
        vst1q_f32(gate + i, vmulq_f32(vmulq_f32(r, r), vld1q_f32(up + i)));
    }
    relu2_mul_scalar(gate + i, up + i, n - i);
}

/* x - x is 0, or a NaN where x is not finite; a NaN stays in a maximum and in a sum. */
float largest_neon(const float *x, size_t n)
{
    float32x4_t top[4], bad = vdupq_n_f32(0.0f);
    float rest = x[0];
    size_t i = 0;

    assert(n >= 1);
    UNROLL for (size_t j = 0; j < 4; j++)
    {
        top[j] = vdupq_n_f32(-INFINITY);
    }
    for (; i < n - n % 16; i += 16) {
        UNROLL for (size_t j = 0; j < 4; j++)
        {
            const float32x4_t v = vld1q_f32(x + i + j * 4);
            top[j] = vmaxq_f32(top[j], v);
            bad = vaddq_f32(bad, vsubq_f32(v, v));
        }
    }
    const float all = vmaxvq_f32(
        vmaxq_f32(vmaxq_f32(top[0], top[1]), vmaxq_f32(top[2], top[3]))); /* of the registers */
    if (i < n) {
        rest = largest_scalar(x + i, n - i);
    }
    if (vaddvq_f32(bad) != 0.0f || rest != rest) {
        return NAN;
    }
    return (all > rest ? all : rest) + 0.0f;
}

void scale_mul_neon(const float *x, float scale, const float *w, float *ret, size_t n)
{
    size_t i = 0;

    for (; i < n - n % 4; i += 4) {
        vst1q_f32(ret + i, vmulq_f32(vmulq_n_f32(vld1q_f32(x + i), scale), vld1q_f32(w + i)));
    }
    scale_mul_scalar(x + i, scale, w + i, ret + i, n - i);
}

void add_scaled_neon(const float *x, const float *y, float a, float *ret, size_t n)
{
    size_t i = 0;

    for (; i < n - n % 4; i += 4) {
        vst1q_f32(ret + i, vaddq_f32(vld1q_f32(x + i), vmulq_n_f32(vld1q_f32(y + i), a)));
    }
    add_scaled_scalar(x + i, y + i, a, ret + i, n - i);
}

/* Four pairs a, b. */
INLINE void turn(float32x4_t *a, float32x4_t *b, float32x4_t c, float32x4_t s)
{
    const float32x4_t a0 = *a, b0 = *b;

    *a = vsubq_f32(vmulq_f32(a0, c), vmulq_f32(b0, s));
    *b = vaddq_f32(vmulq_f32(a0, s), vmulq_f32(b0, c));
}

/* The last pairs, from pair i on. */
#define ROTATE_REST(a_at, b_at)                                                                    \
    for (; i < n; i++) {                                                                           \
        const float a = x[a_at], b = x[b_at];                                                      \
        x[a_at] = a * c[i] - b * s[i];                                                             \
        x[b_at] = a * s[i] + b * c[i];                                                             \
    }

void rotate_halves_neon(float *x, const float *c, const float *s, size_t n)
{
    size_t i = 0;

    for (; i < n - n % 4; i += 4) {
        float32x4_t a = vld1q_f32(x + i), b = vld1q_f32(x + n + i);
        turn(&a, &b, vld1q_f32(c + i), vld1q_f32(s + i));
        vst1q_f32(x + i, a);
        vst1q_f32(x + n + i, b);
    }
    ROTATE_REST(i, n + i)
}

void rotate_pairs_neon(float *x, const float *c, const float *s, size_t n)
{
    size_t i = 0;

    for (; i < n - n % 4; i += 4) {
        float32x4x2_t ab = vld2q_f32(x + 2 * i);
        turn(&ab.val[0], &ab.val[1], vld1q_f32(c + i), vld1q_f32(s + i));
        vst2q_f32(x + 2 * i, ab);
    }
    ROTATE_REST(2 * i, 2 * i + 1)
}
