/* The definition of every slot, in plain C.
 *
 * Nothing here is clever on purpose: each function is the sentence of kernels.h written out, and the
 * other levels are held to its bits. The integer sums are taken straight from the weights and the
 * quantized values, so act->s is not needed here; the float operations stand in the order that
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

static float scale_at(const uint8_t *group, size_t row)
{
    uint16_t h;
    memcpy(&h, group + 2 * row, sizeof(h));
    return f16_to_f32(h);
}

void panel_b1_scalar(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,
                     size_t out_stride)
{
    assert(n_cols % B1_GROUP == 0 && n_cols <= KERN_COLS_MAX);

    for (size_t t = 0; t < act->n_tokens; t++) {
        const int8_t *q = act->q + t * act->q_stride;
        const float *d = act->d + t * act->d_stride;
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            float acc = 0;
            for (size_t g = 0; g < n_cols / B1_GROUP; g++) {
                const uint8_t *group = panel + g * B1_GROUP_BYTES;
                float part = 0;
                for (size_t b = g * 4; b < g * 4 + 4; b++) {
                    int32_t s = 0;
                    for (size_t c = b * ACT_BLOCK; c < (b + 1) * ACT_BLOCK; c++) {
                        const uint8_t *tile = group + 32 + c % B1_GROUP / 4 * 8;
                        const bool plus = tile[row / 2] >> (row % 2 * 4 + c % 4) & 1;
                        s += plus ? q[c] : -q[c];
                    }
                    part = fmaf(d[b], (float)s, part);
                }
                acc = fmaf(scale_at(group, row), part, acc);
            }
            out[t * out_stride + row] = acc;
        }
    }
}

void panel_i8_scalar(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,
                     size_t out_stride)
{
    assert(n_cols % I8_GROUP == 0 && n_cols <= KERN_COLS_MAX);

    for (size_t t = 0; t < act->n_tokens; t++) {
        const int8_t *q = act->q + t * act->q_stride;
        const float *d = act->d + t * act->d_stride;
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            float acc = 0;
            for (size_t g = 0; g < n_cols / I8_GROUP; g++) {
                const uint8_t *group = panel + g * I8_GROUP_BYTES;
                const int8_t *tiles = (const int8_t *)group + 32;
                int32_t s = 0;
                for (size_t c = 0; c < I8_GROUP; c++) {
                    s += tiles[c / 4 * 64 + row * 4 + c % 4] * q[g * I8_GROUP + c];
                }
                const float part = fmaf(d[g], (float)s, 0.0f);
                acc = fmaf(scale_at(group, row), part, acc);
            }
            out[t * out_stride + row] = acc;
        }
    }
}

void panel_t2_scalar(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,
                     size_t out_stride)
{
    assert(n_cols % T2_GROUP == 0 && n_cols <= KERN_COLS_MAX);

    for (size_t t = 0; t < act->n_tokens; t++) {
        const int8_t *q = act->q + t * act->q_stride;
        const float *d = act->d + t * act->d_stride;
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            float acc = 0;
            for (size_t g = 0; g < n_cols / T2_GROUP; g++) {
                const uint8_t *group = panel + g * T2_GROUP_BYTES;
                int32_t s = 0;
                for (size_t c = 0; c < T2_GROUP; c++) {
                    const uint8_t *line = group + 32 + c / 16 * 64;
                    const int code = line[row * 4 + c % 4] >> (c % 16 / 4 * 2) & 3;
                    s += (code - 1) * q[g * T2_GROUP + c];
                }
                const float part = fmaf(d[g], (float)s, 0.0f);
                acc = fmaf(scale_at(group, row), part, acc);
            }
            out[t * out_stride + row] = acc;
        }
    }
}

void quant_scalar(const float *x, size_t n, size_t block, int8_t *q, float *d, int32_t *s)
{
    assert((block == ACT_BLOCK || block == ACT_BLOCK_T2) && n % block == 0);

    for (size_t b = 0; b < n / block; b++) {
        const float *xb = x + b * block;
        int8_t *qb = q + b * block;
        uint32_t top = 0; /* magnitudes order like their bits, and NaN lies above infinity */
        for (size_t i = 0; i < block; i++) {
            const uint32_t magnitude = bits_of(xb[i]) & 0x7fffffff;
            top = magnitude > top ? magnitude : top;
        }
        const float amax = float_of(top);
        s[b] = 0;
        if (top >= 0x7f800000 || amax < 0x1p-100f) {
            d[b] = top >= 0x7f800000 ? float_of(0x7fc00000) : 0.0f;
            memset(qb, 0, block);
            continue;
        }
        d[b] = amax / 127.0f;
        const float inverse = 127.0f / amax;
        for (size_t i = 0; i < block; i++) {
            /* The ulp at 1.5 * 2^23 is 1, so the addition rounds to nearest even. */
            const float rounded = (xb[i] * inverse + 0x1.8p23f) - 0x1.8p23f;
            const int v = (int)rounded;
            qb[i] = (int8_t)(v > 127 ? 127 : v < -127 ? -127 : v);
            s[b] += qb[i];
        }
    }
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

void axpy_f32_scalar(float a, const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = fmaf(a, x[i], y[i]);
    }
}

void axpy_f16_scalar(float a, const uint16_t *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = fmaf(a, f16_to_f32(x[i]), y[i]);
    }
}

void f32_to_f16_scalar(const float *x, uint16_t *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = f16_from_f32(x[i]);
    }
}
