/* How long steps may be, when one is not waited for, and for whom a share of the time is saved. */
#include "tests/unit/broker/sched_rig.h"

#define PASS_US 5000u
#define TOKEN_US 1000u

/* A machine whose steps the broker has seen. */
static int setup_known(void **state)
{
    (void)setup(state);
    for (uint32_t i = 0; i < 64; i++) {
        sched_step(&rig.model, i % 4, i % 7 * 8, PASS_US + i % 7 * 8 * TOKEN_US);
    }
    return 0;
}

/* A long prompt of the class is being computed; the step has run for so long. */
static struct job *long_step(enum request_class class_, uint64_t ms)
{
    struct job *j = submit(0, class_, 100000);

    (void)plan();
    assert_true(runs(j));
    rig.now_ns += ms * NS_PER_MS;
    return j;
}

static void assert_step_ms(uint32_t ms)
{
    assert_in_range(rig.plan.prompt_us + PASS_US, ms * 990, ms * 1010);
}

static void low_alone_has_long_steps_and_others_have_short_ones(void **state)
{
    (void)state;

    (void)long_step(CLASS_LOW, 0);
    assert_step_ms(400);
    (void)submit(1, CLASS_NORMAL, 100000);
    (void)plan();
    assert_step_ms(100);
}

static void a_step_of_low_is_stopped_for_who_comes(void **state)
{
    (void)state;

    (void)long_step(CLASS_LOW, 100);
    assert_false(plan()->urgent);
    struct job *high = submit(1, CLASS_HIGH, 10);
    assert_true(plan()->urgent);
    assert_true(runs(high));
    assert_false(plan()->urgent); /* the step that runs now is its own */
    step();
    assert_false(plan()->urgent);
}

static void other_steps_are_waited_for(void **state)
{
    (void)state;

    struct job *low = long_step(CLASS_LOW, 100);
    (void)submit(1, CLASS_LOW, 10);
    assert_false(plan()->urgent); /* of the same class */
    sched_prefilled(&rig.sched, low, 400, 100000, rig.now_ns);
    (void)plan();
    rig.now_ns += 380 * NS_PER_MS;
    (void)submit(1, CLASS_HIGH, 10);
    assert_false(plan()->urgent); /* it is soon over */
}

static void a_step_of_normal_is_waited_for(void **state)
{
    (void)state;

    (void)long_step(CLASS_NORMAL, 10);
    (void)submit(1, CLASS_HIGH, 10);
    assert_false(plan()->urgent);
}

static void fifo_stops_nothing(void **state)
{
    (void)state;

    rig.sched.limits.fifo = true;
    (void)long_step(CLASS_LOW, 10);
    (void)submit(1, CLASS_HIGH, 10);
    assert_false(plan()->urgent);
}

/* Goal: what is thrown away is bounded. Method: a high comes 300 ms into every step; of the two
 * seconds that may be lost at once nothing is left after six, and steps are short until time has
 * brought some back. */
static void who_comes_too_often_finds_short_steps(void **state)
{
    struct job *low = long_step(CLASS_LOW, 0);
    unsigned n = 0;
    (void)state;

    while (rig.plan.prompt_us > 200000 && n < 20) {
        rig.now_ns += 300 * NS_PER_MS;
        struct job *high = submit(1, CLASS_HIGH, 1);
        assert_true(plan()->urgent);
        n++;
        rig.now_ns += 10 * NS_PER_MS;
        sched_tokens(&rig.sched, high, 1, rig.now_ns);
        sched_remove(&rig.sched, high);
        (void)plan();
    }
    assert_in_range(n, 5, 7);
    assert_step_ms(100);
    rig.now_ns += 60 * NS_PER_S;
    sched_prefilled(&rig.sched, low, 100, 100000, rig.now_ns);
    (void)plan();
    assert_step_ms(400);
}

/* Goal: of what nobody has measured nothing is stopped. */
static void an_unknown_step_is_waited_for(void **state)
{
    (void)state;

    (void)long_step(CLASS_LOW, 10);
    (void)submit(1, CLASS_HIGH, 10);
    assert_false(plan()->urgent);
}

#define KNOWN(f) cmocka_unit_test_setup(f, setup_known)

/* Goal: low's share is saved up for whose turn it is. Method: high takes all places, a low stream
 * of one user would take each bit of the share as it comes, and another's prompt costs 16 bits. */
static void low_s_share_is_saved_for_a_prompt_whose_turn_it_is(void **state)
{
    struct job *stream, *prompt;
    size_t n = 0;
    (void)state;

    rig.sched.limits.streams_max = 2;
    rig.model.chunk = 32;
    stream = submit(1, CLASS_LOW, 1);
    (void)plan();
    step();
    for (size_t i = 0; i < 4; i++) {
        (void)submit(0, CLASS_HIGH, 1);
    }
    for (size_t k = 0; k < 100; k++) {
        (void)plan();
        step();
    }
    prompt = submit(2, CLASS_LOW, 32);
    while (prompt->left > 0 && n < 200) {
        (void)plan();
        step();
        n++;
    }
    assert_int_equal(prompt->left, 0);
    assert_true(stream->held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KNOWN(low_alone_has_long_steps_and_others_have_short_ones),
        KNOWN(a_step_of_low_is_stopped_for_who_comes),
        KNOWN(other_steps_are_waited_for),
        KNOWN(a_step_of_normal_is_waited_for),
        KNOWN(fifo_stops_nothing),
        KNOWN(who_comes_too_often_finds_short_steps),
        TEST(an_unknown_step_is_waited_for),
        TEST(low_s_share_is_saved_for_a_prompt_whose_turn_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
