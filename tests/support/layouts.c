#include "tests/support/layouts.h"

#include <math.h>
#include <string.h>

/* An f16 by its definition: sign, five bits of exponent, ten of fraction. */
static float half_at(const uint8_t *p)
{
    const unsigned bits = p[0] | (unsigned)p[1] << 8, exponent = bits >> 10 & 31,
                   fraction = bits & 1023;
    const double magnitude = exponent == 31  ? (fraction ? (double)NAN : (double)INFINITY)
                             : exponent == 0 ? ldexp(fraction, -24)
                                             : ldexp(1024 + fraction, (int)exponent - 25);

    return (float)(bits >> 15 ? -magnitude : magnitude);
}

static float float_at(const uint8_t *p)
{
    float x;

    memcpy(&x, p, sizeof(x));
    return x;
}

/* ---- blocks of 32 ---- */

static float q8_0(const uint8_t *row, size_t i)
{
    const uint8_t *b = row + i / 32 * 34;

    return half_at(b) * (float)(int8_t)b[2 + i % 32];
}

static int nibble(const uint8_t *b, size_t i)
{
    return i < 16 ? b[i] % 16 : b[i - 16] / 16;
}

static float q4_0(const uint8_t *row, size_t i)
{
    const uint8_t *b = row + i / 32 * 18;

    return half_at(b) * (float)(nibble(b + 2, i % 32) - 8);
}

static float q4_1(const uint8_t *row, size_t i)
{
    const uint8_t *b = row + i / 32 * 20;

    return half_at(b) * (float)nibble(b + 4, i % 32) + half_at(b + 2);
}

static float q5_0(const uint8_t *row, size_t i)
{
    const uint8_t *b = row + i / 32 * 22;
    const unsigned fifth = (unsigned)b[2 + i % 32 / 8] >> (i % 8) & 1;

    return half_at(b) * (float)(nibble(b + 6, i % 32) + 16 * (int)fifth - 16);
}

/* ---- signs and two bits ---- */

static float q1_0(const uint8_t *row, size_t i)
{
    const uint8_t *b = row + i / 128 * 18;

    return b[2 + i % 128 / 8] & 1 << i % 8 ? half_at(b) : -half_at(b);
}

/* Neighbours share a byte, the first in the lowest bits; 3 is +2. */
static float q2(const uint8_t *row, size_t i, size_t group)
{
    const uint8_t *b = row + i / group * (2 + group / 4);

    return half_at(b) * (float)((b[2 + i % group / 4] >> 2 * (i % 4) & 3) - 1);
}

/* A byte holds four weights that are 32 apart, in halves of 128; the scale comes last. */
static float tq2_0(const uint8_t *row, size_t i)
{
    const uint8_t *b = row + i / 256 * 66;

    return half_at(b + 64) *
           (float)((b[i % 256 / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3) - 1);
}

/* Five ternary digits to a byte, the first the most significant: v / 256 of the way to 3^5. */
static float tq1_0(const uint8_t *row, size_t i)
{
    const uint8_t *b = row + i / 256 * 54;
    const size_t at = i % 256;
    const size_t byte = at < 160 ? at % 32 : at < 240 ? 32 + (at - 160) % 16 : 48 + (at - 240) % 4;
    const size_t digit = at < 160 ? at / 32 : at < 240 ? (at - 160) / 16 : (at - 240) / 4;
    unsigned rest = b[byte];

    for (size_t k = 0; k < digit; k++) {
        rest = rest * 3 % 256;
    }
    return half_at(b + 52) * (float)((int)(rest * 3 / 256) - 1);
}

/* Blocks of 128 weights in 32 bytes: the first 32 stand in the highest bits. */
static float i2_s(const uint8_t *row, size_t i, float scale)
{
    const uint8_t byte = row[i / 128 * 32 + i % 32];
    static const unsigned shift[4] = {6, 4, 2, 0};

    return scale * (float)((byte >> shift[i % 128 / 32] & 3) - 1);
}

/* The row's scale, then blocks of 64 weights in 16 bytes: the first 16 stand in the lowest bits. */
static float iq2_bn(const uint8_t *row, size_t i)
{
    const uint8_t byte = row[4 + i / 64 * 16 + i % 16];

    return float_at(row) * (float)((byte >> 2 * (i % 64 / 16) & 3) - 1);
}

/* ---- K formats: blocks of 256 ---- */

static float k45(const uint8_t *row, size_t i, size_t bytes, size_t low_at)
{
    const uint8_t *b = row + i / 256 * bytes, *s = b + 4;
    const size_t at = i % 256, j = at / 32;
    const unsigned sc = j < 4 ? s[j] % 64 : s[j + 4] % 16 + s[j - 4] / 64 * 16;
    const unsigned mn = j < 4 ? s[j + 4] % 64 : s[j + 4] / 16 + s[j] / 64 * 16;
    const uint8_t pair = b[low_at + at / 64 * 32 + at % 32];
    unsigned code = j % 2 ? pair / 16 : pair % 16;

    if (low_at == 48 && b[16 + at % 32] >> j & 1) {
        code += 16;
    }
    const float product = half_at(b) * (float)sc, less = half_at(b + 2) * (float)mn;
    return product * (float)code - less;
}

static float q6_k(const uint8_t *row, size_t i)
{
    const uint8_t *b = row + i / 256 * 210;
    const size_t half = i % 256 / 128, at = i % 128, m = at % 32;
    const uint8_t *ql = b + 64 * half, *qh = b + 128 + 32 * half;
    const int low[4] = {ql[m] % 16, ql[32 + m] % 16, ql[m] / 16, ql[32 + m] / 16};
    const int high[4] = {qh[m] & 3, qh[m] >> 2 & 3, qh[m] >> 4 & 3, qh[m] >> 6};
    const float scale = half_at(b + 208) * (float)(int8_t)b[192 + 8 * half + at / 16];

    return scale * (float)(low[at / 32] + 16 * high[at / 32] - 32);
}

int layout_weight(const char *name, const uint8_t *row, float scale, size_t i, float *ret)
{
    static const struct {
        const char *name;
        float (*fn)(const uint8_t *row, size_t i);
    } known[] = {{"Q8_0", q8_0},   {"Q4_0", q4_0},     {"Q4_1", q4_1},
                 {"Q5_0", q5_0},   {"Q1_0", q1_0},     {"TQ2_0", tq2_0},
                 {"TQ1_0", tq1_0}, {"IQ2_BN", iq2_bn}, {"Q6_K", q6_k}};

    for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++) {
        if (strcmp(name, known[k].name) == 0) {
            *ret = known[k].fn(row, i);
            return 0;
        }
    }
    if (strcmp(name, "I2_S") == 0) {
        *ret = i2_s(row, i, scale);
    } else if (strcmp(name, "Q2_0") == 0) {
        *ret = q2(row, i, 64);
    } else if (strcmp(name, "Q2_0_g128") == 0 || strcmp(name, "PQ2_0") == 0) {
        *ret = q2(row, i, 128);
    } else if (strcmp(name, "Q4_K") == 0) {
        *ret = k45(row, i, 144, 16);
    } else if (strcmp(name, "Q5_K") == 0) {
        *ret = k45(row, i, 176, 48);
    } else {
        return -1;
    }
    return 0;
}
