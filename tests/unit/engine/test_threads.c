#include "tests/support/test.h"

#include <stdlib.h>
#include <time.h>

#include "engine/engine.h"
#include "engine/threads.h"

struct tally {
    unsigned *done; /* (n) */
    uint64_t sums[THREADS_MAX];
};

static void count(void *ctx, size_t item, unsigned thread_i)
{
    struct tally *t = ctx;

    t->done[item]++; /* plain: a data race here would be the pool's fault */
    t->sums[thread_i] += item;
}

/* Goal: every item is done exactly once, and its effects are seen by the caller. Method: many jobs
 * of many sizes back to back, with a pause now and then so that workers fall asleep in between. */
static void every_item_is_done_once(void **state)
{
    static const unsigned counts[] = {1, 2, 5};
    (void)state;

    for (size_t c = 0; c < ARRAY_SIZE(counts); c++) {
        struct threads *t = NULL;
        assert_int_equal(threads_new(&t, counts[c]), 0);
        assert_int_equal(threads_count(t), counts[c]);
        for (size_t job = 0; job < 600; job++) {
            const size_t n = job * 7 % 101;
            struct tally tally = {.done = calloc(n + 1, sizeof(unsigned))};
            uint64_t sum = 0;
            assert_non_null(tally.done);
            threads_run(t, count, &tally, n);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(tally.done[i], 1);
            }
            for (unsigned i = 0; i < THREADS_MAX; i++) {
                assert_true(i < counts[c] || tally.sums[i] == 0);
                sum += tally.sums[i];
            }
            assert_int_equal(sum, n ? n * (n - 1) / 2 : 0);
            free(tally.done);
            if (job % 100 == 0) {
                (void)nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
            }
        }
        threads_free(t);
    }
}

/* Goal: a job is done by the threads it is for, and by no other. Method: counts that change from
 * job to job, with pauses in which workers fall asleep or are parked. */
static void a_job_may_be_for_some_of_the_threads(void **state)
{
    struct threads *t = NULL;
    (void)state;

    assert_int_equal(threads_new(&t, 5), 0);
    assert_int_equal(threads_used(t), 5);
    for (size_t job = 0; job < 2000; job++) {
        const unsigned n_used = 1 + (unsigned)(job / 3 * 7 % 5);
        const size_t n = 1 + job % 97;
        struct tally tally = {.done = calloc(n, sizeof(unsigned))};
        assert_non_null(tally.done);
        threads_use(t, n_used);
        assert_int_equal(threads_used(t), n_used);
        threads_run(t, count, &tally, n);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(tally.done[i], 1);
        }
        for (unsigned i = n_used; i < THREADS_MAX; i++) {
            assert_int_equal(tally.sums[i], 0);
        }
        free(tally.done);
        if (job % 100 == 0) {
            (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
    }
    assert_int_equal(threads_count(t), 5);
    threads_use(t, 2); /* freed while some are parked */
    (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    threads_free(t);
}

static void pools_come_and_go(void **state)
{
    struct threads *t = NULL;
    (void)state;

    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(threads_new(&t, 1 + i % 4), 0);
        threads_free(t);
    }
    threads_free(NULL);
    assert_int_equal(threads_new(&t, 0), -22);
    assert_int_equal(threads_new(&t, THREADS_MAX + 1), -22);
}

static void engines_refuse_levels_that_are_absent(void **state)
{
    struct engine *e = NULL;
    (void)state;

    for (unsigned level = 0; level < CPU_LEVELS; level++) {
        const struct engine_options o = {.cpu = (enum cpu_level)level, .n_threads = 1};
        const int r = engine_new(&e, &o);
        assert_int_equal(r, cpu_level_present(o.cpu) ? 0 : -22);
        if (r == 0) {
            assert_int_equal(engine_cpu(e), level);
            engine_free(e);
        }
    }
    const unsigned n = engine_threads_default();
    assert_true(n >= 1 && n <= engine_threads_most() && engine_threads_most() <= THREADS_MAX);
    const struct engine_options fewer = {.cpu = CPU_SCALAR, .n_threads = 3, .n_threads_most = 2};
    assert_int_equal(engine_new(&e, &fewer), -22);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_is_done_once),
        cmocka_unit_test(a_job_may_be_for_some_of_the_threads),
        cmocka_unit_test(pools_come_and_go),
        cmocka_unit_test(engines_refuse_levels_that_are_absent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
