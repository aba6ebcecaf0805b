#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fit/target.h"
#include "engine/threads.h"
#include "tests/unit/engine/tiny.h"

#define N 96u
#define ROWS 5u
#define INPUTS 700u
#define STRIDE 100u

static float x[INPUTS * N], y[INPUTS * STRIDE], w[ROWS * N];

/* Inputs, and the same as something before has bent them: mixed with their neighbours, shrunk, and
 * with noise. */
static void make(float bent)
{
    for (size_t t = 0; t < INPUTS; t++) {
        for (size_t i = 0; i < N; i++) {
            x[t * N + i] = tiny_random(t * N + i) + tiny_random(700000 + t);
        }
        for (size_t i = 0; i < N; i++) {
            y[t * STRIDE + i] =
                x[t * N + i] + bent * (0.5f * x[t * N + (i + 1) % N] - 0.4f * x[t * N + i] +
                                       0.02f * tiny_random(900000 + t * N + i));
        }
    }
    for (size_t i = 0; i < (size_t)ROWS * N; i++) {
        w[i] = tiny_random(500000 + i);
    }
}

static void moved(float bent, unsigned n_threads, float *ret)
{
    struct threads *threads = NULL;
    struct moments m;
    struct target t;

    make(bent);
    assert_int_equal(threads_new(&threads, n_threads), 0);
    assert_int_equal(moments_begin(&m, N), 0);
    assert_int_equal(target_begin(&t, N), 0);
    for (size_t at = 0; at < INPUTS; at += 350) {
        moments_add(&m, threads, y + at * STRIDE, STRIDE, 350);
        target_add(&t, threads, x + at * N, y + at * STRIDE, STRIDE, 350);
    }
    assert_true(moments_close(&m) && moments_factor(&m, threads));
    assert_int_equal(target_move(&t, &m, threads, w, ROWS, ret), 0);
    target_deinit(&t);
    moments_deinit(&m);
    threads_free(threads);
}

/* Mean square of the products of these rows with y, less those of w with x. */
static double missed(const float *rows)
{
    double sum = 0;

    for (size_t r = 0; r < ROWS; r++) {
        for (size_t t = 0; t < INPUTS; t++) {
            double e = 0;
            for (size_t i = 0; i < N; i++) {
                e += (double)rows[r * N + i] * (double)y[t * STRIDE + i] -
                     (double)w[r * N + i] * (double)x[t * N + i];
            }
            sum += e * e / INPUTS;
        }
    }
    return sum;
}

static void inputs_that_nothing_bent_leave_rows_where_they_are(void **state)
{
    float got[ROWS * N];
    (void)state;

    moved(0, 2, got);
    for (size_t i = 0; i < (size_t)ROWS * N; i++) {
        assert_true(fabsf(got[i] - w[i]) < 1e-5f);
    }
}

static void what_was_bent_before_is_mended(void **state)
{
    float got[ROWS * N];
    (void)state;

    moved(1, 2, got);
    assert_true(missed(got) < 0.2 * missed(w));
}

/* Goal: among all rows the moved ones are the best. Method: any step away from them makes the sum
 * that they minimize larger: what is missed, and damp times the way from w. */
static void no_other_row_is_nearer(void **state)
{
    float got[ROWS * N], other[ROWS * N];
    double power = 0;
    (void)state;

    moved(1, 1, got);
    for (size_t t = 0; t < INPUTS; t++) {
        for (size_t i = 0; i < N; i++) {
            power += (double)y[t * STRIDE + i] * (double)y[t * STRIDE + i];
        }
    }
    const double damp = 0.01 * power / ((double)INPUTS * N);
    double best = missed(got);
    for (size_t i = 0; i < (size_t)ROWS * N; i++) {
        best += damp * (double)(got[i] - w[i]) * (double)(got[i] - w[i]);
    }
    for (size_t k = 0; k < 40; k++) {
        memcpy(other, got, sizeof(other));
        other[k * 11 % (ROWS * N)] += k % 2 ? 0.02f : -0.02f;
        double now = missed(other);
        for (size_t i = 0; i < (size_t)ROWS * N; i++) {
            now += damp * (double)(other[i] - w[i]) * (double)(other[i] - w[i]);
        }
        assert_true(now > best);
    }
}

static void threads_change_no_bit(void **state)
{
    float one[ROWS * N], three[ROWS * N];
    (void)state;

    moved(1, 1, one);
    moved(1, 3, three);
    assert_memory_equal(one, three, sizeof(one));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_that_nothing_bent_leave_rows_where_they_are),
        cmocka_unit_test(what_was_bent_before_is_mended),
        cmocka_unit_test(no_other_row_is_nearer),
        cmocka_unit_test(threads_change_no_bit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
