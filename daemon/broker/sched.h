/* Whose turn it is: service accounts and, over them, the order of work. Pure code over a virtual
 * clock: the loop, the unit tests and bench/simulate run the very same functions.
 *
 * The broker tells what happens (a job came, began, got tokens, ended); sched_plan() says what the
 * engine shall do next. Nothing here allocates. */
#ifndef BROKER_SCHED_H
#define BROKER_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/list.h"
#include "daemon/broker/queue.h"
#include "ipc/message.h"
#include "ipc/seam.h"

#define SCHED_ACCOUNTS_MAX 4096u /* with jobs, that one plan looks at */
#define SCHED_PROMPT_COST 1u     /* of a prompt token computed */
#define SCHED_ANSWER_COST 2u     /* of an answer token */
#define SCHED_CREDIT_MAX 4096.0  /* of low: what was long ago is forgotten */
#define SCHED_STOP_US_MAX 2e6    /* of the engine's time, to be thrown away at once */
#define SCHED_TABS 4u            /* models whose prompts an account tells apart in each class */

/* Prompt tokens that jobs of one model have still to compute, as far as known. */
struct sched_tab {
    const struct slots *model; /* borrowed; of the last tab: any model that found no other free */
    uint64_t n;
};

/* The service that one identity has had: 1 for a prompt token computed, 2 for an answer token, each
 * divided by its weight. Inside a class the smallest counter goes first. An account stays as long
 * as its identity, so that a new connection is no new start. */
struct sched_account {
    /* Policy's; may change at any time. */
    double weight;        /* > 0; its share against others of the class */
    uint32_t running_max; /* jobs given to the engine at once; 0: no limit of its own */

    /* The scheduler's. */
    struct list link[CLASSES];    /* in its accounts while there are jobs of the class */
    struct list running[CLASSES]; /* struct job: given to the engine once, in this order */
    struct list waiting[CLASSES]; /* struct job: never yet, in the order they came */
    double counter[CLASSES];      /* weighted service */
    double ahead[CLASSES];        /* scratch of one plan: the counter it is going to have */
    bool active[CLASSES];         /* had work that could be done, at the last plan */
    size_t n_jobs, n_waiting;     /* all; those that were never given to the engine */
    uint32_t n_held;              /* sequences in the engine */
    uint64_t served;              /* prompt + 2 x answer tokens, ever */
    struct sched_tab pending[CLASSES][SCHED_TABS];
};

/** sched_account_init() - no service yet, weight 1, no limit */
void sched_account_init(struct sched_account *a);

/** sched_account_idle() - no job: the identity may be forgotten */
bool sched_account_idle(const struct sched_account *a);

struct sched_limits {
    bool fifo;            /* first come first served: no classes, no shares, no pausing */
    uint32_t streams_max; /* sequences that run at once, at most SEAM_PLAN_MAX */
    uint32_t chunk_us;    /* prompt time in a step that others decode in; 0: from what steps take */
    uint64_t pause_max_ns; /* a paused stream gets a token at the latest after so long; 0: no such
                       * rule */
    /* Of whoever wants less work done (throttle.h). */
    enum request_class lowest; /* classes below are paused, and not started */
    uint32_t streams_cap;      /* sequences that run at once, at most; 0: streams_max */
    uint32_t chunk_part;       /* prompts get so many times less of a step; 0 and 1: all of it */
};

/* One account's next job, while a plan is made. */
struct sched_turn {
    double key;
    uint64_t seq;    /* the job's */
    struct job *job; /* borrowed */
};

struct sched {
    struct sched_limits limits;
    struct queue *queue;           /* borrowed */
    struct list accounts[CLASSES]; /* that have jobs of the class */
    double floor[CLASSES];         /* the smallest active counter: who comes back starts there */
    double low_credit;             /* tokens of service that low has to get before others */
    bool low_waits;                /* there was low work at the last plan */
    uint32_t n_held;               /* sequences in the engine */
    uint64_t n_given_back;         /* times that one lost its KV to another, ever */
    /* The last plan, and the one that the step in flight was begun with. Entries may be NULL: jobs
     * that have ended since. */
    struct job *sent[SEAM_PLAN_MAX], *flight[SEAM_PLAN_MAX];
    size_t n_sent, n_flight;
    double sent_us, flight_us; /* what a step of each takes; 0: not known */
    uint64_t flight_ns;        /* when that one began */
    bool reported; /* a step has ended since the last plan: the next one has begun with that */
    uint64_t reported_ns;  /* then */
    uint64_t n_plans;      /* numbers them */
    double stop_credit_us; /* of the engine's time, that may be thrown away; as of stop_ns */
    uint64_t stop_ns;
    struct sched_turn turns[SCHED_ACCOUNTS_MAX]; /* scratch of one plan */
    uint64_t
        window_at_ns; /* the engine's time up to here is booked on prompts; 0: none in the plan */
};

