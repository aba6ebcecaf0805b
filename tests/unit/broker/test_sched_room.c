/* Who has KV, and who has to give it back. */
#include "tests/unit/broker/sched_rig.h"

/* Goal: streams that nobody reads keep nobody out. Method: one account holds all KV, its client
 * reads none of it, and it has more that waits in front of the newcomer; with KV counted, and with
 * an engine that ran out. */
static void streams_that_nobody_reads_make_room_for_a_newcomer(void **state)
{
    (void)state;

    for (size_t ran_out = 0; ran_out < 2; ran_out++) {
        (void)setup(NULL);
        rig.model.kv_blocks = 12;
        rig.model.block_positions = 32;
        struct job *held[3], *newcomer;
        for (size_t i = 0; i < ARRAY_SIZE(held); i++) {
            held[i] = submit(0, CLASS_NORMAL, 20);
        }
        for (size_t i = 0; i < 6; i++) {
            (void)plan();
            step();
        }
        for (size_t i = 0; i < 40;
             i++) { /* more of the same account, blocked like the rest of it */
            submit(0, CLASS_NORMAL, 20)->blocked = i % 2;
        }
        for (size_t i = 0; i < ARRAY_SIZE(held); i++) {
            held[i]->blocked = true;
        }
        (void)plan();
        rig.model.kv_full = ran_out;
        newcomer = submit(1, CLASS_NORMAL, 20);
        bool ran = false;
        for (size_t i = 0; i < 3 && !ran; i++) {
            (void)plan();
            ran = runs(newcomer);
            step();
        }
        assert_true(ran);
    }
}

static void kv_goes_to_the_higher_class_and_comes_back(void **state)
{
    struct job *low[2], *high;
    (void)state;

    rig.model.kv_blocks = 20;
    rig.model.block_positions = 16;
    for (size_t i = 0; i < 2; i++) {
        low[i] = submit(0, CLASS_LOW, 60);
    }
    assert_int_equal(plan()->n_run, 2);
    step();
    assert_int_equal(rig.model.blocks_used, 8);
    high = submit(1, CLASS_HIGH, 120); /* 12 blocks, and 4 for what all may grow by */
    (void)plan();
    assert_int_equal(rig.plan.n_give_back, 1);
    assert_int_equal(rig.sched.n_given_back, 1);
    assert_ptr_equal(rig.plan.give_back[0], low[1]); /* the one started last */
    assert_true(high->held && !low[1]->held && low[0]->held);
    for (size_t i = 0; i < 5; i++) {
        step();
        (void)plan();
        assert_int_equal(rig.plan.n_give_back, 0); /* and there it stays */
    }
    sched_remove(&rig.sched, high);
    (void)plan();
    assert_true(low[1]->held);
    assert_int_equal(low[1]->left, 60 + 1); /* with the token that it had */
}

static void inside_a_class_kv_goes_only_from_two_to_none(void **state)
{
    (void)state;

    rig.model.n_streams = 3;
    for (size_t i = 0; i < 6; i++) {
        (void)submit(0, CLASS_NORMAL, 1);
    }
    assert_int_equal(plan()->n_run, 3);
    step();
    (void)submit(1, CLASS_NORMAL, 1);
    (void)submit(1, CLASS_NORMAL, 1);
    (void)plan();
    assert_int_equal(rig.plan.n_give_back, 1);
    assert_int_equal(rig.accounts[0].n_held, 2);
    assert_int_equal(rig.accounts[1].n_held, 1);
    for (size_t i = 0; i < 50; i++) {
        step();
        assert_int_equal(plan()->n_give_back, 0);
    }
}

static void streams_that_outgrow_the_kv_are_given_back_latest_first(void **state)
{
    struct job *jobs[3];
    (void)state;

    rig.model.kv_blocks = 24;
    rig.model.block_positions = 16;
    for (size_t i = 0; i < 3; i++) {
        jobs[i] = submit(0, CLASS_NORMAL, 16);
    }
    assert_int_equal(plan()->n_run, 3);
    for (size_t i = 0; i < 400 && jobs[2]->held; i++) {
        step();
        (void)plan();
        assert_true(rig.model.blocks_used <= rig.model.kv_blocks);
    }
    assert_true(jobs[0]->held && jobs[1]->held && !jobs[2]->held);
    sched_remove(&rig.sched, jobs[0]);
    (void)plan();
    assert_true(jobs[2]->held);
}

/* Goal: who does not read gives way to those who do, even to a lower class. */
static void of_streams_that_outgrow_the_kv_those_that_nobody_reads_go_first(void **state)
{
    struct job *jobs[3];
    (void)state;

    rig.model.kv_blocks = 24;
    rig.model.block_positions = 16;
    for (size_t i = 0; i < 3; i++) {
        jobs[i] = submit(i % 2, i == 0 ? CLASS_HIGH : CLASS_LOW, 16);
    }
    (void)plan();
    step();
    assert_int_equal(plan()->n_run, 3);
    for (size_t i = 0; i < 30; i++) {
        step();
        (void)plan();
    }
    jobs[0]->blocked = true;
    for (size_t i = 0; i < 400 && jobs[0]->held; i++) {
        (void)plan();
        step();
        assert_true(jobs[1]->held && jobs[2]->held);
    }
    assert_false(jobs[0]->held);
    for (size_t i = 0; i < 400 && jobs[2]->held; i++) { /* then as ever */
        (void)plan();
        step();
        assert_true(jobs[1]->held || !jobs[2]->held);
    }
    assert_true(jobs[1]->held != jobs[2]->held);
}

static void an_engine_that_ran_out_of_kv_is_not_asked_at_once_again(void **state)
{
    struct job *a = submit(0, CLASS_NORMAL, 1), *b = submit(0, CLASS_NORMAL, 1);
    (void)state;

    (void)plan();
    assert_true(sched_kv_full(&rig.sched, b));
    assert_int_equal(rig.sched.n_given_back, 1);
    (void)plan();
    assert_false(b->held);
    assert_int_equal(rig.plan.n_run, 1);
    sched_remove(&rig.sched, a);
    (void)plan();
    assert_true(b->held);
    assert_false(sched_kv_full(&rig.sched, b)); /* alone, and still not enough */
    assert_int_equal(rig.sched.n_given_back, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(streams_that_nobody_reads_make_room_for_a_newcomer),
        TEST(kv_goes_to_the_higher_class_and_comes_back),
        TEST(inside_a_class_kv_goes_only_from_two_to_none),
        TEST(streams_that_outgrow_the_kv_are_given_back_latest_first),
        TEST(of_streams_that_outgrow_the_kv_those_that_nobody_reads_go_first),
        TEST(an_engine_that_ran_out_of_kv_is_not_asked_at_once_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
