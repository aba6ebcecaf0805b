/* Statistics of measured times, against values known from elsewhere. */
#include "tests/support/test.h"

#include <errno.h>
#include <math.h>

#include "client/cli/stats.h"

static void fill(struct sample *s, const double *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(sample_add(s, v[i]), 0);
    }
}

/* Goal: nearest rank. Method: the example of five numbers that textbooks use: 15, 20, 35, 40,
 * 50. */
static void a_percentile_is_a_member_by_nearest_rank(void **state)
{
    struct sample s = {0};

    fill(&s, (const double[]){40, 15, 50, 35, 20}, 5);
    assert_true(sample_percentile(&s, 5) == 15);
    assert_true(sample_percentile(&s, 30) == 20);
    assert_true(sample_percentile(&s, 40) == 20);
    assert_true(sample_percentile(&s, 40.1) == 35);
    assert_true(sample_percentile(&s, 50) == 35);
    assert_true(sample_percentile(&s, 99) == 50);
    assert_true(sample_percentile(&s, 100) == 50);
    assert_true(sample_max(&s) == 50);
    assert_true(sample_mean(&s) == 32);
    sample_deinit(&s);
}

static void of_a_hundred_numbers_one_may_be_above_the_99th_percentile(void **state)
{
    struct sample s = {0};

    for (int i = 100; i >= 1; i--) {
        assert_int_equal(sample_add(&s, i), 0);
    }
    assert_true(sample_percentile(&s, 99) == 99);
    assert_true(sample_percentile(&s, 95) == 95);
    assert_int_equal(sample_add(&s, 1000), 0);
    assert_true(sample_percentile(&s, 99) == 100);
    sample_deinit(&s);
}

static void a_median_of_an_even_number_lies_in_the_middle_of_two(void **state)
{
    struct sample s = {0};

    assert_true(isnan(sample_median(&s)));
    fill(&s, (const double[]){4}, 1);
    assert_true(sample_median(&s) == 4);
    fill(&s, (const double[]){1}, 1);
    assert_true(sample_median(&s) == 2.5);
    fill(&s, (const double[]){100}, 1);
    assert_true(sample_median(&s) == 4);
    sample_deinit(&s);
}

static void an_empty_sample_has_no_figures(void **state)
{
    struct sample s = {0};
    struct dice d = {1};
    double low = 7, high = 7;

    assert_true(isnan(sample_percentile(&s, 50)));
    assert_true(isnan(sample_mean(&s)));
    assert_true(isnan(sample_max(&s)));
    assert_int_equal(sample_bootstrap(&s, 10, &d, &low, &high), -EINVAL);
    assert_true(low == 7 && high == 7);
    sample_deinit(&s);
}

static void samples_are_joined_and_cleared(void **state)
{
    struct sample a = {0}, b = {0};

    fill(&a, (const double[]){1, 2}, 2);
    fill(&b, (const double[]){3, 4, 5}, 3);
    assert_int_equal(sample_join(&a, &b), 0);
    assert_int_equal(a.n, 5);
    assert_true(sample_mean(&a) == 3);
    sample_clear(&a);
    assert_int_equal(a.n, 0);
    sample_deinit(&a);
    sample_deinit(&b);
}

/* Goal: the generator is the published one. Method: the first outputs of splitmix64 for the seed
 * 1234567, as its reference implementation prints them. */
static void the_dice_are_splitmix64(void **state)
{
    struct dice d = {1234567};

    assert_true(dice_u64(&d) == UINT64_C(6457827717110365317));
    assert_true(dice_u64(&d) == UINT64_C(3203168211198807973));
    assert_true(dice_u64(&d) == UINT64_C(9817491932198370423));
    assert_true(dice_u64(&d) == UINT64_C(4593380528125082431));
    assert_true(dice_u64(&d) == UINT64_C(16408922859458223821));
}

static void dice_fall_evenly_inside_their_bounds(void **state)
{
    struct dice d = {42};
    size_t counts[6] = {0};

    for (int i = 0; i < 60000; i++) {
        const uint64_t v = dice_below(&d, 6);
        assert_true(v < 6);
        counts[v]++;
    }
    for (int i = 0; i < 6; i++) {
        assert_in_range(counts[i], 9600, 10400); /* 10000 +- 4.4 sigma */
    }
}

static void arrivals_come_as_often_as_asked(void **state)
{
    struct dice d = {7};
    double sum = 0;

    for (int i = 0; i < 20000; i++) {
        const double wait = dice_wait(&d, 4);
        assert_true(wait > 0 && isfinite(wait));
        sum += wait;
    }
    assert_true(fabs(sum / 20000 - 0.25) < 0.01); /* 5 sigma are 0.009 */
}

/* Goal: the interval is that of the mean. Method: 400 numbers of known mean 0 and deviation
 * 1/sqrt(12): the interval has to be near mean +- 1.96 * deviation / 20, and the same dice give the
 * same interval. */
static void a_bootstrap_interval_is_as_wide_as_theory_says(void **state)
{
    struct sample s = {0};
    struct dice d = {3}, one = {9}, two = {9};
    double low, high, low2, high2;

    for (int i = 0; i < 400; i++) {
        assert_int_equal(sample_add(&s, (double)dice_below(&d, 1000000) / 1e6 - 0.5), 0);
    }
    const double half = 1.96 / sqrt(12.0) / 20;
    assert_int_equal(sample_bootstrap(&s, 2000, &one, &low, &high), 0);
    assert_int_equal(sample_bootstrap(&s, 2000, &two, &low2, &high2), 0);
    assert_true(low == low2 && high == high2);
    assert_true(low < sample_mean(&s) && sample_mean(&s) < high);
    assert_true(fabs((high - low) / 2 / half - 1) < 0.15);
    sample_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_percentile_is_a_member_by_nearest_rank),
        cmocka_unit_test(of_a_hundred_numbers_one_may_be_above_the_99th_percentile),
        cmocka_unit_test(a_median_of_an_even_number_lies_in_the_middle_of_two),
        cmocka_unit_test(an_empty_sample_has_no_figures),
        cmocka_unit_test(samples_are_joined_and_cleared),
        cmocka_unit_test(the_dice_are_splitmix64),
        cmocka_unit_test(dice_fall_evenly_inside_their_bounds),
        cmocka_unit_test(arrivals_come_as_often_as_asked),
        cmocka_unit_test(a_bootstrap_interval_is_as_wide_as_theory_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
