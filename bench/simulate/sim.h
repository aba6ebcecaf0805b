/* The broker's scheduler with an invented engine: virtual time, seeded arrivals, a cost model
 *
 *     step = pass + streams x stream + prompt tokens x token
 *
 * in place of the arithmetic. Everything that decides is the daemon's own code (sched, cost, queue,
 * gate, breaker, and the runner's pace), so what holds here holds there as far as the model does.
 * As in life, a plan reaches the engine while it works on the one before. */
#ifndef BENCH_SIMULATE_SIM_H
#define BENCH_SIMULATE_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/list.h"
#include "daemon/broker/breaker.h"
#include "daemon/broker/gate.h"
#include "daemon/broker/sched.h"
#include "daemon/runner/runner.h"

#define SIM_ACCOUNTS_MAX 16u
#define SIM_SOURCES_MAX 16u
#define SIM_MODELS_MAX 2u
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

/* What the engine has in one place for weights. The first is always there. */
struct sim_model_options {
    struct sim_cost cost;                /* pass_us 0: no such model */
    uint32_t kv_blocks, block_positions; /* 0: 64 streams, whatever their length */
    uint64_t ready_ns;                   /* until then it is being loaded */
    uint64_t broken_ns, mended_ns; /* in between every request of it fails at its first step */
};

/* Who asks for what, and when. */
struct sim_source {
    unsigned account, model;
    enum request_class class_;
    uint32_t prompt_min, prompt_max; /* tokens, each request's drawn evenly */
    uint32_t answer_min, answer_max;
    uint32_t depth;       /* so many outstanding at all times, where none is refused; 0: by per_s */
    double per_s;         /* arrivals that wait for nobody */
    uint64_t from_ns;     /* nothing before */
    uint64_t at_most;     /* requests in all; 0: no end */
    uint64_t deadline_ms; /* refused at once when the first token is expected later; 0: none */
    double
        deaf; /* the part of its clients that do not read for a while: from a random token on ... */
    uint32_t deaf_ms_max;   /* ... up to so long */
    double cancels;         /* the part that goes away again: ... */
    uint32_t cancel_ms_max; /* ... up to so long after it came */
};

struct sim_options {
    uint64_t seed;
    struct sim_model_options models[SIM_MODELS_MAX];
    struct sched_limits limits;
    struct breaker_limits breaker;
    uint64_t end_ns; /* of the run; 0: when no work is left */
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
    struct sim_model *model; /* borrowed: the world's */
    uint32_t prompt, answer; /* tokens */
    uint32_t deaf_from,
        deaf_ms; /* its client stops reading after so many tokens, for so long; 0: never */
    uint64_t arrived_ns;
    uint64_t hears_ns,
        cancel_ns;        /* when its client reads again, goes away; UINT64_MAX: not to come */
    bool probe;           /* the breaker let it through to see */
    uint64_t begun_ns;    /* the step that computed its first prompt token began */
    uint64_t computed_ns; /* that one was there; 0: not yet */
    uint64_t first_ns, last_ns; /* answer tokens */
    uint64_t wait_max_ns;       /* between two of them */

    /* The engine's. */
    bool in_engine, told; /* told: its start was reported */
    uint32_t done, total; /* positions computed of those known at the start */
    uint32_t given;       /* answer tokens picked */
};

/* How a request ended. */
enum sim_end {
    SIM_DONE,
    SIM_REFUSED, /* for its deadline: never taken */
    SIM_RESTS,   /* likewise by the breaker */
    SIM_FAILED,  /* by its model's fault */
    SIM_CANCELLED,
};

/* On both sides of the seam, too. */
struct sim_model {
    struct slots slots;
    struct pace pace;
    struct breaker breaker;
};

/* What one step did. */
struct sim_step {
    struct sim_model *model; /* borrowed */
    struct sim_job *who[SEAM_PLAN_MAX];
    uint32_t n_ids[SEAM_PLAN_MAX];
    bool prompt[SEAM_PLAN_MAX]; /* computes prompt tokens */
    bool gone[SEAM_PLAN_MAX];   /* cancelled meanwhile */
    size_t n;
    uint32_t n_decode, n_prompt;
    uint64_t begin_ns, end_ns;
    bool running, stopped;
};

struct sim;
/* Something was reported and booked. */
typedef void sim_observe_fn(struct sim *s, void *user);
typedef void sim_ended_fn(struct sim *s, const struct sim_job *j, enum sim_end how, void *user);

struct sim {
    struct sim_options options;
    struct sim_random noise,
        arrivals[SIM_SOURCES_MAX]; /* apart: what is asked for is the same however
                                                          * it is served */
    uint64_t now_ns;

    struct queue queue;
    struct sched sched;
    struct gate gate;
    struct sim_model models[SIM_MODELS_MAX];
    struct sched_account accounts[SIM_ACCOUNTS_MAX];
    struct gate_line lines[SIM_ACCOUNTS_MAX];

    struct sim_job *pool; /* owned: SIM_JOBS_MAX */
    struct list free, jobs;
    uint64_t n_ever, n_source[SIM_SOURCES_MAX], next_ns[SIM_SOURCES_MAX];
    uint32_t n_open[SIM_SOURCES_MAX];
    uint64_t gate_ns;   /* when to ask the gate again */
    uint64_t client_ns; /* when a client will read again or go away, or a model is there */

    /* The engine. */
    struct sim_job *plan[SEAM_PLAN_MAX];
    size_t n_plan;
    uint32_t prompt_us;
    size_t model_next;    /* models take turns */
    struct sim_step step; /* in flight */
    uint64_t stats_ns;    /* when the broker last heard of a step's time */

    /* What was measured. */
    uint64_t n_steps, n_plans, n_give_backs;
    uint64_t n_stops, stopped_ns; /* steps that an urgent plan stopped, and what they had taken */
    uint64_t n_done, n_refused, n_failed, n_cancelled;
    uint64_t n_deaf,
        n_unread; /* times that a client stopped reading; tokens computed all the same */
    uint64_t prompt_tokens, answer_tokens; /* computed */
    uint64_t prompted[SIM_ACCOUNTS_MAX];   /* prompt tokens of each account */
    uint64_t served[CLASSES];              /* prompt + 2 x answer */
    uint64_t step_ns, step_max_ns;         /* the last one, the longest */
    uint32_t chunk_max;                    /* prompt tokens of one step */
    uint64_t plan_ns, plan_max_ns;         /* real time that plans took; only with `timed` */
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

/* ---- engine.c: between sim.c and it ---- */

/** sim_begin_step() - the next step of the plan that is there, if it has work */
void sim_begin_step(struct sim *s);
/** sim_stop_step() - the step that runs ends at its next layer, with nothing done */
void sim_stop_step(struct sim *s);
/** sim_carry_out() - the engine's own part of a step that is over */
void sim_carry_out(struct sim *s, const struct sim_step *st);

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
