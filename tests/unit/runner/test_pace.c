/* How many prompt tokens a step takes: pure, so time is invented. */
#include "tests/support/test.h"

#include "daemon/runner/runner.h"

#define MS 1000000u

/* Goal: whatever the machine, a step ends up near its aim. Method: machines from fast to slow that
 * take a fixed time for each token; after some steps the next one's time is looked at. */
static void steps_come_to_their_aim_on_any_machine(void **state)
{
    static const uint64_t token_ns[] = {5000, 100000, 400000, 1000000, 2000000};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(token_ns); i++) {
        struct resident m = {0};
        pace_learn(&m, 1, 0, 10 * MS); /* decoding alone takes 10 ms */
        for (unsigned k = 0; k < 12; k++) {
            const size_t n = pace_next(&m, 1, 512);
            pace_learn(&m, 1, n, 10 * MS + n * token_ns[i]);
        }
        const size_t n = pace_next(&m, 1, 512);
        const uint64_t ns = 10 * MS + n * token_ns[i];
        assert_true(ns <= 55 * MS);
        assert_true(ns >= 40 * MS || n == 512);
    }
}

static void a_step_is_worth_running_on_the_slowest_machine(void **state)
{
    struct resident m = {0};
    (void)state;

    pace_learn(&m, 1, 0, 900 * MS);
    pace_learn(&m, 1, 32, 5000 * (uint64_t)MS);
    assert_int_equal(pace_next(&m, 1, 512), STEP_TOKENS_MIN);
    assert_int_equal(pace_next(&m, 0, 512), STEP_TOKENS_MIN);
    assert_int_equal(pace_next(&m, 0, 5), 5); /* unless told to take less */
}

static void one_lucky_measurement_at_most_doubles_a_step(void **state)
{
    struct resident m = {0};
    (void)state;

    pace_learn(&m, 0, 32, 1);
    assert_int_equal(pace_next(&m, 0, 512), 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_come_to_their_aim_on_any_machine),
        cmocka_unit_test(a_step_is_worth_running_on_the_slowest_machine),
        cmocka_unit_test(one_lucky_measurement_at_most_doubles_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
