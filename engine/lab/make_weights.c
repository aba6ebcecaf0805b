/* Random weights, written block by block in the file's own format.
 *
 * Codes are drawn directly: encoding random floats would cost a hundred times more and end at codes
 * just as random. Float formats, and any that has no entry here, go
 * through the writer's encoder. */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/lab/make.h"

#define CHUNK_BYTES ((size_t)1 << 20)

/* SplitMix64: 64 good bits a call from a counter. */
static inline uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void draw_bytes(uint64_t *state, uint8_t *out, size_t n)
{
    assert(n % 8 == 0);
    for (size_t i = 0; i < n; i += 8) {
        const uint64_t v = draw(state);
        memcpy(out + i, &v, sizeof(v));
    }
}

/* A positive scale as f16, rounded to nearest; small ones may be subnormal, none here overflows. */
static uint16_t half(double x)
{
    int exponent;
    const double fraction = frexp(x, &exponent); /* in [0.5, 1) */

    assert(x > 0 && exponent <= 15);
    if (exponent < -13) {
        return (uint16_t)lrint(ldexp(x, 24));
    }
    const long mantissa = lrint((fraction * 2 - 1) * 1024);
    return (uint16_t)(((long)(exponent + 14) << 10) + mantissa);
}

static void put_half(uint8_t *out, uint16_t h)
{
    out[0] = (uint8_t)(h & 0xff);
    out[1] = (uint8_t)(h >> 8);
}

/* ---- codes, a byte at a time ---- */

/* No encoder writes -128. */
static void draw_int8(uint64_t *state, uint8_t *out, size_t n)
{
    draw_bytes(state, out, n);
    for (size_t i = 0; i < n; i++) {
        out[i] = out[i] == 0x80 ? 0x7f : out[i];
    }
}

/* Two codes of 1 to 15 in a byte: without 0 they lie evenly around 8, which comes up twice as
 * often. */
static void draw_nibbles(uint64_t *state, uint8_t *out, size_t n)
{
    draw_bytes(state, out, n);
    for (size_t i = 0; i < n; i++) {
        out[i] |= (uint8_t)(((out[i] & 0x0f) == 0 ? 0x08 : 0) | ((out[i] & 0xf0) == 0 ? 0x80 : 0));
    }
}

/* Four codes of 0 to 2 in a byte; each of the 81 bytes that encoders write comes up nearly
 * evenly. */
static void draw_trits(uint64_t *state, uint8_t *out, size_t n)
{
    draw_bytes(state, out, n);
    for (size_t i = 0; i < n; i++) {
        const unsigned v = out[i] % 81u;
        out[i] = (uint8_t)(v % 3 | (v / 3 % 3) << 2 | (v / 9 % 3) << 4 | (v / 27) << 6);
    }
}

/* ---- one block of each format ---- */

/* @d: the scale as f16; @min: what is taken off, for the formats that have it */
typedef void block_fn(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out);

static void block_q1_0(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    put_half(out, d);
    draw_bytes(state, out + 2, 16);
}

static void block_q8_0(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    put_half(out, d);
    draw_int8(state, out + 2, 32);
}

static void block_tq2_0(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    draw_trits(state, out, 64);
    put_half(out + 64, d);
}

/* 48 bytes of five digits to base 3, and 4 bytes of four. */
static void block_tq1_0(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    uint8_t drawn[56];

    draw_bytes(state, drawn, sizeof(drawn));
    for (size_t i = 0; i < 52; i++) {
        const unsigned q = i < 48 ? drawn[i] % 243u : drawn[i] % 81u * 3;
        out[i] = (uint8_t)((q * 256 + 242) / 243);
    }
    put_half(out + 52, d);
}

static void block_q2_0(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    put_half(out, d);
    draw_trits(state, out + 2, 16);
}

static void block_q2_0_g128(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    put_half(out, d);
    draw_trits(state, out + 2, 32);
}

static void block_i2_s(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    draw_trits(state, out, 32);
}

static void block_iq2_bn(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    draw_trits(state, out, 16);
}

