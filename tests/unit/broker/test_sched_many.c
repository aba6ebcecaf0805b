/* What a plan costs where very many ask. A plan is made at each step of the engine, between two
 * reads of the broker's sockets: it must not grow with what waits. */
#include "tests/support/test.h"

#include <stdlib.h>

#include "base/clock.h"
#include "daemon/broker/sched.h"

#define MANY_JOBS 10000u
#define PLANS 40u
#define PLAN_NS_MAX (5 * NS_PER_MS) /* it takes a tenth of that; the machine may be busy */

/* As far apart as jobs lie in requests. */
struct spread_job {
    struct job job;
    uint8_t rest[1024];
};

struct crowd {
    struct queue queue;
    struct sched sched;
    struct slots model, absent;
    struct sched_account accounts[SCHED_ACCOUNTS_MAX];
    struct spread_job jobs[MANY_JOBS];
    size_t n_jobs;
    struct sched_plan plan;
    uint64_t now_ns;
};

static struct crowd *crowd; /* owned by setup and teardown */

static int setup(void **state)
{
    const struct sched_limits limits = {.streams_max = 16, .pause_max_ns = 120 * NS_PER_S};
    (void)state;

    crowd = calloc(1, sizeof(*crowd));
    assert_non_null(crowd);
    crowd->now_ns = NS_PER_S;
    queue_init(&crowd->queue);
    sched_init(&crowd->sched, &crowd->queue, &limits);
    for (size_t i = 0; i < SCHED_ACCOUNTS_MAX; i++) {
        sched_account_init(&crowd->accounts[i]);
    }
    crowd->model = (struct slots){.ready = true, .n_streams = 64};
    crowd->absent = (struct slots){.n_streams = 64};
    for (uint32_t i = 0; i < 60; i++) {
        const uint32_t n = 1 + i % 8, p = i % 3;
        sched_step(&crowd->model, n, p, 10000 + n * 500 + 1000 * (uint64_t)p);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(crowd);
    return 0;
}

static struct job *submit(size_t account, struct slots *model, enum request_class class_)
{
    struct job *j = &crowd->jobs[crowd->n_jobs++].job;

    *j = (struct job){.seq = crowd->n_jobs,
                      .account = &crowd->accounts[account],
                      .slots = model,
                      .class_ = class_,
                      .bytes = 1000,
                      .prompt = 200};
    list_init(&j->link);
    list_init(&j->own_link);
    sched_submit(&crowd->sched, j);
    return j;
}

/* All the rest of the jobs, over so many accounts from the given one on. */
static void fill(size_t first, size_t n_accounts, struct slots *model, enum request_class class_)
{
    while (crowd->n_jobs < MANY_JOBS) {
        (void)submit(first + crowd->n_jobs % n_accounts, model, class_);
    }
}

static void step(void)
{
    crowd->now_ns += 10 * NS_PER_MS;
    for (size_t i = 0; i < crowd->plan.n_run; i++) {
        sched_tokens(&crowd->sched, crowd->plan.run[i], 1, crowd->now_ns);
    }
}

static void plans_take_little(const char *what, size_t bytes_max)
{
    uint64_t sum = 0, least = UINT64_MAX, most = 0;

    for (size_t i = 0; i < PLANS; i++) {
        const uint64_t begin = clock_now_ns();
        sched_plan(&crowd->sched, crowd->now_ns, bytes_max, &crowd->plan);
        const uint64_t took = clock_now_ns() - begin;
        sum += took;
        least = took < least ? took : least;
        most = took > most ? took : most;
        step();
    }
    print_message("%-60s %6.0f us a plan, %.0f to %.0f\n", what, (double)sum / PLANS / 1e3,
                  (double)least / 1e3, (double)most / 1e3);
    assert_true(least <= PLAN_NS_MAX);
}

static void many_that_could_all_start(void **state)
{
    (void)state;

    fill(0, SCHED_ACCOUNTS_MAX, &crowd->model, CLASS_NORMAL);
    plans_take_little("4,096 identities with work", 1 << 24);
    assert_int_equal(crowd->plan.n_run, 16);
}

static void many_whose_model_is_not_there(void **state)
{
    (void)state;

    fill(0, SCHED_ACCOUNTS_MAX, &crowd->absent, CLASS_NORMAL);
    plans_take_little("4,096 identities whose model is not there", 1 << 24);
    (void)teardown(NULL);
    (void)setup(NULL);
    fill(0, 1, &crowd->absent, CLASS_NORMAL);
    plans_take_little("10,000 jobs of one whose model is not there", 1 << 24);
    assert_int_equal(crowd->plan.n_run, 0);
}

static void many_past_the_limit_of_their_identity(void **state)
{
    (void)state;

    crowd->accounts[0].running_max = 1;
    fill(0, 1, &crowd->model, CLASS_NORMAL);
    plans_take_little("10,000 jobs of one that may run one", 1 << 24);
    assert_int_equal(crowd->plan.n_run, 1);
}

static void many_of_low_beside_a_stream(void **state)
{
    (void)state;

    for (size_t all = 0; all < 2; all++) {
        if (all) {
            (void)teardown(NULL);
            (void)setup(NULL);
        }
        crowd->sched.limits.streams_max = 2;
        (void)submit(0, &crowd->model, CLASS_HIGH);
        (void)submit(0, &crowd->model, CLASS_HIGH);
        fill(1, all ? SCHED_ACCOUNTS_MAX - 1 : 1, &crowd->model, CLASS_LOW);
        plans_take_little(all ? "low jobs of 4,095 beside a high one"
                              : "10,000 low jobs of one beside a high one",
                          1 << 24);
        assert_int_equal(crowd->plan.n_run, 2);
    }
}

static void many_without_room(void **state)
{
    (void)state;

    for (size_t all = 0; all < 2; all++) {
        if (all) {
            (void)teardown(NULL);
            (void)setup(NULL);
        }
        crowd->model.kv_blocks = 60;
        crowd->model.block_positions = 32;
        fill(0, all ? SCHED_ACCOUNTS_MAX : 1, &crowd->model, CLASS_NORMAL);
        plans_take_little(all ? "4,096 identities and no KV" : "10,000 jobs of one and no KV",
                          1 << 24);
        assert_in_range(crowd->plan.n_run, 1, 8);
    }
}

static void many_that_do_not_fit_the_pipe(void **state)
{
    (void)state;

    for (size_t all = 0; all < 2; all++) {
        if (all) {
            (void)teardown(NULL);
            (void)setup(NULL);
        }
        fill(0, all ? SCHED_ACCOUNTS_MAX : 1, &crowd->model, CLASS_NORMAL);
        plans_take_little(
            all ? "4,096 identities and a full pipe" : "10,000 of one and a full pipe", 0);
        assert_int_equal(crowd->plan.n_run, 0);
    }
}

static void many_that_wait_for_a_bucket(void **state)
{
    (void)state;

    for (size_t all = 0; all < 2; all++) {
        if (all) {
            (void)teardown(NULL);
            (void)setup(NULL);
        }
        fill(0, all ? SCHED_ACCOUNTS_MAX : 1, &crowd->model, CLASS_NORMAL);
        for (size_t i = 0; i < MANY_JOBS; i++) {
            sched_park(&crowd->jobs[i].job, true);
        }
        plans_take_little(all ? "4,096 identities at a bucket" : "10,000 of one at a bucket",
                          1 << 24);
        assert_int_equal(crowd->plan.n_run, 0);
    }
}

static void many_in_the_order_they_came(void **state)
{
    (void)state;

    for (size_t k = 0; k < 3; k++) {
        (void)teardown(NULL);
        (void)setup(NULL);
        crowd->sched.limits.fifo = true;
        crowd->accounts[0].running_max = k == 1;
        fill(0, 1, k == 2 ? &crowd->absent : &crowd->model, CLASS_NORMAL);
        plans_take_little(k == 0   ? "fifo: 10,000 jobs of one"
                          : k == 1 ? "fifo: 10,000 jobs of one that may run one"
                                   : "fifo: 10,000 jobs whose model is not there",
                          1 << 24);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(many_that_could_all_start),
        TEST(many_whose_model_is_not_there),
        TEST(many_past_the_limit_of_their_identity),
        TEST(many_of_low_beside_a_stream),
        TEST(many_without_room),
        TEST(many_that_do_not_fit_the_pipe),
        TEST(many_that_wait_for_a_bucket),
        TEST(many_in_the_order_they_came),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
