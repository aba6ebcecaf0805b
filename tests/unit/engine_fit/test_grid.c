#include "tests/support/test.h"

#include <math.h>

#include "engine/fit/grid.h"
#include "tests/unit/engine/tiny.h"

#define COLS 512u

static const enum format formats[] = {FORMAT_Q1_0,  FORMAT_Q2_0,  FORMAT_Q2_0_G128, FORMAT_PQ2_0,
                                      FORMAT_TQ1_0, FORMAT_TQ2_0, FORMAT_Q4_0,      FORMAT_Q8_0};

/* Rows of many kinds: even, with a tail, with one giant, tiny, all alike, all zero. */
static void row_of(unsigned kind, float x[COLS])
{
    for (size_t i = 0; i < COLS; i++) {
        const float u = tiny_random(kind * 1000 + i);
        x[i] = kind == 0   ? u
               : kind == 1 ? u * u * u * u * u
               : kind == 2 ? (i == 77 ? -50.0f : 0.1f * u)
               : kind == 3 ? 1e-6f * u
               : kind == 4 ? 0.5f
                           : 0.0f;
    }
}

static double lost(const float *x, const float *y, const double *a)
{
    double sum = 0;

    for (size_t i = 0; i < COLS; i++) {
        const double e = (double)x[i] - (double)y[i];
        sum += (a ? a[i] : 1) * e * e;
    }
    return sum;
}

/* Goal: what is stored is d times the codes, in every format that is a grid, and the floats and
 * the formats with one scale for a row or tensor are none. */
static void what_is_stored_is_what_was_chosen(void **state)
{
    (void)state;

    for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
        struct grid g;
        float x[COLS], scales[COLS], values[COLS], back[COLS];
        int8_t codes[COLS];
        uint8_t row[COLS * 4];
        assert_true(grid_of(formats[f], &g));
        for (unsigned kind = 0; kind < 6; kind++) {
            row_of(kind, x);
            grid_refine_row(&g, x, NULL, COLS, scales, codes);
            grid_store(&g, scales, codes, COLS, values, row);
            format_decode_row(formats[f], row, 1, COLS, back);
            for (size_t i = 0; i < COLS; i++) {
                assert_true(codes[i] >= g.lo && codes[i] <= g.hi && (codes[i] || !g.no_zero));
                assert_true(back[i] == scales[i / g.block] * (float)codes[i]);
            }
        }
    }
    struct grid none;
    assert_false(grid_of(FORMAT_F16, &none) || grid_of(FORMAT_I2_S, &none) ||
                 grid_of(FORMAT_IQ2_BN, &none) || grid_of(FORMAT_Q4_1, &none));
}

/* Goal: never worse than rounding, with weights and without, and for ternary blocks with a tail
 * much better. */
static void refining_never_loses_more_than_rounding(void **state)
{
    double a[COLS];
    (void)state;

    for (size_t i = 0; i < COLS; i++) {
        a[i] = 0.01 + fabs((double)tiny_random(90000 + i));
    }
    for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
        struct grid g;
        float x[COLS], scales[COLS], values[COLS], rounded[COLS], refined[COLS];
        int8_t codes[COLS];
        uint8_t row[COLS * 4];
        assert_true(grid_of(formats[f], &g));
        for (unsigned kind = 0; kind < 12; kind++) {
            const double *weights = kind < 6 ? NULL : a;
            row_of(kind % 6, x);
            format_encode_row(formats[f], x, 1, COLS, row);
            format_decode_row(formats[f], row, 1, COLS, rounded);
            grid_refine_row(&g, x, weights, COLS, scales, codes);
            grid_store(&g, scales, codes, COLS, values, row);
            format_decode_row(formats[f], row, 1, COLS, refined);
            assert_true(lost(x, refined, weights) <= lost(x, rounded, weights));
            if (kind == 1 && g.lo == -1 && !g.no_zero) {
                assert_true(lost(x, refined, NULL) < 0.8 * lost(x, rounded, NULL));
            }
        }
    }
}

/* Goal: a binary scale is the weighted mean of magnitudes; signs are the weights' own. */
static void a_binary_block_keeps_its_signs(void **state)
{
    struct grid g;
    double x[128], a[128], top = 0, bottom = 0;
    (void)state;

    assert_true(grid_of(FORMAT_Q1_0, &g));
    for (size_t i = 0; i < 128; i++) {
        x[i] = tiny_random(i);
        a[i] = 1.5 + tiny_random(1000 + i);
        top += a[i] * fabs(x[i]);
        bottom += a[i];
    }
    const float d = grid_scale(&g, x, a);
    assert_true(fabs((double)d - top / bottom) <= 0x1p-11 * top / bottom);
    for (size_t i = 0; i < 128; i++) {
        assert_int_equal(grid_code(&g, grid_inverse(d), x[i]), x[i] >= 0 ? 1 : -1);
    }
}

/* Goal: the alternation ends near the best there is. Method: for ternary blocks the best codes
 * keep the k largest magnitudes for some k, so that all 64 cases can be tried. */
static void a_ternary_block_comes_near_the_best(void **state)
{
    struct grid g;
    (void)state;

    assert_true(grid_of(FORMAT_Q2_0, &g));
    for (uint64_t seed = 0; seed < 200; seed++) {
        double x[64], sorted[64], power = 0, best = INFINITY, sum = 0, got = 0;
        for (size_t i = 0; i < 64; i++) {
            const double u = tiny_random(seed * 64 + i);
            x[i] = seed % 2 ? u : u * u * u;
            power += x[i] * x[i];
            size_t at = i;
            for (; at > 0 && sorted[at - 1] < fabs(x[i]); at--) {
                sorted[at] = sorted[at - 1];
            }
            sorted[at] = fabs(x[i]);
        }
        for (size_t k = 1; k <= 64; k++) {
            sum += sorted[k - 1];
            const double now = power - sum * sum / (double)k;
            best = now < best ? now : best;
        }
        const float d = grid_scale(&g, x, NULL);
        for (size_t i = 0; i < 64; i++) {
            const double e = x[i] - (double)d * grid_code(&g, grid_inverse(d), x[i]);
            got += e * e;
        }
        assert_true(got <= 1.02 * best);
    }
}

/* Goal: scales that no f16 holds are infinite, which the caller sees in the error, and no loop goes
 * on for ever. */
static void weights_beyond_f16_are_not_hidden(void **state)
{
    (void)state;

    for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
        struct grid g;
        double x[256];
        assert_true(grid_of(formats[f], &g));
        for (size_t i = 0; i < 256; i++) {
            x[i] = 1e30;
        }
        assert_false(isfinite(grid_scale(&g, x, NULL)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_stored_is_what_was_chosen),
        cmocka_unit_test(refining_never_loses_more_than_rounding),
        cmocka_unit_test(a_binary_block_keeps_its_signs),
        cmocka_unit_test(a_ternary_block_comes_near_the_best),
        cmocka_unit_test(weights_beyond_f16_are_not_hidden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
