/* Signs for activations: X1 against what defines it, the B1 product with d = 1 and q = +-1 by its
 * scalar twin, and binarize against its own twin and against its sentence. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/kernels/check.h"

#define N_FILLS 3 /* of weights and of signs: random, all clear, all set */

static int fill_of(size_t i)
{
    return i % N_FILLS == 0 ? -1 : i % N_FILLS == 1 ? 0 : 0xff;
}

/* The bits of a panel of B1 where X1 has them. */
static void same_bits(const uint8_t *b1, size_t n_cols, uint8_t *x1)
{
    memset(x1, 0, panel_bytes(PANEL_X1, n_cols));
    for (size_t g = 0; g < n_cols / X1_GROUP; g++) {
        memcpy(x1 + g * X1_GROUP_BYTES, b1 + g * B1_GROUP_BYTES, 2 * PANEL_ROWS);
    }
    for (size_t i = 0; i < PANEL_ROWS * n_cols; i++) {
        const size_t row = i / n_cols, c = i % n_cols, g = c / B1_GROUP, l = c % B1_GROUP / 32;
        const uint8_t *from = b1 + g * B1_GROUP_BYTES + 32 + l * B1_LINE_BYTES;
        uint8_t *to = x1 + g * X1_GROUP_BYTES + 32 + l * X1_LINE_BYTES;
        const unsigned bit = from[c % 32 / 8 * PANEL_ROWS + row] >> (c % 8) & 1;
        to[4 * row + c % 32 / 8] |= (uint8_t)(bit << (c % 8));
    }
}

/* Activations as bits become int8 in blocks of 32; a broken token has one block that is. */
static void as_int8(struct panel_case *c, size_t n_cols, const uint8_t *bits, const float *d)
{
    const size_t n_blocks = n_cols / ACT_BLOCK;

    for (size_t t = 0; t < c->act.n_tokens; t++) {
        for (size_t i = 0; i < n_cols; i++) {
            const bool minus = bits[t * (n_cols / 8) + i / 8] >> (i % 8) & 1;
            c->q[t * c->act.q_stride + i] = minus ? -1 : 1;
        }
        for (size_t b = 0; b < n_blocks; b++) {
            c->d[t * c->act.d_stride + b] = b == t % n_blocks ? d[t] : 1.0f;
        }
    }
}

static bool check_x1_once(panel_fn *fn, size_t n_cols, size_t n_tokens, size_t round)
{
    const size_t stride = PANEL_ROWS + round % 3, n_out = (n_tokens - 1) * stride + PANEL_ROWS;
    const size_t q_stride = (n_cols / 8 + 63) / 64 * 64;
    struct panel_case c;
    size_t at;

    panel_case_init(&c, PANEL_B1, n_cols, n_tokens, round);
    uint8_t *panel = buffer_new(panel_bytes(PANEL_X1, n_cols), 32);
    uint8_t *bits = buffer_new(n_tokens * n_cols / 8, 0);
    uint8_t *q = buffer_new((n_tokens - 1) * q_stride + n_cols / 8, 0);
    float *d = buffer_new(n_tokens * sizeof(float), 4);
    float *want = buffer_new(n_out * sizeof(float), 4), *got = buffer_new(n_out * sizeof(float), 4);

    same_bits(c.panel, n_cols, panel);
    fill_bytes(bits, n_tokens * n_cols / 8, fill_of(round / 4));
    for (size_t t = 0; t < n_tokens; t++) {
        d[t] = round % 8 == 7 && random_u32() % 4 == 0 ? NAN : 1.0f;
        memcpy(q + t * q_stride, bits + t * n_cols / 8, n_cols / 8);
    }
    as_int8(&c, n_cols, bits, d);
    fill_bytes(want, n_out * sizeof(float), 0x5a);
    fill_bytes(got, n_out * sizeof(float), 0x5a);
    panel_b1_scalar(c.panel, n_cols, &c.act, want, stride);
    const struct act_q8 act = {.q = (const int8_t *)q,
                               .d = d,
                               .s = c.s,
                               .q_stride = q_stride,
                               .d_stride = 1,
                               .n_tokens = n_tokens};
    fn(panel, n_cols, &act, got, stride);
    const bool ok = same_floats(want, got, n_out, &at);
    if (!ok) {
        printf("x1: n_cols=%zu n_tokens=%zu round=%zu token %zu row %zu: want %a got %a\n", n_cols,
               n_tokens, round, at / stride, at % stride, (double)want[at], (double)got[at]);
    }
    buffer_free(got, 4);
    buffer_free(want, 4);
    buffer_free(d, 4);
    buffer_free(q, 0);
    buffer_free(bits, 0);
    buffer_free(panel, 32);
    panel_case_deinit(&c);
    return ok;
}

