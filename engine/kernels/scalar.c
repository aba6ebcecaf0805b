/* The definition of every slot but the panels (scalar_panels.c) and those of attention and of
 * single values (scalar_rows.c), in plain C.
 *
 * Nothing here is clever on purpose: each function is the sentence of kernels.h written out, and
 * the other levels are held to its bits. The float operations stand in the order that
 * engine/NUMERICS.md gives. fmaf() is the C library's: one instruction where the chip has it, an
 * exact routine where it does not. */
#include "engine/kernels/levels.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

_Static_assert(FLT_EVAL_METHOD == 0, "float operations must round to float");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed weights are little-endian");

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

float f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exponent = h >> 10 & 31;
    const uint32_t mantissa = h & 1023;

    if (exponent == 0) { /* zero or subnormal: mantissa * 2^-24, exact */
        const float x = (float)mantissa * 0x1p-24f;
        return float_of(sign | bits_of(x));
    }
    if (exponent == 31) {
        const uint32_t quiet = mantissa ? 0x400000 : 0;
        return float_of(sign | 0x7f800000 | quiet | mantissa << 13);
    }
    return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

float bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t f16_from_f32(float x)
{
    const uint32_t u = bits_of(x);
    const uint32_t sign = u >> 16 & 0x8000;
    const uint32_t magnitude = u & 0x7fffffff;

    if (magnitude > 0x7f800000) {
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff)); /* NaN, made quiet */
    }
    if (magnitude >= 0x477ff000) { /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00);
    }
    if (magnitude < 0x38800000) { /* below 2^-14: a multiple of 2^-24 */
        /* 0.5 has ulp 2^-24, so the addition itself rounds to nearest even. */
        const float rounded = float_of(magnitude) + 0.5f;
        return (uint16_t)(sign | (bits_of(rounded) - 0x3f000000));
    }
    const uint32_t odd = magnitude >> 13 & 1;
    return (uint16_t)(sign | ((magnitude - (112u << 23) + 0xfff + odd) >> 13));
}

/* max |x| as bits: magnitudes order like their bits, and NaN lies above infinity. */
static uint32_t top_of(const float *x, size_t n)
{
    uint32_t top = 0;

    for (size_t i = 0; i < n; i++) {
        const uint32_t magnitude = bits_of(x[i]) & 0x7fffffff;
        top = magnitude > top ? magnitude : top;
    }
    return top;
}

/* q = x * inverse, rounded and clamped; returns the sum of q. */
static int32_t quant_block(const float *x, size_t n, float inverse, int8_t *q)
{
    int32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        /* The ulp at 1.5 * 2^23 is 1, so the addition rounds to nearest even. */
        const float rounded = (x[i] * inverse + 0x1.8p23f) - 0x1.8p23f;
        const int v = (int)rounded;
        q[i] = (int8_t)(v > 127 ? 127 : v < -127 ? -127 : v);
        sum += q[i];
    }
    return sum;
}

void quant_scalar(const float *x, size_t n, size_t block, int8_t *q, float *d, int32_t *s)
{
    assert(block >= 1 && n % block == 0 && n <= KERN_COLS_MAX);

    for (size_t b = 0; b < n / block; b++) {
        const uint32_t top = top_of(x + b * block, block);
        const float amax = float_of(top);
        if (top >= 0x7f800000 || amax < 0x1p-100f) {
            d[b] = top >= 0x7f800000 ? float_of(0x7fc00000) : 0.0f;
            memset(q + b * block, 0, block);
            s[b] = 0;
            continue;
        }
        d[b] = amax / 127.0f;
        s[b] = quant_block(x + b * block, block, 127.0f / amax, q + b * block);
    }
}

void quant_token_scalar(const float *x, size_t n, size_t block, int8_t *q, float *d, int32_t *s)
{
    assert(block >= 1 && n % block == 0 && n <= KERN_COLS_MAX);

    const uint32_t top = top_of(x, n);
    const bool broken = top >= 0x7f800000;
    const float a = float_of(top) > 1e-5f ? float_of(top) : 1e-5f;
    for (size_t b = 0; b < n / block; b++) {
        d[b] = broken ? float_of(0x7fc00000) : 127.0f / a;
        if (broken) {
            memset(q + b * block, 0, block);
            s[b] = 0;
        } else {
            s[b] = quant_block(x + b * block, block, 127.0f / a, q + b * block);
        }
    }
}

float binarize_scalar(const float *x, const float *threshold, size_t n, uint8_t *bits)
{
    bool broken = false;

    assert(n % 32 == 0 && n <= KERN_COLS_MAX);

    memset(bits, 0, n / 8);
    for (size_t i = 0; i < n; i++) {
        bits[i / 8] |= (uint8_t)((x[i] >= threshold[i] ? 0 : 1) << i % 8);
        broken = broken || (bits_of(x[i]) & 0x7f800000) == 0x7f800000;
    }
    return broken ? float_of(0x7fc00000) : 1.0f;
}

static float tree(float p[16])
{
    for (size_t half = 8; half > 0; half /= 2) {
        for (size_t j = 0; j < half; j++) {
            p[j] += p[j + half];
        }
    }
    return p[0];
}

float dot_f32_scalar(const float *w, const float *x, size_t n)
{
    float p[16] = {0};

    for (size_t i = 0; i < n; i++) {
        p[i % 16] = fmaf(w[i], x[i], p[i % 16]);
    }
    return tree(p);
}

float dot_f16_scalar(const uint16_t *w, const float *x, size_t n)
{
    float p[16] = {0};

    for (size_t i = 0; i < n; i++) {
        p[i % 16] = fmaf(f16_to_f32(w[i]), x[i], p[i % 16]);
    }
    return tree(p);
}

float dot_bf16_scalar(const uint16_t *w, const float *x, size_t n)
{
    float p[16] = {0};

    for (size_t i = 0; i < n; i++) {
        p[i % 16] = fmaf(bf16_to_f32(w[i]), x[i], p[i % 16]);
    }
    return tree(p);
}

void f32_to_f16_scalar(const float *x, uint16_t *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = f16_from_f32(x[i]);
    }
}
