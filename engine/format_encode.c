/* Floats to GGUF rows, as the usual encoders of the formats do: each scale and code is a formula of
 * its block alone, without a search (engine/NUMERICS.md, "Encoding"). */
#include "engine/format.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "engine/format_code.h"

/* Round half away from zero, as the usual encoders do; NaN gives lo. */
static int round_clamp(float v, int lo, int hi)
{
    const float r = roundf(v);

    if (!(r > (float)lo)) {
        return lo;
    }
    return r < (float)hi ? (int)r : hi;
}

static float amax_of(const float *x, size_t n)
{
    float amax = 0;

    for (size_t i = 0; i < n; i++) {
        const float a = fabsf(x[i]);
        amax = a > amax ? a : amax;
    }
    return amax;
}

/* 1/d as the usual encoders take it, once a block; 0 where there is none that a float holds. */
static float inverse(float d)
{
    return d != 0 && isfinite(1.0f / d) ? 1.0f / d : 0.0f;
}

/* The code of a ternary weight: 0, 1, 2 for -1, 0, +1. */
static unsigned ternary(float x, float inv)
{
    return (unsigned)(round_clamp(x * inv, -1, 1) + 1);
}

static void encode_f32(const float *x, float scale, size_t n, uint8_t *ret)
{
    memcpy(ret, x, n * sizeof(*x));
}

static void encode_f16(const float *x, float scale, size_t n, uint8_t *ret)
{
    for (size_t i = 0; i < n; i++) {
        store16(ret + 2 * i, f16_from_f32(x[i]));
    }
}

static void encode_bf16(const float *x, float scale, size_t n, uint8_t *ret)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof(bits));
        if (isnan(x[i])) {
            bits |= UINT32_C(1) << 22; /* rounding must not turn a NaN into an infinity */
        } else {
            bits += 0x7fff + (bits >> 16 & 1);
        }
        store16(ret + 2 * i, (uint16_t)(bits >> 16));
    }
}

static void encode_q8_0(const float *x, float scale, size_t n, uint8_t *ret)
{
    for (size_t at = 0; at < n; at += Q8_BLOCK, ret += Q8_BYTES) {
        const float d = amax_of(x + at, Q8_BLOCK) / 127.0f;
        const float inv = inverse(d);
        store16(ret, f16_from_f32(d));
        for (size_t i = 0; i < Q8_BLOCK; i++) {
            ret[2 + i] = (uint8_t)(int8_t)round_clamp(x[at + i] * inv, -127, 127);
        }
    }
}

static void encode_q1_0(const float *x, float scale, size_t n, uint8_t *ret)
{
    for (size_t at = 0; at < n; at += Q1_BLOCK, ret += Q1_BYTES) {
        float sum = 0;
        memset(ret, 0, Q1_BYTES);
        for (size_t i = 0; i < Q1_BLOCK; i++) {
            sum += fabsf(x[at + i]);
            if (x[at + i] >= 0) {
                ret[2 + i / 8] |= (uint8_t)(1u << (i % 8));
            }
        }
        store16(ret, f16_from_f32(sum / (float)Q1_BLOCK));
    }
}

static void encode_q2(const float *x, size_t n, size_t block, uint8_t *ret)
{
    const size_t bytes = 2 + block / 4;

    for (size_t at = 0; at < n; at += block, ret += bytes) {
        const float d = amax_of(x + at, block);
        const float inv = inverse(d);
        memset(ret, 0, bytes);
        store16(ret, f16_from_f32(d));
        for (size_t i = 0; i < block; i++) {
            ret[2 + i / 4] |= (uint8_t)(ternary(x[at + i], inv) << (2 * (i % 4)));
        }
    }
}

static void encode_q2_0(const float *x, float scale, size_t n, uint8_t *ret)
{
    encode_q2(x, n, Q2_BLOCK, ret);
}

static void encode_q2_0_g128(const float *x, float scale, size_t n, uint8_t *ret)
{
    encode_q2(x, n, Q2G128_BLOCK, ret);
}

static void encode_tq2_0(const float *x, float scale, size_t n, uint8_t *ret)
{
    for (size_t at = 0; at < n; at += T2_BLOCK, ret += T2_BYTES) {
        const float d = amax_of(x + at, T2_BLOCK);
        const float inv = inverse(d);
        memset(ret, 0, T2_BYTES);
        for (size_t i = 0; i < T2_BLOCK; i++) {
            const unsigned code = ternary(x[at + i], inv);
            ret[32 * (i / 128) + i % 32] |= (uint8_t)(code << (2 * (i % 128 / 32)));
        }
        store16(ret + T2_SCALE_AT, f16_from_f32(d));
    }
}

/* A byte of digits for weights that are `step` apart, the first of them the most significant; fewer
 * than five are followed by zeros. Digits are thirds of the byte's range, rounded up so that the
 * decoder's multiplications bring each of them back whole. */