static void block_q4_0(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    put_half(out, d);
    draw_nibbles(state, out + 2, 16);
}

static void block_q4_1(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    put_half(out, d);
    put_half(out + 2, min | 0x8000); /* added, not taken off */
    draw_bytes(state, out + 4, 16);
}

/* With the fifth bit clear a nibble of 1 to 15 stands for -15 to -1, with it set for 1 to 15. */
static void block_q5_0(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    uint8_t fifth[8];

    put_half(out, d);
    draw_bytes(state, fifth, sizeof(fifth));
    memcpy(out + 2, fifth, 4);
    draw_nibbles(state, out + 6, 16);
}

/* Eight scales and eight minimums of 6 bits, each of them 32. */
static void put_k_scales(uint8_t *out)
{
    memset(out, 0xa0, 8); /* 32, and the upper two bits of another 32 */
    memset(out + 8, 0, 4);
}

#define K_SCALE 32.0

static void block_q4_k(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    put_half(out, d);
    put_half(out + 2, min);
    put_k_scales(out + 4);
    draw_bytes(state, out + 16, 128);
}

static void block_q5_k(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    put_half(out, d);
    put_half(out + 2, min);
    put_k_scales(out + 4);
    draw_bytes(state, out + 16, 160);
}

/* Codes of -32 to 31 are not even around 0, so the scales of sixteen take turns in their sign. */
static void block_q6_k(uint64_t *state, uint16_t d, uint16_t min, uint8_t *out)
{
    draw_bytes(state, out, 192);
    for (size_t i = 0; i < 16; i++) {
        out[192 + i] = (uint8_t)(int8_t)(i % 2 ? -K_SCALE : K_SCALE);
    }
    put_half(out + 208, d);
}

/* ---- tensors of blocks ---- */

enum scope { OF_BLOCK = 0, OF_ROW, OF_TENSOR }; /* what a scale is for */

struct block_format {
    const char *name;
    uint32_t n;     /* weights in one block */
    uint32_t bytes; /* of one block */
    block_fn *fn;
    double std; /* of what the codes stand for when the scale is 1 */
    double min; /* what is taken off every code, for the formats that write it */
    enum scope scope;
};

/* Standard deviations: of n values one apart, sqrt((n^2 - 1) / 12). */
#define STD_4_BITS 4.6097722
#define STD_5_BITS 9.2330927
#define STD_6_BITS 18.4729532
#define STD_INT8 73.3
#define STD_NIBBLES 4.1833001 /* -7..7, 0 twice: sqrt(280 / 16) */
#define STD_FIFTHS 9.0277350  /* 1..15 of either sign, 8 twice: sqrt(1304 / 16) */
#define STD_TRITS MAKE_TERNARY_STD

static const struct block_format block_formats[] = {
    {"Q1_0", 128, 18, block_q1_0, 1, 0, OF_BLOCK},
    {"Q8_0", 32, 34, block_q8_0, STD_INT8, 0, OF_BLOCK},
    {"TQ2_0", 256, 66, block_tq2_0, STD_TRITS, 0, OF_BLOCK},
    {"TQ1_0", 256, 54, block_tq1_0, STD_TRITS, 0, OF_BLOCK},
    {"Q2_0", 64, 18, block_q2_0, STD_TRITS, 0, OF_BLOCK},
    {"Q2_0_g128", 128, 34, block_q2_0_g128, STD_TRITS, 0, OF_BLOCK},
    {"PQ2_0", 128, 34, block_q2_0_g128, STD_TRITS, 0, OF_BLOCK},
    {"I2_S", 128, 32, block_i2_s, STD_TRITS, 0, OF_TENSOR},
    {"IQ2_BN", 64, 16, block_iq2_bn, STD_TRITS, 0, OF_ROW},
    {"Q4_0", 32, 18, block_q4_0, STD_NIBBLES, 0, OF_BLOCK},
    {"Q4_1", 32, 20, block_q4_1, STD_4_BITS, 7.5, OF_BLOCK},
    {"Q5_0", 32, 22, block_q5_0, STD_FIFTHS, 0, OF_BLOCK},
    {"Q4_K", 256, 144, block_q4_k, K_SCALE *STD_4_BITS, 7.5, OF_BLOCK},
    {"Q5_K", 256, 176, block_q5_k, K_SCALE *STD_5_BITS, 15.5, OF_BLOCK},
    {"Q6_K", 256, 210, block_q6_k, K_SCALE *STD_6_BITS, 0, OF_BLOCK},
};

