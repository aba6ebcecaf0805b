#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fit/moments.h"
#include "engine/threads.h"
#include "tests/unit/engine/tiny.h"

#define N 200u /* no whole number of slices or chains */
#define ROWS 500u
#define STRIDE 211u

static float x[ROWS * STRIDE];

/* Inputs as layers give them: a few directions in common, and some noise. */
static void make_inputs(void)
{
    for (size_t t = 0; t < ROWS; t++) {
        for (size_t i = 0; i < N; i++) {
            float v = 0.05f * tiny_random(t * N + i);
            for (size_t k = 0; k < 5; k++) {
                v += tiny_random(777000 + t * 5 + k) * tiny_random(888000 + k * N + i);
            }
            x[t * STRIDE + i] = v;
        }
    }
}

static struct moments gathered(unsigned n_threads, struct threads **ret)
{
    struct moments m;

    make_inputs();
    assert_int_equal(threads_new(ret, n_threads), 0);
    assert_int_equal(moments_begin(&m, N), 0);
    moments_add(&m, *ret, x, STRIDE, 300);
    moments_add(&m, *ret, x + 300 * STRIDE, STRIDE, ROWS - 300);
    assert_true(moments_close(&m));
    return m;
}

static void the_moments_are_those_of_the_inputs(void **state)
{
    struct threads *t = NULL;
    struct moments m = gathered(2, &t);
    float e[2 * N];
    double r[2 * N];
    (void)state;

    assert_int_equal(m.count, ROWS);
    for (size_t i = 0; i < N; i += 17) {
        for (size_t k = 0; k < N; k++) {
            double want = i == k ? m.damp : 0;
            for (size_t row = 0; row < ROWS; row++) {
                want += (double)x[row * STRIDE + i] * (double)x[row * STRIDE + k] / ROWS;
            }
            assert_true(fabs((double)m.h[i * N + k] - want) < 1e-6);
            assert_true(m.h[i * N + k] == m.h[k * N + i]);
        }
    }
    for (size_t i = 0; i < (size_t)2 * N; i++) {
        e[i] = tiny_random(i);
    }
    moments_apply(&m, e, 2, r);
    for (size_t i = 0; i < N; i += 13) {
        double want = 0;
        for (size_t k = 0; k < N; k++) {
            want += (double)m.h[i * N + k] * (double)e[N + k];
        }
        assert_true(fabs(r[N + i] - want) < 1e-9);
    }
    moments_deinit(&m);
    threads_free(t);
}

/* Goal: V is upper triangular with V^T V the inverse of H. Method: (V^T V) H is the identity. */
static void the_factor_is_that_of_the_inverse(void **state)
{
    struct threads *t = NULL;
    struct moments m = gathered(2, &t);
    (void)state;

    assert_true(moments_factor(&m, t));
    for (size_t i = 0; i < N; i += 7) {
        double row[N] = {0}; /* of V^T V */
        for (size_t k = 0; k <= i; k++) {
            for (size_t j = k; j < N; j++) {
                row[j] += m.v[k * N + i] * m.v[k * N + j];
            }
        }
        for (size_t j = 0; j < N; j++) {
            double sum = 0;
            for (size_t k = 0; k < N; k++) {
                sum += row[k] * (double)m.h[k * N + j];
            }
            assert_true(fabs(sum - (i == j)) < 1e-6);
        }
    }
    moments_deinit(&m);
    threads_free(t);
}

static void threads_change_no_bit(void **state)
{
    struct threads *one = NULL, *three = NULL;
    struct moments a = gathered(1, &one), b = gathered(3, &three);
    (void)state;

    assert_memory_equal(a.h, b.h, sizeof(*a.h) * N * N);
    assert_true(moments_factor(&a, one) && moments_factor(&b, three));
    assert_memory_equal(a.v, b.v, sizeof(*a.v) * N * N);
    moments_deinit(&a);
    moments_deinit(&b);
    threads_free(one);
    threads_free(three);
}

static void inputs_that_say_nothing_are_refused(void **state)
{
    const float bad[] = {0, INFINITY, NAN};
    struct threads *t = NULL;
    (void)state;

    assert_int_equal(threads_new(&t, 1), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        const float row[4] = {0, bad[i], 0, 0};
        struct moments m;
        assert_int_equal(moments_begin(&m, 4), 0);
        moments_add(&m, t, row, 4, 1);
        assert_false(moments_close(&m));
        moments_deinit(&m);
    }
    threads_free(t);
}

/* Goal: fewer inputs than columns leave directions without any, and there is a factor all the
 * same. */
static void a_short_text_has_a_factor(void **state)
{
    struct threads *t = NULL;
    struct moments m;
    (void)state;

    make_inputs();
    assert_int_equal(threads_new(&t, 1), 0);
    assert_int_equal(moments_begin(&m, N), 0);
    moments_add(&m, t, x, STRIDE, 1);
    assert_true(moments_close(&m));
    assert_true(moments_factor(&m, t));
    for (size_t i = 0; i < N; i++) {
        assert_true(isfinite(m.v[i * N + N - 1]) && m.v[i * N + i] > 0);
    }
    moments_deinit(&m);
    threads_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_moments_are_those_of_the_inputs),
        cmocka_unit_test(the_factor_is_that_of_the_inverse),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(inputs_that_say_nothing_are_refused),
        cmocka_unit_test(a_short_text_has_a_factor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
