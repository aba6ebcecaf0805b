/* The broker's scheduler with an invented engine: virtual time, seeded arrivals, a cost model
 *
 *     step = pass + streams x stream + prompt tokens x token
 *
 * in place of the arithmetic. Everything that decides is the daemon's own code (sched, cost, queue,
 * gate, and the runner's pace), so what holds here holds there as far as the model does. As in life, a
 * plan reaches the engine while it works on the one before. */
#ifndef BENCH_SIMULATE_SIM_H
#define BENCH_SIMULATE_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/list.h"
#include "daemon/broker/gate.h"
#include "daemon/broker/sched.h"
#include "daemon/runner/runner.h"

#define SIM_ACCOUNTS_MAX 16u
#define SIM_SOURCES_MAX 16u
#define SIM_JOBS_MAX 8192u  /* at once */
#define SIM_TOKENS_MAX 512u /* prompt tokens of one step, as the runner's */

/* xorshift64*; never 0. */
struct sim_random {
    uint64_t state;
};

void sim_seed(struct sim_random *r, uint64_t seed);
/** sim_uniform() - in [0, 1) */
double sim_uniform(struct sim_random *r);
/** sim_between() - a whole number in low..high */
uint32_t sim_between(struct sim_random *r, uint32_t low, uint32_t high);
/** sim_wait_ns() - to the next arrival of a Poisson process */
uint64_t sim_wait_ns(struct sim_random *r, double per_s);

struct sim_cost {
    double pass_us, stream_us, token_us;
    double noise; /* each step takes so much more or less, at most; 0.1 is a tenth */
};

/* Who asks for what, and when. */
struct sim_source {
    unsigned account;
    enum request_class class_;
    uint32_t prompt_min, prompt_max; /* tokens, each request's drawn evenly */
    uint32_t answer_min, answer_max;
    uint32_t depth;       /* so many outstanding at all times; 0: by per_s */
    double per_s;         /* arrivals that wait for nobody */
    uint64_t from_ns;     /* nothing before */
    uint64_t at_most;     /* requests in all; 0: no end */
    uint64_t deadline_ms; /* refused at once when the first token is expected later; 0: none */
};

struct sim_options {
    uint64_t seed;
    struct sim_cost cost;
    struct sched_limits limits;
    uint32_t kv_blocks, block_positions; /* 0: 64 streams, whatever their length */
    uint64_t end_ns;                     /* of the run; 0: when no work is left */
    struct sim_source sources[SIM_SOURCES_MAX];
    size_t n_sources;
    double weights[SIM_ACCOUNTS_MAX]; /* 0: 1 */
    struct rates rates[SIM_ACCOUNTS_MAX];
};

/* One request, on both sides of the seam. */
struct sim_job {
    struct job job;
    struct ticket ticket;
    struct list link; /* free, or in the world's jobs */
    unsigned source;
    uint32_t prompt, answer;        /* tokens */
    uint64_t arrived_ns, passed_ns; /* passed: the gate */
    uint64_t computed_ns;           /* the first prompt token was there; 0: not yet */
    uint64_t first_ns, last_ns;     /* answer tokens */
    uint64_t wait_max_ns;           /* between two of them */

    /* The engine's. */
    bool in_engine, told; /* told: its start was reported */
    uint32_t done, total; /* positions computed of those known at the start */
    uint32_t given;       /* answer tokens picked */
};

/* What one step did. */
struct sim_step {
    struct sim_job *who[SEAM_PLAN_MAX];
    uint32_t n_ids[SEAM_PLAN_MAX];
    bool prompt[SEAM_PLAN_MAX]; /* computes prompt tokens */
    bool gone[SEAM_PLAN_MAX];   /* cancelled meanwhile */
    size_t n;
    uint32_t n_decode, n_prompt;
    uint64_t begin_ns, end_ns;
    bool running;
};

struct sim;
/* Something was reported and booked. */
typedef void sim_observe_fn(struct sim *s, void *user);
/* A request has ended, or (refused) was never taken. */
typedef void sim_ended_fn(struct sim *s, const struct sim_job *j, bool refused, void *user);

struct sim {
    struct sim_options options;
    struct sim_random noise,
        arrivals[SIM_SOURCES_MAX]; /* apart: what is asked for is the same however
                                                          * it is served */
    uint64_t now_ns;

    struct queue queue;
    struct sched sched;
    struct gate gate;
    struct slots model;
    struct sched_account accounts[SIM_ACCOUNTS_MAX];
    struct gate_line lines[SIM_ACCOUNTS_MAX];

    struct sim_job *pool; /* owned: SIM_JOBS_MAX */
    struct list free, jobs;
    uint64_t n_ever, n_source[SIM_SOURCES_MAX], next_ns[SIM_SOURCES_MAX];
    uint32_t n_open[SIM_SOURCES_MAX];
    uint64_t gate_ns; /* when to ask the gate again */

    /* The engine. */
    struct pace pace;
    struct sim_job *plan[SEAM_PLAN_MAX];
    size_t n_plan;
    uint32_t prompt_us;
    struct sim_step step; /* in flight */
    uint64_t stats_ns;    /* when the broker last heard of a step's time */

    /* What was measured. */
    uint64_t n_steps, n_plans, n_give_backs, n_done, n_refused;
    uint64_t prompt_tokens, answer_tokens; /* computed */
    uint64_t served[CLASSES];              /* prompt + 2 x answer */
    uint64_t step_max_ns;
    uint32_t chunk_max;            /* prompt tokens of one step */
    uint64_t plan_ns, plan_max_ns; /* real time that plans took; only with `timed` */
    bool timed;

    sim_observe_fn *observe; /* may be NULL */
    sim_ended_fn *ended;     /* may be NULL */
    void *user;              /* borrowed */
};

/** sim_init() - a world at time 1 s. 0 or -ENOMEM; sim_deinit() in either case. */
MUST_USE int sim_init(struct sim *s, const struct sim_options *options);
void sim_deinit(struct sim *s);

/** sim_run() - until the end of options, or until no work is left */
void sim_run(struct sim *s);

/* ---- loads.c: known mixes ---- */

/** sim_voice() - 20 tokens in, 40 out, high */
struct sim_source sim_voice(unsigned account, double per_s);
/** sim_chat() - 500 in, 150 out, normal */
struct sim_source sim_chat(unsigned account, double per_s);
/** sim_batch() - labelling: 2,000 in, 20 out, low, so many outstanding */
struct sim_source sim_batch(unsigned account, uint32_t depth);

/** sim_draw_cost() - a machine between a fast PC and a slow board */
struct sim_cost sim_draw_cost(struct sim_random *r);

#endif
