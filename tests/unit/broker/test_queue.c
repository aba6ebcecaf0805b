#include "tests/support/test.h"

#include "daemon/broker/backoff.h"
#include "daemon/broker/plan.h"
#include "daemon/broker/queue.h"

static struct job job_of(uint64_t seq, uid_t uid, enum request_class class_, struct slots *slots)
{
    return (struct job){.seq = seq, .uid = uid, .class_ = class_, .slots = slots, .bytes = 10};
}

/* What the loop does with what plan_start() names. */
static void start(struct queue *q, struct job *j)
{
    if (!j->running) {
        queue_run(q, j);
    }
    j->held = true;
    j->slots->n_held++;
}

/* The engine dies: what the loop does then, but for the culprit's end. */
static size_t die(struct job **jobs, size_t n, struct slots *slots, bool killed)
{
    size_t crashed = 0;

    for (size_t i = 0; i < n; i++) {
        crashed += job_died(jobs[i], killed) == JOB_CRASHED;
    }
    slots->n_held = 0;
    return crashed;
}

static void plan(struct queue *q, struct seam_plan *p)
{
    plan_run(q, p);
    list_for_each (j, next, &q->running, struct job, link) {
        j->planned = false;
        for (size_t i = 0; i < p->n_run; i++) {
            j->planned |= p->run[i] == j->seq;
        }
    }
}

static void each_bound_is_named(void **state)
{
    const struct queue_limits limits = {.per_identity = 2, .total = 3, .bytes = 100};
    struct job jobs[3];
    struct queue q;
    (void)state;

    queue_init(&q);
    assert_int_equal(queue_admit(&q, &limits, 0, 1, 101), QUEUE_FULL_BYTES);
    for (size_t i = 0; i < 2; i++) {
        jobs[i] = job_of(i, 1, CLASS_NORMAL, NULL);
        assert_int_equal(queue_admit(&q, &limits, 0, 1, 10), QUEUE_OK);
        queue_push(&q, &jobs[i]);
    }
    assert_int_equal(queue_admit(&q, &limits, 0, 1, 10), QUEUE_FULL_IDENTITY);
    assert_int_equal(queue_admit(&q, &limits, 1, 1, 10), QUEUE_OK); /* it would start at once */
    assert_int_equal(queue_admit(&q, &limits, 0, 2, 10), QUEUE_OK);
    assert_int_equal(queue_admit(&q, &limits, 0, 2, 81), QUEUE_FULL_BYTES);
    jobs[2] = job_of(2, 2, CLASS_HIGH, NULL);
    queue_push(&q, &jobs[2]);
    assert_int_equal(queue_admit(&q, &limits, 0, 3, 10), QUEUE_FULL_TOTAL);
    queue_remove(&q, &jobs[0]);
    assert_int_equal(queue_admit(&q, &limits, 0, 3, 10), QUEUE_OK);
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
    assert_int_equal(queue_admit(&q, &limits, 0, 1, 1), QUEUE_FULL_TOTAL);
    assert_int_equal(queue_admit(&q, &limits, 1, 1, 1), QUEUE_OK);
}

static void higher_classes_go_first_and_each_is_first_come_first_served(void **state)
{
    struct slots slots = {.ready = true, .n_streams = 3};
    struct job jobs[5];
    static const enum request_class classes[] = {CLASS_LOW, CLASS_NORMAL, CLASS_NORMAL, CLASS_HIGH,
                                                 CLASS_LOW};
    static const uint64_t order[] = {3, 1, 2};
    struct seam_plan p;
    struct queue q;
    (void)state;

    queue_init(&q);
    for (size_t i = 0; i < 5; i++) {
        jobs[i] = job_of(i, 1, classes[i], &slots);
        queue_push(&q, &jobs[i]);
    }
    assert_int_equal(queue_position(&q, &jobs[3]), 0);
    assert_int_equal(queue_position(&q, &jobs[2]), 2);
    assert_int_equal(queue_position(&q, &jobs[4]), 4);
    for (size_t i = 0; i < 3; i++) {
        struct job *j = plan_start(&q, 16);
        assert_non_null(j);
        assert_int_equal(j->seq, order[i]);
        start(&q, j);
    }
    assert_null(plan_start(&q, 16)); /* no stream is free */
    plan(&q, &p);
    assert_int_equal(p.n_run, 3);
    assert_memory_equal(p.run, order, sizeof(order));
}

static void streams_max_bounds_all_models_together(void **state)
{
    struct slots a = {.ready = true, .n_streams = 8}, b = {.ready = true, .n_streams = 8};
    struct job one = job_of(1, 1, CLASS_NORMAL, &a), two = job_of(2, 1, CLASS_NORMAL, &b);
    struct queue q;
    (void)state;

    queue_init(&q);
    queue_push(&q, &one);
    queue_push(&q, &two);
    start(&q, plan_start(&q, 1));
    assert_null(plan_start(&q, 1));
    assert_ptr_equal(plan_start(&q, 2), &two);
    b.ready = false;
    assert_null(plan_start(&q, 2));
}

