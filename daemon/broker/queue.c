/* queue: lists of jobs, their bounds, and the blame for deaths of the engine. */
#include "daemon/broker/queue.h"

#include <assert.h>

void queue_init(struct queue *q)
{
    *q = (struct queue){0};
    for (size_t c = 0; c < CLASSES; c++) {
        list_init(&q->waiting[c]);
    }
    list_init(&q->running);
}

int queue_admit(const struct queue *q, const struct queue_limits *limits, size_t n_free,
                size_t n_own, size_t bytes)
{
    if (q->n_waiting >= limits->total + n_free) {
        return QUEUE_FULL_TOTAL;
    }
    if (bytes > limits->bytes || q->bytes > limits->bytes - bytes) {
        return QUEUE_FULL_BYTES;
    }
    const uint64_t own_free = n_free > limits->streams_kept ? n_free - limits->streams_kept : 0;
    return n_own >= limits->per_identity + own_free ? QUEUE_FULL_IDENTITY : QUEUE_OK;
}

void queue_push(struct queue *q, struct job *j)
{
    assert(!j->running);
    list_push(&q->waiting[j->class_], &j->link);
    q->n_waiting++;
    q->bytes += j->bytes;
}

void queue_run(struct queue *q, struct job *j)
{
    assert(!j->running && !list_empty(&j->link));
    list_remove(&j->link);
    list_push(&q->running, &j->link);
    j->running = true;
    q->n_waiting--;
    q->n_running++;
}

void queue_remove(struct queue *q, struct job *j)
{
    if (list_empty(&j->link)) {
        return;
    }
    list_remove(&j->link);
    q->bytes -= j->bytes;
    if (j->running) {
        q->n_running--;
    } else {
        q->n_waiting--;
    }
}

uint32_t queue_position(const struct queue *q, const struct job *j)
{
    uint32_t n = 0;

    if (j->running) {
        return 0;
    }
    for (int c = CLASSES - 1; c >= (int)j->class_; c--) {
        list_for_each (other, next, &q->waiting[c], struct job, link) {
            if (other == j) {
                return n;
            }
            n += !other->parked; /* who waits for a limit is passed */
        }
    }
    return n;
}

uint32_t queue_retry_ms(const struct queue *q, uint64_t mean_ms, uint32_t n_streams)
{
    const uint64_t rounds = (q->n_waiting + q->n_running) / (n_streams ? n_streams : 1) + 1;
    uint64_t ms;

    if (__builtin_mul_overflow(rounds, mean_ms / 2, &ms) || ms > 60000) {
        return 60000;
    }
    return ms < 100 ? 100 : (uint32_t)ms;
}

bool job_suspect(const struct job *j)
{
    return j->deaths >= JOB_SUSPECT_DEATHS || j->kills >= JOB_SUSPECT_KILLS;
}

int job_died(struct job *j, bool killed)
{
    const bool worked_on = j->planned;

    j->planned = false;
    if (!worked_on) {
        return JOB_CONTINUES;
    }
    if (job_suspect(j)) {
        return JOB_CRASHED;
    }
    if (killed) {
        j->kills++;
    } else {
        j->deaths++;
    }
    return JOB_CONTINUES;
}

void job_progress(struct job *j)
{
    j->deaths = 0;
    j->kills = 0;
}
