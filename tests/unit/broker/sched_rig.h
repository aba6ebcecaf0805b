/* Some accounts, jobs and models, and what the loop does between them and the engine, for tests of
 * the scheduler. */
#ifndef TESTS_BROKER_SCHED_RIG_H
#define TESTS_BROKER_SCHED_RIG_H

#include "tests/support/test.h"

#include "base/clock.h"
#include "daemon/broker/sched.h"

#define JOBS_MAX 128
#define UNUSED __attribute__((unused)) /* not every test needs every part */

struct rig {
    struct queue queue;
    struct sched sched;
    struct slots model;
    struct sched_account accounts[4];
    struct job jobs[JOBS_MAX];
    size_t n_jobs;
    struct sched_plan plan;
    uint64_t now_ns;
};

static struct rig rig;

UNUSED static int setup(void **state)
{
    const struct sched_limits limits = {.streams_max = 16, .pause_max_ns = 120 * NS_PER_S};

    rig = (struct rig){.now_ns = NS_PER_S};
    queue_init(&rig.queue);
    sched_init(&rig.sched, &rig.queue, &limits);
    for (size_t i = 0; i < ARRAY_SIZE(rig.accounts); i++) {
        sched_account_init(&rig.accounts[i]);
    }
    rig.model = (struct slots){.ready = true, .n_streams = 64};
    (void)state;
    return 0;
}

UNUSED static struct job *submit(size_t account, enum request_class class_, uint32_t prompt)
{
    struct job *j = &rig.jobs[rig.n_jobs];

    *j = (struct job){.seq = ++rig.n_jobs,
                      .account = &rig.accounts[account],
                      .slots = &rig.model,
                      .class_ = class_,
                      .bytes = 10,
                      .prompt = prompt};
    list_init(&j->link);
    list_init(&j->own_link);
    sched_submit(&rig.sched, j);
    return j;
}

UNUSED static const struct sched_plan *plan(void)
{
    sched_plan(&rig.sched, rig.now_ns, 1 << 20, &rig.plan);
    return &rig.plan;
}

/* One step of the engine: everybody in the plan gets a token, whole prompts are computed. */
UNUSED static void step(void)
{
    rig.now_ns += 10 * NS_PER_MS;
    for (size_t i = 0; i < rig.plan.n_run; i++) {
        sched_tokens(&rig.sched, rig.plan.run[i], 1, rig.now_ns);
        job_progress(rig.plan.run[i]);
    }
}

UNUSED static bool runs(const struct job *j)
{
    for (size_t i = 0; i < rig.plan.n_run; i++) {
        if (rig.plan.run[i] == j) {
            return true;
        }
    }
    return false;
}

UNUSED static size_t die(void)
{
    size_t crashed = 0;

    list_for_each (j, next, &rig.queue.running, struct job, link) {
        const int verdict = job_died(j, false);
        sched_forgotten(&rig.sched, j);
        if (verdict == JOB_CRASHED) {
            crashed++;
            sched_remove(&rig.sched, j);
        }
    }
    sched_engine_gone(&rig.sched);
    return crashed;
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

#endif
