/* Less work at once: what is asked for by several, and what the scheduler makes of it. */
#include "tests/unit/broker/sched_rig.h"

#include "daemon/broker/throttle.h"

static void the_strictest_of_all_wishes_counts(void **state)
{
    struct throttle t = {0};
    struct throttle_wish all = throttle_strictest(&t);
    (void)state;

    assert_int_equal(all.lowest, CLASS_LOW);
    assert_int_equal(all.streams_cap, 0);
    assert_int_equal(all.chunk_part, 0);
    t.wishes[THROTTLE_MEMORY] = (struct throttle_wish){.streams_cap = 2, .chunk_part = 2};
    t.wishes[THROTTLE_HEAT] = (struct throttle_wish){.lowest = CLASS_NORMAL, .streams_cap = 4};
    all = throttle_strictest(&t);
    assert_int_equal(all.lowest, CLASS_NORMAL);
    assert_int_equal(all.streams_cap, 2);
    assert_int_equal(all.chunk_part, 2);
}

static void a_class_is_paused_for_the_reason_of_whoever_asked_for_it(void **state)
{
    struct throttle t = {0};
    (void)state;

    assert_null(throttle_reason(&t, CLASS_LOW));
    t.wishes[THROTTLE_HEAT].lowest = CLASS_NORMAL;
    assert_string_equal(throttle_reason(&t, CLASS_LOW), "heat");
    assert_null(throttle_reason(&t, CLASS_NORMAL));
    t.wishes[THROTTLE_MEMORY].lowest = CLASS_HIGH;
    assert_string_equal(throttle_reason(&t, CLASS_LOW), "memory");
    assert_string_equal(throttle_reason(&t, CLASS_NORMAL), "memory");
    assert_null(throttle_reason(&t, CLASS_HIGH));
}

static void
classes_below_the_lowest_are_paused_where_they_are_and_none_of_them_is_started(void **state)
{
    struct job *low = submit(0, CLASS_LOW, 1), *normal = submit(1, CLASS_NORMAL, 1);
    (void)state;

    (void)plan();
    step();
    (void)plan();
    assert_true(runs(low) && runs(normal));
    rig.sched.limits.lowest = CLASS_NORMAL;
    struct job *more = submit(0, CLASS_LOW, 1);
    (void)plan();
    assert_true(!runs(low) && runs(normal));
    assert_true(low->held && !more->held); /* it keeps what it has */
    rig.now_ns += 600 * NS_PER_S;          /* however long */
    (void)plan();
    assert_true(!runs(low) && runs(normal));
    rig.sched.limits.lowest = CLASS_HIGH;
    assert_int_equal(plan()->n_run, 0);
    rig.sched.limits.lowest = CLASS_LOW;
    (void)plan();
    assert_true(runs(low) && runs(normal));
    assert_true(low->held && normal->held);
}

static void a_cap_on_streams_pauses_those_past_it_until_it_is_lifted(void **state)
{
    (void)state;

    for (size_t i = 0; i < 8; i++) {
        (void)submit(i % 4, CLASS_NORMAL, 1);
    }
    assert_int_equal(plan()->n_run, 8);
    step();
    rig.sched.limits.streams_cap = 2;
    assert_int_equal(plan()->n_run, 2);
    assert_int_equal(rig.sched.n_held, 8);
    step();
    rig.sched.limits.streams_cap = 0;
    assert_int_equal(plan()->n_run, 8);
}

static void a_smaller_part_of_the_step_is_given_to_prompts(void **state)
{
    (void)state;

    rig.sched.limits.chunk_us = 40000;
    (void)submit(0, CLASS_NORMAL, 1);
    (void)plan();
    step();
    (void)submit(1, CLASS_NORMAL, 5000);
    const uint32_t whole = plan()->prompt_us;
    assert_int_equal(whole, 40000);
    rig.sched.limits.chunk_part = 2;
    assert_int_equal(plan()->prompt_us, whole / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_strictest_of_all_wishes_counts),
        cmocka_unit_test(a_class_is_paused_for_the_reason_of_whoever_asked_for_it),
        cmocka_unit_test_setup(
            classes_below_the_lowest_are_paused_where_they_are_and_none_of_them_is_started, setup),
        cmocka_unit_test_setup(a_cap_on_streams_pauses_those_past_it_until_it_is_lifted, setup),
        cmocka_unit_test_setup(a_smaller_part_of_the_step_is_given_to_prompts, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