static void fill_row(const struct block_format *f, uint64_t *state, double scale, uint64_t n_blocks,
                     uint8_t *out)
{
    const uint16_t d = half(scale), min = f->min > 0 ? half(scale * f->min) : 0;

    if (f->scope == OF_ROW) {
        const float s = (float)scale;
        memcpy(out, &s, sizeof(s));
        out += sizeof(s);
    }
    for (uint64_t i = 0; i < n_blocks; i++) {
        f->fn(state, d, min, out + i * f->bytes);
    }
}

static int blocks(struct gguf_writer *w, const struct block_format *f, uint64_t n_cols,
                  uint64_t n_rows, double scale, uint64_t seed)
{
    const uint64_t per_row = n_cols / f->n;
    const size_t row_bytes = per_row * f->bytes + (f->scope == OF_ROW ? sizeof(float) : 0);
    const uint64_t fit = CHUNK_BYTES / row_bytes, per_chunk = fit > 0 ? fit : 1;
    uint8_t *chunk = malloc(per_chunk * row_bytes);
    int r = chunk ? 0 : -ENOMEM;

    if (r == 0 && f->scope == OF_TENSOR) {
        r = gguf_writer_scale(w, (float)scale);
    }
    for (uint64_t at = 0; r == 0 && at < n_rows;) {
        const uint64_t k = n_rows - at < per_chunk ? n_rows - at : per_chunk;
        for (uint64_t i = 0; i < k; i++) {
            fill_row(f, &seed, scale, per_row, chunk + i * row_bytes);
        }
        r = gguf_writer_raw(w, chunk, k);
        at += k;
    }
    free(chunk);
    return r;
}

/* ---- float formats and vectors ---- */

/* Rows of values drawn evenly from middle - reach to middle + reach. */
static int floats(struct gguf_writer *w, uint64_t n_cols, uint64_t n_rows, double middle,
                  double reach, uint64_t seed)
{
    const uint64_t fit = CHUNK_BYTES / sizeof(float) / n_cols;
    const uint64_t per_chunk = fit > 0 ? fit : 1;
    float *chunk = malloc(per_chunk * n_cols * sizeof(*chunk));
    const float scale = (float)(reach / 32768), offset = (float)middle;
    int r = chunk ? 0 : -ENOMEM;

    for (uint64_t at = 0; r == 0 && at < n_rows;) {
        const uint64_t k = n_rows - at < per_chunk ? n_rows - at : per_chunk;
        uint64_t bits = 0;
        for (uint64_t i = 0; i < k * n_cols; i++) {
            bits = i % 4 == 0 ? draw(&seed) : bits >> 16;
            chunk[i] = offset + scale * (float)(int16_t)(bits & 0xffff);
        }
        r = gguf_writer_rows(w, chunk, k);
        at += k;
    }
    free(chunk);
    return r;
}

int make_vector(struct gguf_writer *w, uint64_t n, double middle, double reach, uint64_t seed)
{
    return floats(w, n, 1, middle, reach, seed);
}

int make_weights(struct gguf_writer *w, const char *format, uint64_t n_cols, uint64_t n_rows,
                 double std, uint64_t seed)
{
    for (size_t i = 0; i < ARRAY_SIZE(block_formats); i++) {
        const struct block_format *f = &block_formats[i];
        if (strcmp(format, f->name) == 0) {
            return blocks(w, f, n_cols, n_rows, std / f->std, seed);
        }
    }
    return floats(w, n_cols, n_rows, 0, std * sqrt(3), seed);
}