static uint8_t tq1_byte(const float *x, size_t step, size_t n_digits, float inv)
{
    unsigned v = 0;

    for (size_t k = 0; k < 5; k++) {
        v = 3 * v + (k < n_digits ? ternary(x[k * step], inv) : 0);
    }
    return (uint8_t)((v * 256 + 242) / 243);
}

static void encode_tq1_0(const float *x, float scale, size_t n, uint8_t *ret)
{
    for (; n > 0; n -= T2_BLOCK, x += T2_BLOCK, ret += T1_BYTES) {
        const float d = amax_of(x, T2_BLOCK);
        const float inv = inverse(d);
        for (size_t m = 0; m < 32; m++) {
            ret[m] = tq1_byte(x + m, 32, 5, inv);
        }
        for (size_t m = 0; m < 16; m++) {
            ret[32 + m] = tq1_byte(x + 160 + m, 16, 5, inv);
        }
        for (size_t m = 0; m < 4; m++) {
            ret[48 + m] = tq1_byte(x + 240 + m, 4, 4, inv);
        }
        store16(ret + T1_SCALE_AT, f16_from_f32(d));
    }
}

static void encode_i2_s(const float *x, float scale, size_t n, uint8_t *ret)
{
    const float inv = inverse(scale);

    memset(ret, 0, n / 4);
    for (size_t at = 0; at < n; at += I2S_BLOCK, ret += I2S_BYTES) {
        for (size_t i = 0; i < I2S_BLOCK; i++) {
            ret[i % 32] |= (uint8_t)(ternary(x[at + i], inv) << (6 - 2 * (i / 32)));
        }
    }
}

static void encode_iq2_bn(const float *x, float scale, size_t n, uint8_t *ret)
{
    const float d = amax_of(x, n);
    const float inv = inverse(d);

    memcpy(ret, &d, sizeof(d));
    ret += BN2_HEAD;
    memset(ret, 0, n / 4);
    for (size_t at = 0; at < n; at += BN2_BLOCK, ret += BN2_BYTES) {
        for (size_t i = 0; i < BN2_BLOCK; i++) {
            ret[i % 16] |= (uint8_t)(ternary(x[at + i], inv) << (2 * (i / 16)));
        }
    }
}

/* Code 0 is the only one as far from zero as -8, so the weight of largest magnitude takes it, and
 * its sign goes to the scale. Codes round half up: 8.5 is added and the fraction dropped. */
static void encode_q4_0(const float *x, float scale, size_t n, uint8_t *ret)
{
    for (size_t at = 0; at < n; at += Q8_BLOCK, ret += Q4_BYTES) {
        float extreme = 0;
        for (size_t i = 0; i < Q8_BLOCK; i++) {
            extreme = fabsf(x[at + i]) > fabsf(extreme) ? x[at + i] : extreme;
        }
        const float d = extreme / -8.0f;
        const float inv = inverse(d);
        memset(ret, 0, Q4_BYTES);
        store16(ret, f16_from_f32(d));
        for (size_t i = 0; i < Q8_BLOCK; i++) {
            const float v = x[at + i] * inv + 8.5f;
            const unsigned code = v < 15.0f ? (v > 0.0f ? (unsigned)v : 0) : 15;
            ret[2 + i % 16] |= (uint8_t)(code << (i < 16 ? 0 : 4));
        }
    }
}

static void (*const encode[FORMATS])(const float *, float, size_t, uint8_t *) = {
    [FORMAT_F32] = encode_f32,
    [FORMAT_F16] = encode_f16,
    [FORMAT_BF16] = encode_bf16,
    [FORMAT_Q8_0] = encode_q8_0,
    [FORMAT_Q1_0] = encode_q1_0,
    [FORMAT_TQ2_0] = encode_tq2_0,
    [FORMAT_TQ1_0] = encode_tq1_0,
    [FORMAT_Q2_0] = encode_q2_0,
    [FORMAT_Q2_0_G128] = encode_q2_0_g128,
    [FORMAT_PQ2_0] = encode_q2_0_g128,
    [FORMAT_I2_S] = encode_i2_s,
    [FORMAT_IQ2_BN] = encode_iq2_bn,
    [FORMAT_Q4_0] = encode_q4_0,
};

bool format_can_encode(enum format f)
{
    assert(f < FORMATS);
    return encode[f] != NULL;
}

void format_encode_row(enum format f, const float *x, float scale, size_t n_cols, uint8_t *ret)
{
    assert(format_can_encode(f) && n_cols % format_info(f)->block == 0);
    encode[f](x, scale, n_cols, ret);
}

void format_encode_tail(enum format f, float scale, uint8_t *ret)
{
    const size_t n = format_info(f)->tail_bytes;

    if (n > 0) {
        memset(ret, 0, n);
        memcpy(ret, &scale, sizeof(scale));
    }
}
