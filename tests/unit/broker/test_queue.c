#include "tests/support/test.h"

#include "daemon/broker/backoff.h"
#include "daemon/broker/queue.h"

static struct job job_of(uint64_t seq, enum request_class class_)
{
    struct job j = {.seq = seq, .class_ = class_, .bytes = 10};

    list_init(&j.link);
    return j;
}

static void each_bound_is_named(void **state)
{
    const struct queue_limits limits = {.per_identity = 2, .total = 3, .bytes = 100};
    struct job jobs[3];
    struct queue q;
    (void)state;

    queue_init(&q);
    assert_int_equal(queue_admit(&q, &limits, 0, 0, 101), QUEUE_FULL_BYTES);
    for (size_t i = 0; i < 3; i++) {
        jobs[i] = job_of(i, CLASS_NORMAL);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(queue_admit(&q, &limits, 0, i, 10), QUEUE_OK);
        queue_push(&q, &jobs[i]);
    }
    assert_int_equal(queue_admit(&q, &limits, 0, 2, 10), QUEUE_FULL_IDENTITY);
    assert_int_equal(queue_admit(&q, &limits, 1, 2, 10), QUEUE_OK); /* it would start at once */
    struct queue_limits own = limits;
    own.streams_kept = 1; /* it runs as many as it may: the free stream is not for it */
    assert_int_equal(queue_admit(&q, &own, 1, 2, 10), QUEUE_FULL_IDENTITY);
    assert_int_equal(queue_admit(&q, &own, 2, 2, 10), QUEUE_OK);
    assert_int_equal(queue_admit(&q, &limits, 0, 0, 10), QUEUE_OK); /* another identity */
    assert_int_equal(queue_admit(&q, &limits, 0, 0, 81), QUEUE_FULL_BYTES);
    queue_push(&q, &jobs[2]);
    assert_int_equal(queue_admit(&q, &limits, 0, 0, 10), QUEUE_FULL_TOTAL);
    queue_remove(&q, &jobs[0]);
    assert_int_equal(queue_admit(&q, &limits, 0, 0, 10), QUEUE_OK);
    assert_int_equal(q.bytes, 20);
    assert_true(queue_retry_ms(&q, 1000, 1) >= 100);
    assert_int_equal(queue_retry_ms(&q, UINT64_MAX, 1), 60000);
}

static void zero_means_nobody_waits_but_a_free_stream_serves(void **state)
{
    const struct queue_limits limits = {.bytes = 100};
    struct queue q;
    (void)state;

    queue_init(&q);
    assert_int_equal(queue_admit(&q, &limits, 0, 0, 1), QUEUE_FULL_TOTAL);
    assert_int_equal(queue_admit(&q, &limits, 1, 0, 1), QUEUE_OK);
}

static void a_position_counts_the_classes_above_and_who_came_before(void **state)
{
    static const enum request_class classes[] = {CLASS_LOW, CLASS_NORMAL, CLASS_NORMAL, CLASS_HIGH,
                                                 CLASS_LOW};
    static const uint32_t want[] = {3, 1, 2, 0, 4};
    struct job jobs[5];
    struct queue q;
    (void)state;

    queue_init(&q);
    for (size_t i = 0; i < 5; i++) {
        jobs[i] = job_of(i, classes[i]);
        queue_push(&q, &jobs[i]);
    }
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(queue_position(&q, &jobs[i]), want[i]);
    }
    queue_run(&q, &jobs[3]);
    assert_int_equal(queue_position(&q, &jobs[3]), 0);
    assert_int_equal(queue_position(&q, &jobs[1]), 0);
    jobs[1].parked = true; /* it waits for a rate limit, beside the queue */
    assert_int_equal(queue_position(&q, &jobs[2]), 0);
}

static void a_death_is_blamed_on_what_was_worked_on_and_kills_weigh_less(void **state)
{
    struct job j = job_of(1, CLASS_NORMAL);
    (void)state;

    assert_int_equal(job_died(&j, false), JOB_CONTINUES); /* it was not in the plan */
    assert_int_equal(j.deaths, 0);
    for (size_t i = 0; i < 20; i++) { /* a token in between forgives */
        j.planned = true;
        assert_int_equal(job_died(&j, false), JOB_CONTINUES);
        assert_false(job_suspect(&j));
        job_progress(&j);
    }
    for (size_t i = 0; i < JOB_SUSPECT_KILLS; i++) {
        assert_false(job_suspect(&j));
        j.planned = true;
        assert_int_equal(job_died(&j, true), JOB_CONTINUES);
    }
    assert_true(job_suspect(&j));
    j.planned = true;
    assert_int_equal(job_died(&j, true), JOB_CRASHED);
}

static void starts_of_the_engine_back_off_and_progress_forgives(void **state)
{
    static const uint32_t want[] = {0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000};
    struct backoff b = {0};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        assert_int_equal(backoff_died(&b, false), want[i]);
        assert_int_equal(backoff_hopeless(&b), i + 1 >= BACKOFF_GIVE_UP);
    }
    backoff_progress(&b);
    assert_false(backoff_hopeless(&b));
    assert_int_equal(backoff_died(&b, false), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_bound_is_named),
        cmocka_unit_test(zero_means_nobody_waits_but_a_free_stream_serves),
        cmocka_unit_test(a_position_counts_the_classes_above_and_who_came_before),
        cmocka_unit_test(a_death_is_blamed_on_what_was_worked_on_and_kills_weigh_less),
        cmocka_unit_test(starts_of_the_engine_back_off_and_progress_forgives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
