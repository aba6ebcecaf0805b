/* Seeded runs of the simulator and what they are watched for, for tests of what the scheduler
 * promises. */
#ifndef TESTS_SIMULATE_WATCH_H
#define TESTS_SIMULATE_WATCH_H

#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "bench/simulate/sim.h"

#define UNUSED __attribute__((unused)) /* not every test needs every part */
#define SECONDS_MAX 512u

/* What a run is watched for. */
struct watch {
    double gap_max, gap_over; /* between accounts 0 and 1; the most past what is promised */
    uint64_t gap_from_ns;     /* the gap is that of service since then */
    uint64_t before[2];       /* what they had got by then */
    uint64_t prompted_before; /* prompt tokens of account 0 likewise */
    uint64_t seconds;         /* sampled so far */
    uint64_t served[SECONDS_MAX][SIM_ACCOUNTS_MAX]; /* by the end of each second */
    uint64_t by_class[SECONDS_MAX][CLASSES];
    uint64_t *ends; /* owned: of steps */
    size_t n_ends, room;
    size_t n_long;      /* steps of more than step_max_ns */
    uint64_t hash;      /* of who finished when */
    uint64_t single_ns; /* to the first token of account 1's one request */
    double single_over; /* what others got meanwhile, past what is promised */
    uint64_t n_ended;
    uint64_t high_ns;      /* when the last high ended */
    unsigned n_high, late; /* highs; those that were computed too late */
    bool kv_broken;
};

static struct watch watch;
static uint64_t step_max_ns; /* what n_long is about */
static uint64_t runs = 1000; /* each with its own seed */

UNUSED static struct sim_options options_of(uint64_t seed, struct sim_random *r)
{
    sim_seed(r, seed);
    return (struct sim_options){
        .seed = seed,
        .models = {{.cost = sim_draw_cost(r)}},
        .limits = {.streams_max = sim_between(r, 1, 16), .pause_max_ns = 120 * NS_PER_S},
    };
}

static void observe(struct sim *s, void *user)
{
    struct watch *w = user;
    if (s->now_ns < w->gap_from_ns) {
        w->before[0] = s->accounts[0].served;
        w->before[1] = s->accounts[1].served;
        w->prompted_before = s->prompted[0];
    }
    const double a = (double)(s->accounts[0].served - w->before[0]);
    const double b = (double)(s->accounts[1].served - w->before[1]);
    const double promised = 2.0 * (s->chunk_max + 2.0 * s->options.limits.streams_max);

    w->gap_max = fmax(w->gap_max, fabs(a - b));
    w->gap_over = fmax(w->gap_over, fabs(a - b) - promised);
    while (w->seconds < SECONDS_MAX && s->now_ns >= (w->seconds + 2) * NS_PER_S) {
        for (size_t i = 0; i < SIM_ACCOUNTS_MAX; i++) {
            w->served[w->seconds][i] = s->accounts[i].served;
        }
        memcpy(w->by_class[w->seconds], s->served, sizeof(s->served));
        w->seconds++;
    }
    if (w->n_ends == w->room) {
        w->room = w->room ? 2 * w->room : 4096;
        w->ends = realloc(w->ends, w->room * sizeof(*w->ends));
        assert_non_null(w->ends);
    }
    w->ends[w->n_ends++] = s->now_ns;
    w->n_long += s->step_ns > step_max_ns;
}

static void run_from(const struct sim_options *o, struct sim *s, sim_ended_fn *ended,
                     uint64_t gap_from_ns)
{
    free(watch.ends);
    watch = (struct watch){.gap_from_ns = gap_from_ns};
    assert_int_equal(sim_init(s, o), 0);
    s->observe = observe;
    s->ended = ended;
    s->user = &watch;
    sim_run(s);
    sim_deinit(s);
}

UNUSED static void run(const struct sim_options *o, struct sim *s, sim_ended_fn *ended)
{
    run_from(o, s, ended, 0);
}

UNUSED static struct sim_source backlog(struct sim_random *r, unsigned account,
                                        enum request_class class_, uint32_t depth)
{
    const uint32_t prompt = sim_between(r, 10, 1500), answer = sim_between(r, 2, 200);

    return (struct sim_source){.account = account,
                               .class_ = class_,
                               .prompt_min = 1 + prompt / 4,
                               .prompt_max = prompt,
                               .answer_min = 1,
                               .answer_max = answer,
                               .depth = depth};
}

/* test [PATTERN [RUNS]] */
#define run_all(argc, argv, tests) run_all_of(argc, argv, tests, ARRAY_SIZE(tests))

static int run_all_of(int argc, char **argv, const struct CMUnitTest *tests, size_t n)
{
    const char *sanitized = getenv("ONEBIT_SANITIZED");

    runs = sanitized && sanitized[0] == '1' ? 100 : runs; /* ten times as slow */
    runs = argc > 2 ? strtoull(argv[2], NULL, 10) : runs;
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    const int failed = _cmocka_run_group_tests("tests", tests, n, NULL, NULL);
    free(watch.ends);
    return failed;
}

#endif
