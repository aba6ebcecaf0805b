/* How many prompt tokens a step takes: pure, so time is invented. */
#include "tests/support/test.h"

#include "daemon/runner/runner.h"

#define MS 1000000u

/* What the step after a dozen takes, on a machine where a pass and a prompt token take so long. */
static uint64_t settled_ns(uint64_t pass_ns, uint64_t token_ns, size_t n_decode, size_t *ret_n)
{
    struct resident m = {0};

    pace_learn(&m, 0, pass_ns);
    for (unsigned k = 0; k < 12; k++) {
        const size_t n = pace_next(&m, n_decode, 512);
        pace_learn(&m, n, pass_ns + n * token_ns);
    }
    *ret_n = pace_next(&m, n_decode, 512);
    return pass_ns + *ret_n * token_ns;
}

/* Goal: whatever the machine, a step ends up near its aim. Method: machines from fast to slow that
 * take a fixed time for each token. */
static void steps_come_to_their_aim_on_any_machine(void **state)
{
    static const uint64_t token_ns[] = {5000, 100000, 400000, 1000000, 5000000};
    size_t n;
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(token_ns); i++) {
        uint64_t ns = settled_ns(10 * MS, token_ns[i], 1, &n);
        assert_true(ns <= 55 * MS);
        assert_true(ns >= 40 * MS || n == 512);
        ns = settled_ns(10 * MS, token_ns[i], 0, &n);
        assert_true(ns <= 110 * MS);
        assert_true(ns >= 85 * MS || n == 512);
    }
}

/* Goal: where a pass alone takes longer than the aim, a step is at most twice the pass, and prompts
 * still move. */
static void on_a_slow_machine_prompts_get_half_the_time(void **state)
{
    size_t n;
    (void)state;

    assert_in_range(settled_ns(900 * MS, 100 * MS, 1, &n), 1700 * (uint64_t)MS,
                    1900 * (uint64_t)MS);
    (void)settled_ns(900 * MS, 5000 * (uint64_t)MS, 1, &n);
    assert_int_equal(n, STEP_TOKENS_MIN);

    struct resident m = {0};
    assert_int_equal(pace_next(&m, 0, 3), 3); /* unless told to take less */
}

static void one_lucky_measurement_at_most_doubles_a_step(void **state)
{
    struct resident m = {0};
    (void)state;

    pace_learn(&m, 32, 1);
    assert_int_equal(pace_next(&m, 0, 512), 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_come_to_their_aim_on_any_machine),
        cmocka_unit_test(on_a_slow_machine_prompts_get_half_the_time),
        cmocka_unit_test(one_lucky_measurement_at_most_doubles_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