void sched_init(struct sched *s, struct queue *queue, const struct sched_limits *limits);

/* ---- what happens ---- */

/** sched_submit() - a new job at the end of its class. Its account, class, bytes are set, and its
 * prompt where the count is known; 0: estimated from the bytes. */
void sched_submit(struct sched *s, struct job *j);

/** sched_park() - a submitted job that has not begun waits for a rate limit, or does so no more.
 * While it waits it stands apart: it is not started, and nobody else's expected wait counts it. */
void sched_park(struct job *j, bool parked);

/** sched_bind() - its model is known: what its prompt comes to there */
void sched_bind(struct job *j, struct slots *m);

/** sched_remove() - it is over, however it ended; harmless for a job that was never submitted. What
 * it was charged stays charged. */
void sched_remove(struct sched *s, struct job *j);

/** sched_started() - the engine has read the prompt: so many tokens, so many of them need no
 * work */
void sched_started(struct sched *s, struct job *j, uint32_t prompt, uint32_t cached);

/** sched_prefilled() - the engine has `done` of `total` positions of the prompt (and of the answer
 * from before a restart) */
void sched_prefilled(struct sched *s, struct job *j, uint32_t done, uint32_t total,
                     uint64_t now_ns);

/** sched_tokens() - n new tokens of its answer came */
void sched_tokens(struct sched *s, struct job *j, uint32_t n, uint64_t now_ns);

/** sched_forgotten() - the engine holds it no more; unless it is removed it is started again */
void sched_forgotten(struct sched *s, struct job *j);

/** sched_kv_full() - the engine had no KV for it and has forgotten it. False: nothing else is held
 * of its model, so that it will never have more: the job must fail. */
MUST_USE bool sched_kv_full(struct sched *s, struct job *j);

/** sched_engine_gone() - it holds nothing any more. Who is to blame, job_died() has said before. */
void sched_engine_gone(struct sched *s);

/** sched_guesses() - so many next tokens of it were guessed and computed in vain: work, charged
 * like tokens */
void sched_guesses(struct sched *s, struct job *j, uint32_t n);

/** sched_step() - a step of the model took so long */
void sched_step(struct slots *m, uint32_t n_streams, uint32_t n_prompt, uint64_t us);

/* ---- what to do ---- */

struct sched_plan {
    struct job *give_back[SEAM_STREAMS_MAX]; /* to be cancelled in the engine, first */
    struct job *start[SEAM_PLAN_MAX];        /* then to be started, in this order */
    struct job *run[SEAM_PLAN_MAX];          /* then these may work, prompts in this order */
    size_t n_give_back, n_start, n_run;
    uint32_t prompt_us; /* as in struct seam_plan */
    bool urgent;        /* likewise */
};

/**
 * sched_plan() - decide, and take it as done: jobs are held and planned as ret says
 * @bytes_max: start no more once the bodies of those started come to this
 */
void sched_plan(struct sched *s, uint64_t now_ns, size_t bytes_max, struct sched_plan *ret);

/* ---- what to expect ---- */

/** sched_prompt_estimate() - tokens of a prompt, from the bytes of its request; m may be NULL */
uint32_t sched_prompt_estimate(const struct slots *m, size_t bytes);

/** sched_rate_known() - have the model's prompts been measured of late? What was long ago says
 * nothing: the machine may have been busy, or the model's first pages on their way from the
 * disk. */
bool sched_rate_known(const struct slots *m, uint64_t now_ns);

/**
 * sched_first_token_ms() - when a new job of the model could have its first token; 0: nobody knows
 * @prompt:  its tokens that will have to be computed
 * @mean_ms: how long a request takes on average
 *
 * Each model's prompts count by that model's rate, so that a slow one's say nothing of a fast one's
 * but by the time that they take from it; those of models that are not there or were not measured
 * of late count nothing.
 */
uint64_t sched_first_token_ms(const struct sched *s, const struct sched_account *a,
                              const struct slots *m, enum request_class class_, uint32_t prompt,
                              uint64_t mean_ms, uint64_t now_ns);

/** sched_pending() - prompt tokens that the account's jobs of a class have still to compute */
uint64_t sched_pending(const struct sched_account *a, enum request_class class_);

/* ---- between sched.c and the sched_*.c ---- */

void sched_hold(struct sched *s, struct job *j);
/** sched_streams() - sequences that may run at once now */
uint32_t sched_streams(const struct sched *s);
/** sched_next_cost() - what the next step will charge for it, with so many prompt tokens in it */
uint32_t sched_next_cost(const struct job *j, uint32_t chunk);
/** sched_blocks() - KV blocks for so many positions of its sequence */
uint32_t sched_blocks(const struct slots *m, uint64_t positions);

#endif