static void a_client_that_does_not_read_pauses_its_own_stream_only(void **state)
{
    struct slots slots = {.ready = true, .n_streams = 4};
    struct job one = job_of(1, 1, CLASS_NORMAL, &slots), two = job_of(2, 1, CLASS_NORMAL, &slots);
    struct seam_plan p;
    struct queue q;
    (void)state;

    queue_init(&q);
    queue_push(&q, &one);
    queue_push(&q, &two);
    start(&q, plan_start(&q, 16));
    start(&q, plan_start(&q, 16));
    one.blocked = true;
    plan(&q, &p);
    assert_int_equal(p.n_run, 1);
    assert_int_equal(p.run[0], 2);
    one.blocked = false;
    plan(&q, &p);
    assert_int_equal(p.n_run, 2);
}

/* Goal: only the culprit fails. Method: three jobs, the third crashes the engine whenever it works
 * on it; the others deliver a token when they run without it. */
static void after_two_deaths_suspects_run_alone_and_the_culprit_is_found(void **state)
{
    struct slots slots = {.ready = true, .n_streams = 4};
    struct job a = job_of(1, 1, CLASS_NORMAL, &slots), b = job_of(2, 1, CLASS_NORMAL, &slots);
    struct job bad = job_of(3, 1, CLASS_NORMAL, &slots), *all[] = {&a, &b, &bad};
    struct seam_plan p;
    struct queue q;
    (void)state;

    queue_init(&q);
    for (size_t i = 0; i < 3; i++) {
        queue_push(&q, all[i]);
    }
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < 3; i++) {
            start(&q, plan_start(&q, 16));
        }
        plan(&q, &p);
        assert_int_equal(p.n_run, 3);
        assert_int_equal(die(all, 3, &slots, false), 0);
    }
    for (size_t i = 0; i < 2; i++) { /* the innocent: each alone, until a token clears it */
        struct job *j = plan_start(&q, 16);
        assert_ptr_equal(j, all[i]);
        start(&q, j);
        assert_null(plan_start(&q, 16));
        plan(&q, &p);
        assert_int_equal(p.n_run, 1);
        assert_int_equal(p.run[0], j->seq);
        job_progress(j);
    }
    start(&q, plan_start(&q, 16));
    plan(&q, &p);
    assert_int_equal(p.n_run, 1); /* a and b are held beside it, paused */
    assert_int_equal(p.run[0], 3);
    assert_int_equal(die(all, 3, &slots, false), 1);
    assert_int_equal(a.deaths, 0);
    assert_int_equal(b.deaths, 0);
    queue_remove(&q, &bad);
    start(&q, plan_start(&q, 16));
    start(&q, plan_start(&q, 16));
    plan(&q, &p);
    assert_int_equal(p.n_run, 2);
}

static void a_token_in_between_forgives_and_kills_from_outside_weigh_less(void **state)
{
    struct slots slots = {.ready = true, .n_streams = 1};
    struct job j = job_of(1, 1, CLASS_NORMAL, &slots), *one[] = {&j};
    struct seam_plan p;
    struct queue q;
    (void)state;

    queue_init(&q);
    queue_push(&q, &j);
    for (size_t i = 0; i < 20; i++) {
        start(&q, plan_start(&q, 1));
        plan(&q, &p);
        job_progress(&j);
        assert_int_equal(die(one, 1, &slots, false), 0);
    }
    j.deaths = 0;
    for (size_t i = 0; i < JOB_SUSPECT_KILLS; i++) {
        start(&q, plan_start(&q, 1));
        plan(&q, &p);
        assert_int_equal(die(one, 1, &slots, true), 0);
    }
    start(&q, plan_start(&q, 1));
    plan(&q, &p);
    assert_int_equal(die(one, 1, &slots, true), 1);
}

static void a_suspect_that_cannot_run_stops_nobody(void **state)
{
    struct slots slots = {.ready = true, .n_streams = 2}, absent = {0};
    struct job suspect = job_of(1, 1, CLASS_HIGH, &slots), other = job_of(2, 1, CLASS_LOW, &slots);
    struct seam_plan p;
    struct queue q;
    (void)state;

    queue_init(&q);
    queue_push(&q, &suspect);
    queue_push(&q, &other);
    queue_run(&q, &suspect);
    suspect.deaths = JOB_SUSPECT_DEATHS;
    assert_ptr_equal(plan_start(&q, 16), &suspect);
    suspect.blocked = true;
    assert_ptr_equal(plan_start(&q, 16), &other);
    suspect.blocked = false;
    suspect.slots = &absent;
    assert_ptr_equal(plan_start(&q, 16), &other);
    start(&q, &other);
    plan(&q, &p);
    assert_int_equal(p.n_run, 1);
    assert_int_equal(p.run[0], 2);
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
        cmocka_unit_test(higher_classes_go_first_and_each_is_first_come_first_served),
        cmocka_unit_test(streams_max_bounds_all_models_together),
        cmocka_unit_test(a_client_that_does_not_read_pauses_its_own_stream_only),
        cmocka_unit_test(after_two_deaths_suspects_run_alone_and_the_culprit_is_found),
        cmocka_unit_test(a_token_in_between_forgives_and_kills_from_outside_weigh_less),
        cmocka_unit_test(a_suspect_that_cannot_run_stops_nobody),
        cmocka_unit_test(starts_of_the_engine_back_off_and_progress_forgives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
