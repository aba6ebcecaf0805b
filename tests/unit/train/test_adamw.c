#include "tests/support/test.h"

#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "train/loop/adamw.h"

#define N 1003

static float value(uint64_t i)
{
    const uint64_t x = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);

    return (float)((double)(x >> 11) * 0x1p-53 - 0.5);
}

/* Goal: whatever registers the compiler takes, the bits are those of the formula. Method: the
 * formula, one parameter at a time, each operation rounded, over some steps. */
static void an_update_is_the_formula_to_the_bit(void **state)
{
    const struct adamw a = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .decay = 0.1f};
    static float p[N], m[N], v[N], g[N], want[3][N];

    for (size_t i = 0; i < N; i++) {
        p[i] = want[0][i] = value(i);
    }
    for (uint64_t step = 1; step <= 3; step++) {
        for (size_t i = 0; i < N; i++) {
            g[i] = value(i * step + 77) * (i % 5 == 0 ? 1e-6f : 1);
        }
        adamw_step(&a, p, m, v, g, N, 0.5f, 0.01f, step);
        const float rate = (float)((double)0.01f / (1 - pow((double)a.beta1, (double)step)));
        const float c2 = (float)(1 / (1 - pow((double)a.beta2, (double)step)));
        for (size_t i = 0; i < N; i++) {
            volatile float x = g[i] * 0.5f, mi, vi, root, part; /* each rounded by itself */
            mi = a.beta1 * want[1][i];
            part = (1 - a.beta1) * x;
            mi += part;
            part = x * x;
            part = (1 - a.beta2) * part;
            vi = a.beta2 * want[2][i];
            vi += part;
            root = vi * c2;
            root = sqrtf(root);
            root += a.eps;
            part = rate * mi;
            part /= root;
            x = want[0][i] * (1 - 0.01f * a.decay);
            want[0][i] = x - part;
            want[1][i] = mi;
            want[2][i] = vi;
        }
        assert_memory_equal(p, want[0], sizeof(p));
        assert_memory_equal(m, want[1], sizeof(m));
        assert_memory_equal(v, want[2], sizeof(v));
    }
}

/* Goal: it goes downhill. Method: the bottom of a bowl is found from anywhere. */
static void it_finds_the_bottom_of_a_bowl(void **state)
{
    const struct adamw a = {.beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f};
    float p[2] = {3, -2}, m[2] = {0}, v[2] = {0}, g[2];

    for (uint64_t step = 1; step <= 2000; step++) {
        g[0] = 2 * (p[0] - 1);
        g[1] = 20 * (p[1] - 0.5f);
        adamw_step(&a, p, m, v, g, 2, 1, step < 1000 ? 0.01f : 0.001f, step);
    }
    assert_true(fabsf(p[0] - 1) < 1e-2f && fabsf(p[1] - 0.5f) < 1e-2f);
}

static void the_length_is_that_of_all_numbers(void **state)
{
    static float g[N];
    double want = 0;

    for (size_t n = 0; n < 40; n++) {
        want = 0;
        for (size_t i = 0; i < n; i++) {
            g[i] = value(i);
            want += (double)g[i] * (double)g[i];
        }
        assert_true(fabs(grads_length(g, n) - sqrt(want)) < 1e-12);
    }
    g[7] = NAN;
    assert_true(isnan(grads_length(g, N)));
}

static void the_rate_rises_holds_and_falls(void **state)
{
    struct schedule s = {.shape = SCHEDULE_LINEAR,
                         .n_steps = 110,
                         .n_warm = 10,
                         .lr = 1,
                         .lr_end = 0.2,
                         .hold = 0.5};

    assert_true(schedule_lr(&s, 0) == 0.1 && schedule_lr(&s, 9) == 1);
    assert_true(schedule_lr(&s, 10) == 1 && schedule_lr(&s, 60) == 1);
    assert_true(fabs(schedule_lr(&s, 85) - 0.6) < 1e-12);
    assert_true(schedule_lr(&s, 110) == 0.2 && schedule_lr(&s, 1000) == 0.2);
    s.shape = SCHEDULE_COSINE;
    s.hold = 0;
    assert_true(schedule_lr(&s, 10) == 1);
    assert_true(fabs(schedule_lr(&s, 60) - 0.6) < 1e-12);
    assert_true(schedule_lr(&s, 35) > 0.85 && schedule_lr(&s, 109) < 0.21);
    s.shape = SCHEDULE_CONSTANT;
    assert_true(schedule_lr(&s, 109) == 1);
    s.n_warm = 0;
    s.hold = 1;
    assert_true(schedule_lr(&s, 0) == 1 && schedule_lr(&s, 109) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_update_is_the_formula_to_the_bit),
        cmocka_unit_test(it_finds_the_bottom_of_a_bowl),
        cmocka_unit_test(the_length_is_that_of_all_numbers),
        cmocka_unit_test(the_rate_rises_holds_and_falls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
