#include "tests/support/test.h"

#include "base/clock.h"
#include "daemon/broker/gap.h"

#define BEGIN (UINT64_C(1000) * NS_PER_S)
#define MS NS_PER_MS

static void a_sleep_that_ends_in_time_is_no_gap(void **state)
{
    (void)state;

    assert_int_equal(gap_of(BEGIN, 250, BEGIN), 0);
    assert_int_equal(gap_of(BEGIN, 250, BEGIN + 250 * MS), 0);
    assert_int_equal(gap_of(BEGIN, 250, BEGIN + 749 * MS), 0); /* late, as everybody may be */
    assert_int_equal(gap_of(BEGIN, 0, BEGIN + 499 * MS), 0);
    assert_int_equal(gap_of(BEGIN, 250, BEGIN - 1), 0);
}

static void what_is_past_the_end_is_the_gap(void **state)
{
    (void)state;

    assert_int_equal(gap_of(BEGIN, 250, BEGIN + 750 * MS), 500 * MS);
    assert_int_equal(gap_of(BEGIN, 0, BEGIN + 3 * NS_PER_S), 3 * NS_PER_S);
    assert_int_equal(gap_of(BEGIN, 250, BEGIN + 365 * 86400 * NS_PER_S),
                     365 * 86400 * NS_PER_S - 250 * MS);
}

static void a_sleep_without_an_end_is_as_long_as_it_is(void **state)
{
    (void)state;

    assert_int_equal(gap_of(BEGIN, -1, BEGIN + 86400 * NS_PER_S), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sleep_that_ends_in_time_is_no_gap),
        cmocka_unit_test(what_is_past_the_end_is_the_gap),
        cmocka_unit_test(a_sleep_without_an_end_is_as_long_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
