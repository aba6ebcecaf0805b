#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fit/rows.h"
#include "engine/threads.h"
#include "tests/unit/engine/tiny.h"

#define COLS 256u
#define ROWS 19u /* two batches and a part of one */
#define INPUTS 400u

static float w[ROWS * COLS], x[INPUTS * COLS];

/* Normal-like weights; inputs that share eight directions, with a few channels much larger than the
 * others, as those of trained models. */
static void make(void)
{
    for (size_t i = 0; i < (size_t)ROWS * COLS; i++) {
        w[i] = tiny_random(i) + tiny_random(50000 + i) + tiny_random(100000 + i);
    }
    for (size_t t = 0; t < INPUTS; t++) {
        for (size_t i = 0; i < COLS; i++) {
            float v = 0.2f * tiny_random(200000 + t * COLS + i);
            for (size_t k = 0; k < 8; k++) {
                v += tiny_random(400000 + t * 8 + k) * tiny_random(500000 + k * COLS + i);
            }
            x[t * COLS + i] = i % 61 == 7 ? 10 * v : v;
        }
    }
}

struct fitted {
    struct fit_loss loss;
    uint8_t *rows;
    size_t bytes;
};

static struct fitted fit(enum format f, bool propagate, bool polish, unsigned n_threads)
{
    struct fit_job job = {.w = w, .n_rows = ROWS, .propagate = propagate, .polish = polish};
    struct fitted ret = {.bytes = ROWS * format_row_bytes(f, COLS)};
    struct threads *t = NULL;
    struct moments m;

    make();
    assert_int_equal(threads_new(&t, n_threads), 0);
    assert_int_equal(moments_begin(&m, COLS), 0);
    moments_add(&m, t, x, COLS, INPUTS);
    assert_true(moments_close(&m) && moments_factor(&m, t));
    assert_true(grid_of(f, &job.grid));
    job.moments = &m;
    job.rows = ret.rows = malloc(ret.bytes);
    assert_non_null(ret.rows);
    assert_int_equal(fit_rows(t, &job, &ret.loss), 0);
    moments_deinit(&m);
    threads_free(t);
    return ret;
}

/* The outputs' error of rows in a file, from the inputs themselves: a mean over them. */
static double outputs_lost(enum format f, const uint8_t *rows, const float *weights)
{
    float back[COLS];
    double sum = 0;

    for (size_t row = 0; row < ROWS; row++) {
        format_decode_row(f, rows + row * format_row_bytes(f, COLS), 1, COLS, back);
        for (size_t t = 0; t < INPUTS; t++) {
            double e = 0;
            for (size_t i = 0; i < COLS; i++) {
                e += ((double)weights[row * COLS + i] - (double)back[i]) * (double)x[t * COLS + i];
            }
            sum += e * e / INPUTS;
        }
    }
    return sum;
}

static const enum format formats[] = {FORMAT_Q1_0, FORMAT_Q2_0, FORMAT_TQ1_0, FORMAT_Q4_0,
                                      FORMAT_Q8_0};

/* Goal: the outputs lose less and less by rounding, propagation, and polishing behind it, and what
 * is said is what the rows in the file do to the inputs. */
static void each_step_loses_less_of_the_outputs(void **state)
{
    (void)state;

    for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
        struct fitted refined = fit(formats[f], false, false, 2),
                      propagated = fit(formats[f], true, false, 2),
                      polished = fit(formats[f], true, true, 2);
        const double rounded = refined.loss.out_rounded;
        assert_true(refined.loss.out_lost <= rounded);
        assert_true(propagated.loss.out_lost < 0.7 * rounded);
        assert_true(propagated.loss.out_lost < refined.loss.out_lost);
        assert_true(polished.loss.out_lost < propagated.loss.out_lost);
        const struct fitted *const all[] = {&refined, &propagated, &polished};
        for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
            const double lost = outputs_lost(formats[f], all[i]->rows, w);
            assert_true(fabs(all[i]->loss.out_lost - lost) < 1e-3 * lost);
            assert_true(all[i]->loss.out_rounded == rounded);
            free(all[i]->rows);
        }
    }
}

/* Goal: what is said of rounding is what rounding does. */
static void rounding_is_reported_as_it_is(void **state)
{
    const size_t bytes = format_row_bytes(FORMAT_Q1_0, COLS);
    struct fitted got = fit(FORMAT_Q1_0, true, true, 1);
    uint8_t rows[ROWS * COLS];
    float back[COLS];
    double lost = 0, power = 0;
    (void)state;

    for (size_t row = 0; row < ROWS; row++) {
        format_encode_row(FORMAT_Q1_0, w + row * COLS, 1, COLS, rows + row * bytes);
        format_decode_row(FORMAT_Q1_0, rows + row * bytes, 1, COLS, back);
        for (size_t i = 0; i < COLS; i++) {
            const double x_i = w[row * COLS + i], e = x_i - (double)back[i];
            lost += e * e;
            power += x_i * x_i;
        }
    }
    const double outputs = outputs_lost(FORMAT_Q1_0, rows, w);
    assert_true(fabs(got.loss.rounded - lost) < 1e-5 * lost);
    assert_true(fabs(got.loss.power - power) < 1e-9 * power);
    assert_true(fabs(got.loss.out_rounded - outputs) < 1e-3 * outputs);
    free(got.rows);
}

static void threads_change_no_byte(void **state)
{
    (void)state;

    for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
        struct fitted a = fit(formats[f], true, true, 1), b = fit(formats[f], true, true, 4);
        assert_memory_equal(a.rows, b.rows, a.bytes);
        assert_memory_equal(&a.loss, &b.loss, sizeof(a.loss));
        free(a.rows);
        free(b.rows);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_step_loses_less_of_the_outputs),
        cmocka_unit_test(rounding_is_reported_as_it_is),
        cmocka_unit_test(threads_change_no_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
