/* Floats to GGUF rows, as the usual encoders of the formats do: each scale and code is a formula of its
 * block alone, without a search. */
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
        const float inv = d > 0 ? 1.0f / d : 0.0f;
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

static void encode_tq2_0(const float *x, float scale, size_t n, uint8_t *ret)
{
    for (size_t at = 0; at < n; at += T2_BLOCK, ret += T2_BYTES) {
        const float d = amax_of(x + at, T2_BLOCK);
        const float inv = d > 0 ? 1.0f / d : 0.0f;
        memset(ret, 0, T2_BYTES);
        for (size_t i = 0; i < T2_BLOCK; i++) {
            const unsigned code = (unsigned)(round_clamp(x[at + i] * inv, -1, 1) + 1);
            ret[32 * (i / 128) + i % 32] |= (uint8_t)(code << (2 * (i % 128 / 32)));
        }
        store16(ret + T2_SCALE_AT, f16_from_f32(d));
    }
}

static void encode_i2_s(const float *x, float scale, size_t n, uint8_t *ret)
{
    const float inv = scale > 0 ? 1.0f / scale : 0.0f;

    memset(ret, 0, n / 4);
    for (size_t at = 0; at < n; at += I2S_BLOCK, ret += I2S_BYTES) {
        for (size_t i = 0; i < I2S_BLOCK; i++) {
            const unsigned code = (unsigned)(round_clamp(x[at + i] * inv, -1, 1) + 1);
            ret[i % 32] |= (uint8_t)(code << (6 - 2 * (i / 32)));
        }
    }
}

static void (*const encode[FORMATS])(const float *, float, size_t, uint8_t *) = {
    [FORMAT_F32] = encode_f32,   [FORMAT_F16] = encode_f16,   [FORMAT_BF16] = encode_bf16,
    [FORMAT_Q8_0] = encode_q8_0, [FORMAT_Q1_0] = encode_q1_0, [FORMAT_TQ2_0] = encode_tq2_0,
    [FORMAT_I2_S] = encode_i2_s,
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