bool check_x1(panel_fn *fn)
{
    static const size_t groups[] = {1, 2, 3, 5, 8, 17};

    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        for (size_t round = 0; round < 48; round++) {
            if (!check_x1_once(fn, groups[i] * X1_GROUP, round % 17 + 1, round)) {
                return false;
            }
        }
    }
    return check_x1_once(fn, 3 * X1_GROUP, 131, 0) && check_x1_once(fn, 6144, 3, 0);
}

/* Numbers that lie on both sides of their thresholds and on them, zeros of both signs among these;
 * in some rounds one or more that are not finite, anywhere. */
static void sign_input(float *x, float *threshold, size_t n, size_t round)
{
    static const float zeros[] = {0.0f, -0.0f};

    for (size_t i = 0; i < n; i++) {
        threshold[i] = random_u32() % 4 == 0 ? zeros[random_u32() % 2] : random_float(3);
        x[i] = random_u32() % 4 == 0 ? zeros[random_u32() % 2] : random_float(3);
        switch (random_u32() % 8) {
        case 0:
            x[i] = threshold[i];
            break;
        case 1:
            x[i] = nextafterf(threshold[i], random_u32() % 2 ? INFINITY : -INFINITY);
            break;
        case 2:
            x[i] = threshold[i] = extreme_float();
            break;
        default:
            break;
        }
        while (!isfinite(x[i])) {
            x[i] = extreme_float();
        }
    }
    if (round % 4 == 3) {
        x[random_u32() % n] = round % 8 == 3 ? NAN : -INFINITY;
    }
}

/* The sentence of kernels.h, for what is finite. */
static bool are_signs(const float *x, const float *threshold, size_t n, const uint8_t *bits,
                      float d)
{
    bool broken = false, right = true;

    for (size_t i = 0; i < n; i++) {
        const bool minus = bits[i / 8] >> (i % 8) & 1;
        broken = broken || !isfinite(x[i]);
        if (isfinite(x[i]) && isfinite(threshold[i])) {
            right = right && minus == !(x[i] - threshold[i] >= 0);
        }
    }
    return right && (broken ? isnan(d) : d == 1.0f);
}

bool check_binarize(binarize_fn *want_fn, binarize_fn *got_fn)
{
    for (size_t round = 0; round < 400; round++) {
        const size_t n = 32 * (1 + round % 37), off = 4 * (round % 4);
        float *x = buffer_new(n * sizeof(float), off);
        float *threshold = buffer_new(n * sizeof(float), off / 2 * 2);
        uint8_t *want = buffer_new(n / 8, 1), *got = buffer_new(n / 8, round % 3);

        sign_input(x, threshold, n, round);
        const float want_d = want_fn(x, threshold, n, want);
        const float got_d = got_fn(x, threshold, n, got);
        const bool ok = memcmp(want, got, n / 8) == 0 &&
                        (want_d == got_d || (isnan(want_d) && isnan(got_d))) &&
                        are_signs(x, threshold, n, got, got_d);
        buffer_free(got, round % 3);
        buffer_free(want, 1);
        buffer_free(threshold, off / 2 * 2);
        buffer_free(x, off);
        if (!ok) {
            printf("binarize: n=%zu round=%zu differs\n", n, round);
            return false;
        }
    }
    return true;
}
