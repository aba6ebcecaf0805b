/* The requests that wait and those that run: their lists, their bounds, and the blame for deaths of
 * the engine. Whose turn it is, is sched.h's business. Pure code: jobs are embedded in requests,
 * limits are arguments. */
#ifndef BROKER_QUEUE_H
#define BROKER_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "base/list.h"
#include "daemon/broker/cost.h"
#include "ipc/message.h"

struct sched_account;

/* Deaths of the engine without a token in between, after which a request runs alone. */
#define JOB_SUSPECT_DEATHS 2u
/* A kill from outside (an operator, a supervisor, the OOM killer) says less about a request than a
 * fault does: it takes this many of them in a row. */
#define JOB_SUSPECT_KILLS 24u

/* What scheduling knows of one model. */
struct slots {
    bool ready;         /* the engine has the model */
    bool draining;      /* what it holds goes on, nothing more is started: the model is to leave */
    uint32_t n_streams; /* whole contexts that its KV has room for */
    uint32_t n_held;    /* sequences that the engine holds */
    /* KV in blocks: sequences take them as they grow. 0: one stream a sequence, as n_streams
     * says. */
    uint32_t kv_blocks, block_positions, blocks_used;
    bool kv_full;     /* the engine ran out all the same: no start until a sequence has ended */
    struct cost cost; /* of its steps */
    double bytes_per_token; /* of requests' bodies, a running average; 0: not known yet */
    uint32_t chunk;         /* prompt tokens that a step takes, as lately seen; 0: not known yet */
    /* Prompt tokens per microsecond of the engine's time, while prompts were computed; 0: not known
     * yet. */
    double prompt_rate;
    uint64_t rate_at_ns;  /* when it was last measured */
    double window_tokens; /* computed since then ... */
    uint64_t window_ns;   /* ... in so much time */

    /* Scratch of one plan (sched_plan.c). */
    uint64_t plan;                /* its number: what follows is of this plan */
    uint32_t chunk_left;          /* prompt tokens that nobody in the plan has yet */
    uint32_t n_decode, n_watched; /* picked: decoding; of these not low */
    uint32_t n_prefill, n_soon;   /* picked: with a prompt; of these not low and soon decoding */
    uint64_t n_left;              /* prompt tokens that those have to go */
    /* A start had no room, and none with a weaker claim than it has: jobs of classes below
     * closed_to, and in classes that are bits of closed_holders those whose account holds
     * something. */
    int closed_to;
    unsigned closed_holders;
};

struct job {
    struct list link;     /* in one of the queue's lists */
    struct list own_link; /* in one of its account's lists */
    struct sched_account
        *account;        /* borrowed: its identity's; outlives the job's stay in the queue */
    struct slots *slots; /* borrowed: its model's; likewise. NULL: not known yet */
    uint64_t seq;        /* the global request number */
    uid_t uid;
    enum request_class class_;
    size_t bytes;           /* of its body */
    bool running;           /* has been given to the engine, this one or one before */
    bool held;              /* this engine holds it */
    bool planned;           /* this engine works on it: a death may be its fault */
    bool blocked;           /* its client does not read */
    bool parked;            /* it waits for a bucket: it stands apart */
    unsigned deaths, kills; /* of the engine that worked on it, since its last new token */

    /* sched.c's */
    uint32_t prompt;  /* tokens: an estimate until the engine has said */
    bool guessed;     /* by the bytes alone */
    uint32_t answer;  /* tokens delivered */
    uint32_t left;    /* positions to compute before the next token; 0: it decodes */
    uint32_t total;   /* positions that this start began with: prompt and resumed answer */
    uint32_t charged; /* prompt tokens paid for, or found cached */
    uint32_t blocks;  /* of KV, while held */
    uint8_t tab;      /* where its account has booked `left`, while that is not 0 */
    uint64_t
        paused_ns; /* held and left out of the plan since then, without a token; 0: it is not */
    bool picked;   /* scratch of one plan */
};

struct queue {
    struct list waiting[CLASSES];
    struct list running; /* in the order of their first start */
    size_t n_waiting, n_running;
    size_t bytes; /* of all bodies, running ones included */
};

struct queue_limits {
    uint64_t per_identity, total; /* waiting jobs */
    uint64_t bytes;               /* of bodies, running ones included */
    uint64_t streams_kept;        /* free streams that the identity's own bound keeps from it */
};

void queue_init(struct queue *q);

enum { QUEUE_OK = 0, QUEUE_FULL_IDENTITY, QUEUE_FULL_TOTAL, QUEUE_FULL_BYTES };

/** queue_admit() - may one more job of this size come in? QUEUE_OK or which bound is reached.
 * @n_free: streams that nobody uses: so many jobs do not really wait, they start at once
 * @n_own:  waiting jobs of its identity */
MUST_USE int queue_admit(const struct queue *q, const struct queue_limits *limits, size_t n_free,
                         size_t n_own, size_t bytes);

/** queue_push() - a new job at the end of its class */
void queue_push(struct queue *q, struct job *j);
/** queue_run() - a waiting job is given to the engine: it moves to the running ones */
void queue_run(struct queue *q, struct job *j);
/** queue_remove() - it is over; harmless for a job that is in no queue */
void queue_remove(struct queue *q, struct job *j);

/** queue_position() - waiting jobs that go before this one; a running job has none */
uint32_t queue_position(const struct queue *q, const struct job *j);

/** queue_retry_ms() - when a refused client should come back: @mean_ms is how long a request takes
 * on average, @n_streams how many run at once */
uint32_t queue_retry_ms(const struct queue *q, uint64_t mean_ms, uint32_t n_streams);

enum { JOB_CONTINUES = 0, JOB_CRASHED };

/**
 * job_died() - the engine died
 * @killed: by SIGKILL, so from outside
 *
 * JOB_CRASHED: it was a suspect and ran alone, so it is the culprit.
 */
MUST_USE int job_died(struct job *j, bool killed);
/** job_progress() - a new token was delivered: the engine's death is not its fault so far */
void job_progress(struct job *j);
bool job_suspect(const struct job *j);

#endif
