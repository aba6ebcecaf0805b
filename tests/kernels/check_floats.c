/* The functions on plain vectors against their scalar twins: quantization, dots and conversions, at
 * every odd length and alignment, with ties, subnormals, infinities and NaN. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/kernels/check.h"

/* ---- quant ---- */

static void quant_input(float *x, size_t n, size_t round)
{
    const int scale = round % 8 == 1 ? 120 : round % 8 == 2 ? -96 : round % 8 == 3 ? -126 : 0;

    for (size_t i = 0; i < n; i++) {
        x[i] = ldexpf(random_float(4), scale);
        if (round % 8 == 4) { /* ties: multiples of one half, the largest one 127 */
            x[i] = i % 32 == 7 ? 127.0f : 0.5f * (float)(int)(random_u32() % 509) - 127.0f;
        } else if (round % 8 == 5 && random_u32() % 64 == 0) {
            x[i] = extreme_float();
        } else if (round % 8 == 6) {
            /* nothing, the largest block that counts as nothing, the smallest that does not */
            const float most = round / 16 % 3 == 0   ? 0.0f
                               : round / 16 % 3 == 1 ? 0x1.fffffep-101f
                                                     : 0x1p-100f;
            x[i] = random_u32() % 2 ? most : -0.0f;
        } else if (round % 8 == 7) {
            x[i] = random_u32() % 2 ? 0x1.fffffep127f : 0x1p-100f;
        }
    }
}

bool check_quant(quant_fn *want_fn, quant_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < 512 && ok; round++) {
        /* every third round: all of it one block, of any length */
        const size_t whole = round % 3 == 2 ? 1 + random_u32() % 600 : 0;
        const size_t block = whole ? whole : round / 8 % 2 ? ACT_BLOCK_T256 : ACT_BLOCK;
        /* levels take several blocks at once, and some broken ones among them */
        const size_t most = round % 7 == 6 ? 40 : 6;
        const size_t n_blocks = whole ? 1 : 1 + random_u32() % most, n = block * n_blocks;
        float *x = buffer_new(n * sizeof(float), 4);
        int8_t *q = buffer_new(2 * n, 1);
        float *d = buffer_new(2 * n_blocks * sizeof(float), 4);
        int32_t *s = buffer_new(2 * n_blocks * sizeof(int32_t), 4);
        size_t at;

        quant_input(x, n, round);
        want_fn(x, n, block, q, d, s);
        got_fn(x, n, block, q + n, d + n_blocks, s + n_blocks);
        ok = memcmp(q, q + n, n) == 0 && same_floats(d, d + n_blocks, n_blocks, &at) &&
             memcmp(s, s + n_blocks, n_blocks * sizeof(*s)) == 0;
        if (!ok) {
            printf("quant: block=%zu n=%zu round=%zu differs\n", block, n, round);
        }
        buffer_free(x, 4);
        buffer_free(q, 1);
        buffer_free(d, 4);
        buffer_free(s, 4);
    }
    return ok;
}

/* ---- floats ---- */

static size_t float_count(size_t round) /* all the odd ones, then a few long ones */
{
    return round < 280 ? round / 4 : 1000 + random_u32() % 64;
}

#define FLOAT_ROUNDS 320

bool check_dot_f32(dot_f32_fn *want_fn, dot_f32_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < FLOAT_ROUNDS && ok; round++) {
        const size_t n = float_count(round), off = round % 7 * 4;
        float *w = buffer_new(n * sizeof(float), off), *x = buffer_new(n * sizeof(float), 4);
        size_t at;

        float_input(w, n, round);
        float_input(x, n, round);
        const float want = want_fn(w, x, n), got = got_fn(w, x, n);
        ok = same_floats(&want, &got, 1, &at);
        if (!ok) {
            printf("dot_f32: n=%zu round=%zu: want %a got %a\n", n, round, (double)want,
                   (double)got);
        }
        buffer_free(w, off);
        buffer_free(x, 4);
    }
    return ok;
}

bool check_dot_half(const char *name, dot_half_fn *want_fn, dot_half_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < FLOAT_ROUNDS && ok; round++) {
        const size_t n = float_count(round), off = round % 7 * 2;
        uint16_t *w = buffer_new(n * sizeof(uint16_t), off);
        float *x = buffer_new(n * sizeof(float), 4);
        size_t at;

        half_input(w, n, round);
        float_input(x, n, round);
        const float want = want_fn(w, x, n), got = got_fn(w, x, n);
        ok = same_floats(&want, &got, 1, &at);
        if (!ok) {
            printf("%s: n=%zu round=%zu: want %a got %a\n", name, n, round, (double)want,
                   (double)got);
        }
        buffer_free(w, off);
        buffer_free(x, 4);
    }
    return ok;
}

static bool is_nan_f16(uint16_t h)
{
    return (h & 0x7fff) > 0x7c00;
}

/* Besides random floats: every f16, the middle above it, and that one's neighbours. */
bool check_f32_to_f16(f32_to_f16_fn *want_fn, f32_to_f16_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < 0x8000 && ok; round += 1 + round / 0x7c00) {
        const size_t n = round % 29 + 4;
        float *x = buffer_new(n * sizeof(float), 4);
        uint16_t *want = buffer_new(n * sizeof(uint16_t), 2);
        uint16_t *got = buffer_new(n * sizeof(uint16_t), 2);
        const float low = f16_to_f32((uint16_t)round);
        const float middle = low + (f16_to_f32((uint16_t)(round + 1)) - low) / 2;

        float_input(x, n, round | 2);
        x[0] = low;
        x[1] = middle;
        x[2] = -nextafterf(middle, 0);
        x[3] = nextafterf(middle, INFINITY);
        want_fn(x, want, n);
        got_fn(x, got, n);
        for (size_t i = 0; i < n && ok; i++) {
            ok = want[i] == got[i] || (is_nan_f16(want[i]) && is_nan_f16(got[i]));
            if (!ok) {
                printf("f32_to_f16: %a: want %04x got %04x\n", (double)x[i], want[i], got[i]);
            }
        }
        buffer_free(x, 4);
        buffer_free(want, 2);
        buffer_free(got, 2);
    }
    return ok;
}
