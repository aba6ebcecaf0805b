/* Random weights, written block by block in the file's own format.
 *
 * Codes are drawn directly: encoding random floats would cost a hundred times more and end at codes
 * just as random. Only the float formats go through the writer's encoder. */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/lab/make.h"

#define CHUNK_BYTES ((size_t)1 << 20)
#define Q8_BLOCK_BYTES 34u
#define Q8_STD 73.3 /* of a whole number drawn evenly from -127..127 */

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

/* ---- one block of each format ---- */

typedef void block_fn(uint64_t *state, uint16_t scale, uint8_t *out);

static void block_q1(uint64_t *state, uint16_t scale, uint8_t *out)
{
    put_half(out, scale);
    draw_bytes(state, out + 2, 16);
}

static void block_q8(uint64_t *state, uint16_t scale, uint8_t *out)
{
    put_half(out, scale);
    draw_bytes(state, out + 2, 32);
    for (size_t i = 2; i < Q8_BLOCK_BYTES; i++) {
        out[i] = out[i] == 0x80 ? 0x7f : out[i]; /* no encoder writes -128 */
    }
}

/* A byte holds four codes; each of the 81 that encoders write comes up nearly evenly. */
static void block_t2(uint64_t *state, uint16_t scale, uint8_t *out)
{
    draw_bytes(state, out, 64);
    for (size_t i = 0; i < 64; i++) {
        const unsigned v = out[i] % 81u;
        out[i] = (uint8_t)(v % 3 | (v / 3 % 3) << 2 | (v / 9 % 3) << 4 | (v / 27) << 6);
    }
    put_half(out + 64, scale);
}

struct block_format {
    uint64_t n;   /* weights in one block */
    size_t bytes; /* of one block */
    block_fn *fn;
};

static int blocks(struct gguf_writer *w, const struct block_format *f, uint64_t n_cols,
                  uint64_t n_rows, double scale, uint64_t seed)
{
    const uint64_t per_row = n_cols / f->n;
    const size_t row_bytes = per_row * f->bytes;
    const uint64_t fit = CHUNK_BYTES / row_bytes, per_chunk = fit > 0 ? fit : 1;
    const uint16_t d = half(scale);
    uint8_t *chunk = malloc(per_chunk * row_bytes);
    int r = chunk ? 0 : -ENOMEM;

    for (uint64_t at = 0; r == 0 && at < n_rows;) {
        const uint64_t k = n_rows - at < per_chunk ? n_rows - at : per_chunk;
        for (uint64_t i = 0; i < k * per_row; i++) {
            f->fn(&seed, d, chunk + i * f->bytes);
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

int make_ones(struct gguf_writer *w, uint64_t n, uint64_t seed)
{
    return floats(w, n, 1, 1.0, 0.1, seed);
}

int make_weights(struct gguf_writer *w, const char *format, uint64_t n_cols, uint64_t n_rows,
                 double std, uint64_t seed)
{
    static const struct block_format q1 = {128, 18, block_q1};
    static const struct block_format q8 = {32, Q8_BLOCK_BYTES, block_q8};
    static const struct block_format t2 = {256, 66, block_t2};

    if (strcmp(format, "Q1_0") == 0) {
        return blocks(w, &q1, n_cols, n_rows, std, seed);
    }
    if (strcmp(format, "Q8_0") == 0) {
        return blocks(w, &q8, n_cols, n_rows, std / Q8_STD, seed);
    }
    if (strcmp(format, "TQ2_0") == 0) {
        return blocks(w, &t2, n_cols, n_rows, std / sqrt(2.0 / 3), seed);
    }
    return floats(w, n_cols, n_rows, 0, std * sqrt(3), seed);
}
