/* How many prompt tokens a step takes: pure, so time is invented. */
#include "tests/support/test.h"

#include "daemon/runner/runner.h"

#define MS 1000000u

/* What the step after some takes, on a machine where a pass and a prompt token take so long. */
static uint64_t settled_ns(uint64_t pass_ns, uint64_t token_ns, size_t n_decode, uint64_t prompt_us,
                           size_t *ret_n)
{
    struct pace p = {0};

    pace_learn(&p, 1, 0, pass_ns);
    for (unsigned k = 0; k < 60; k++) {
        const size_t n = pace_next(&p, n_decode, prompt_us, 512);
        pace_learn(&p, n_decode, n, pass_ns + n * token_ns);
    }
    do { /* past one that is measured without prompts */
        *ret_n = pace_next(&p, n_decode, prompt_us, 512);
        pace_learn(&p, n_decode, *ret_n, pass_ns + *ret_n * token_ns);
    } while (*ret_n == 0);
    const uint64_t ns = pass_ns + *ret_n * token_ns;
    assert_in_range(pace_expect(&p, n_decode, *ret_n), ns / 2, 2 * ns);
    return ns;
}

/* Goal: prompts beside a stream at most double the time between its tokens, or cost it 1.5 ms, or
 * what the broker says; without streams a step ends up near 100 ms. Method: machines from fast to
 * slow that take a fixed time for each token. */
static void steps_come_to_their_aim_on_any_machine(void **state)
{
    static const uint64_t token_ns[] = {5000, 100000, 400000, 1000000, 5000000};
    size_t n;
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(token_ns); i++) {
        uint64_t ns = settled_ns(10 * MS, token_ns[i], 1, 0, &n);
        assert_true(ns <= 18 * MS);
        assert_true(ns >= 15 * MS || n == 512);
        ns = settled_ns(1 * MS, token_ns[i], 1, 0, &n);
        assert_true(ns <= 2500000 || n == 1);
        assert_true(ns >= 2 * MS || n == 512);
        ns = settled_ns(10 * MS, token_ns[i], 1, 40000, &n);
        assert_true(ns <= 50 * MS);
        assert_true(ns >= 40 * MS || n == 512);
        ns = settled_ns(10 * MS, token_ns[i], 0, 0, &n);
        assert_true(ns <= 110 * MS);
        assert_true(ns >= 85 * MS || n == 512);
    }
}

/* Goal: where a pass alone takes longer than the aim, a step without streams is at most twice the
 * pass, and prompts still move; beside streams they move by one token if need be. */
static void on_a_slow_machine_prompts_still_move(void **state)
{
    size_t n;
    (void)state;

    assert_in_range(settled_ns(900 * MS, 100 * MS, 0, 0, &n), 1700 * (uint64_t)MS,
                    1900 * (uint64_t)MS);
    (void)settled_ns(900 * MS, 5000 * (uint64_t)MS, 0, 0, &n);
    assert_int_equal(n, STEP_TOKENS_MIN);
    (void)settled_ns(900 * MS, 5000 * (uint64_t)MS, 1, 0, &n);
    assert_int_equal(n, 1);

    struct pace p = {0};
    assert_int_equal(pace_next(&p, 0, 0, 3), 3); /* unless told to take less */
}

static void one_lucky_measurement_at_most_doubles_a_step(void **state)
{
    struct pace p = {0};
    (void)state;

    pace_learn(&p, 0, 32, 1);
    assert_int_equal(pace_next(&p, 0, 0, 512), 64);
}

/* Goal: what streams cost is not charged to the prompts beside them, however many join while there
 * are prompts all the time. Method: a machine whose passes grow with the streams, and prompts in
 * every step that takes some. */
static void a_pass_is_measured_for_each_number_of_streams(void **state)
{
    struct pace p = {0};
    size_t n = 0, without = 0;
    (void)state;

    pace_learn(&p, 1, 0, 10 * MS);
    for (size_t streams = 1; streams <= 16; streams++) {
        const uint64_t pass = (8 + 2 * streams) * MS;
        for (unsigned k = 0; k < 100; k++) {
            const size_t now = pace_next(&p, streams, 0, 512);
            without += now == 0 ? 1 : 0;
            n = now > 0 ? now : n;
            pace_learn(&p, streams, now, pass + now * MS);
        }
        assert_in_range(n, pass / MS * 7 / 10, pass / MS * 9 / 10);
    }
    assert_in_range(without, 16 * 3, 16 * 5);
}

/* Goal: a hiccup of the machine does not make prompts crawl. */
static void a_hiccup_is_soon_forgotten(void **state)
{
    struct pace p = {0};
    size_t n = 0;
    (void)state;

    pace_learn(&p, 1, 0, 20 * MS);
    for (unsigned k = 0; k < 60; k++) {
        n = pace_next(&p, 1, 0, 512);
        pace_learn(&p, 1, n, k == 50 ? 1000 * MS : 20 * MS + n * MS);
    }
    assert_in_range(n, 8, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_come_to_their_aim_on_any_machine),
        cmocka_unit_test(on_a_slow_machine_prompts_still_move),
        cmocka_unit_test(one_lucky_measurement_at_most_doubles_a_step),
        cmocka_unit_test(a_pass_is_measured_for_each_number_of_streams),
        cmocka_unit_test(a_hiccup_is_soon_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
