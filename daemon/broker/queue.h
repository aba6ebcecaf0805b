/* The requests that wait and those that run, as policy sees them: three classes, first come first
 * served inside a class, bounded by count and bytes. Pure code: jobs are embedded in requests, time
 * and limits are arguments. */
#ifndef BROKER_QUEUE_H
#define BROKER_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "base/list.h"
#include "ipc/message.h"

/* Deaths of the engine without a token in between, after which a request runs alone. */
#define JOB_SUSPECT_DEATHS 2u
/* A kill from outside (an operator, a supervisor, the OOM killer) says less about a request than a
 * fault does: it takes this many of them in a row. */
#define JOB_SUSPECT_KILLS 24u

/* The streams of one model. */
struct slots {
    bool ready;         /* the engine has the model */
    uint32_t n_streams; /* sequences it holds at most */
    uint32_t n_held;    /* sequences it holds */
};

struct job {
    struct list link;    /* in one of the queue's lists */
    struct slots *slots; /* borrowed: its model's; outlives the job's stay in the queue */
    uint64_t seq;        /* the global request number */
    uid_t uid;
    enum request_class class_;
    size_t bytes;           /* of its body */
    bool running;           /* has been given to the engine, this one or one before */
    bool held;              /* this engine holds it */
    bool planned;           /* this engine works on it: a death may be its fault */
    bool blocked;           /* its client does not read */
    unsigned deaths, kills; /* of the engine that worked on it, since its last new token */
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
};

void queue_init(struct queue *q);

enum { QUEUE_OK = 0, QUEUE_FULL_IDENTITY, QUEUE_FULL_TOTAL, QUEUE_FULL_BYTES };

/** queue_admit() - may one more job of this user and size come in? QUEUE_OK or which bound is reached.
 * @n_free: streams that nobody uses: so many jobs do not really wait, they start at once */
MUST_USE int queue_admit(const struct queue *q, const struct queue_limits *limits, size_t n_free,
                         uid_t uid, size_t bytes);

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
