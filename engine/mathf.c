/* Elementary functions from exactly rounded operations only.
 *
 * The C library's exp() differs from one machine to the next in the last bit, and one bit is enough
 * for two boards to choose different tokens. Here every function is a range reduction followed by a
 * polynomial, in double, with each operation written out in one order: + - * / are rounded the same
 * way by every IEEE 754 machine, and the build forbids contracting them (-ffp-contract=off). Double
 * leaves about 29 bits beyond float, so the plain series below are accurate far beyond what the
 * final rounding keeps. */
#include "engine/mathf.h"

#include <float.h>
#include <stdint.h>
#include <string.h>

_Static_assert(FLT_EVAL_METHOD == 0, "double operations must round to double");

/* Adding and subtracting it rounds to the nearest integer, ties to even, for |x| < 2^51. */
#define ROUNDER 0x1.8p52

#define LOG2_E 0x1.71547652b82fep0
#define LN2_HIGH 0x1.62e42feep-1 /* ln 2 in 33 bits: k * LN2_HIGH is exact for |k| < 2^20 */
#define LN2_LOW 0x1.a39ef35793c76p-33

static uint64_t bits_of(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

static double double_of(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

/* 2^k for k in -1022..1023 */
static double power_of_two(int k)
{
    return double_of((uint64_t)(k + 1023) << 52);
}

/* e^x for |x| <= 700, relative error below 3e-10, 1/200 of a float's ulp. The terms are r^i / i!,
 * paired so that the chip need not wait for one before it starts the next. */
static double exp_short(double x)
{
    const double k = (x * LOG2_E + ROUNDER) - ROUNDER;
    const double r = (x - k * LN2_HIGH) - k * LN2_LOW; /* |r| < 0.347 */
    const double r2 = r * r, r4 = r2 * r2;
    const double low = (1.0 + r) + r2 * (0.5 + r * (1.0 / 6));
    const double mid = (1.0 / 24 + r * (1.0 / 120)) + r2 * (1.0 / 720 + r * (1.0 / 5040));
    const double p = low + r4 * (mid + r4 * (1.0 / 40320));

    return p * power_of_two((int)k);
}

float math_expf(float x)
{
    if (x != x) {
        return x;
    }
    if (x > 89.0f) { /* beyond the largest float's logarithm, 88.72 */
        return double_of(0x7ff0000000000000);
    }
    if (x < -104.0f) { /* below half the smallest subnormal */
        return 0.0f;
    }
    return (float)exp_short(x);
}

float math_siluf(float x)
{
    if (x < -120.0f) { /* x * e^x is below half the smallest subnormal; covers -inf too */
        return -0.0f;
    }
    if (x > 120.0f) { /* 1 + e^-x is 1 */
        return x;
    }
    if (x != x) {
        return x;
    }
    return (float)(x / (1.0 + exp_short(-(double)x)));
}

double math_log(double x)
{
    uint64_t u = bits_of(x);
    int k = 0;

    if (x != x || u == 0x7ff0000000000000) {
        return x;
    }
    if (x <= 0) {
        return double_of(x == 0 ? 0xfff0000000000000 : 0x7ff8000000000000);
    }
    if (u < 0x0010000000000000) { /* subnormal */
        u = bits_of(x * 0x1p54);
        k = -54;
    }
    /* x = m * 2^k with m in [sqrt(1/2), sqrt(2)): 0x3fe6a09e... is sqrt(1/2). */
    const uint64_t above = u - 0x3fe6a09e00000000;
    k += (int)((int64_t)above >> 52);
    const double m = double_of((above & 0x000fffffffffffff) + 0x3fe6a09e00000000);

    /* log m = 2 atanh(s) = 2s + 2s^3/3 + 2s^5/5 ..., |s| < 0.172 */
    const double f = m - 1.0;
    const double s = f / (2.0 + f);
    const double z = s * s;
    double p = 2.0 / 23;

    p = p * z + 2.0 / 21;
    p = p * z + 2.0 / 19;
    p = p * z + 2.0 / 17;
    p = p * z + 2.0 / 15;
    p = p * z + 2.0 / 13;
    p = p * z + 2.0 / 11;
    p = p * z + 2.0 / 9;
    p = p * z + 2.0 / 7;
    p = p * z + 2.0 / 5;
    p = p * z + 2.0 / 3;
    const double low = s * (p * z) + k * LN2_LOW;
    return k * LN2_HIGH + (2.0 * s + low);
}

double math_pow(double base, double y)
{
    const double x = y * math_log(base);

    if (x != x) {
        return x;
    }
    if (x > 709.8) {
        return double_of(0x7ff0000000000000);
    }
    if (x < -745.2) {
        return 0.0;
    }
    const double k = (x * LOG2_E + ROUNDER) - ROUNDER;
    const double r = (x - k * LN2_HIGH) - k * LN2_LOW;
    double p = 1.0 / 6227020800;

    p = p * r + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    /* In two steps, since 2^k itself may lie outside the doubles while the result does not. */
    const int half = (int)k / 2;
    return p * power_of_two(half) * power_of_two((int)k - half);
}

/* pi/2 in four parts. The first three have at most 22 bits, so that n times each is exact for
 * |n| < 2^31; together they hold it to 2^-120. */
#define HALF_PI_1 0x1.921fbp0
#define HALF_PI_2 0x1.5110bp-22
#define HALF_PI_3 0x1.184698p-44
#define HALF_PI_4 0x1.3198a2e037073p-69
#define TWO_OVER_PI 0x1.45f306dc9c883p-1

static double sin_near(double r)
{
    const double z = r * r;
    double p = -1.0 / 1307674368000;

    p = p * z + 1.0 / 6227020800;
    p = p * z - 1.0 / 39916800;
    p = p * z + 1.0 / 362880;
    p = p * z - 1.0 / 5040;
    p = p * z + 1.0 / 120;
    p = p * z - 1.0 / 6;
    return r + r * (z * p);
}

static double cos_near(double r)
{
    const double z = r * r;
    double p = 1.0 / 20922789888000;

    p = p * z - 1.0 / 87178291200;
    p = p * z + 1.0 / 479001600;
    p = p * z - 1.0 / 3628800;
    p = p * z + 1.0 / 40320;
    p = p * z - 1.0 / 720;
    p = p * z + 1.0 / 24;
    p = p * z - 0.5;
    return 1.0 + z * p;
}

void math_sincos(double x, float *ret_sin, float *ret_cos)
{
    if (!(x >= -0x1p30 && x <= 0x1p30)) { /* outside the contract, NaN included */
        *ret_sin = *ret_cos = (float)double_of(0x7ff8000000000000);
        return;
    }
    /* x = n * pi/2 + r. The first two subtractions are exact; the third's error is carried, so
     * that r keeps its bits even where x is very close to a multiple of pi/2. */
    const double n = (x * TWO_OVER_PI + ROUNDER) - ROUNDER;
    const double a = (x - n * HALF_PI_1) - n * HALF_PI_2;
    const double b = n * HALF_PI_3;
    const double c = a - b;
    const double r = c + (((a - c) - b) - n * HALF_PI_4);
    const float s = (float)sin_near(r);
    const float t = (float)cos_near(r);

    switch ((int64_t)n & 3) {
    case 0:
        *ret_sin = s;
        *ret_cos = t;
        break;
    case 1:
        *ret_sin = t;
        *ret_cos = -s;
        break;
    case 2:
        *ret_sin = -s;
        *ret_cos = -t;
        break;
    default:
        *ret_sin = -t;
        *ret_cos = s;
        break;
    }
}
