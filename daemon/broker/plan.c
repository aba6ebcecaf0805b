/* plan: a suspect alone if one can run, else everybody whose client reads.
 *
 * Alone means that the plan names nobody else: others may be held beside it, paused. A suspect that
 * cannot run now (its client does not read, its model is not there, no stream is free) is passed
 * over, so that it never stops the rest. */
#include "daemon/broker/plan.h"

static bool fits(const struct job *j)
{
    return j->slots && j->slots->ready && j->slots->n_held < j->slots->n_streams;
}

/* The one suspect whose turn it is: the one that is held, else the first that can be. */
static struct job *the_suspect(const struct queue *q)
{
    struct job *first = NULL;

    list_for_each (j, next, &q->running, struct job, link) {
        if (!job_suspect(j) || j->blocked) {
            continue;
        }
        if (j->held) {
            return j;
        }
        if (!first && fits(j)) {
            first = j;
        }
    }
    return first;
}

static uint32_t n_held(const struct queue *q)
{
    uint32_t n = 0;

    list_for_each (j, next, &q->running, struct job, link) {
        n += j->held;
    }
    return n;
}

struct job *plan_start(const struct queue *q, uint32_t streams_max)
{
    const uint32_t held = n_held(q);
    struct job *suspect = the_suspect(q);

    if (suspect) {
        return suspect->held || held >= SEAM_STREAMS_MAX ? NULL : suspect;
    }
    if (held >= streams_max || held >= SEAM_STREAMS_MAX) {
        return NULL;
    }
    for (int c = CLASSES - 1; c >= 0; c--) {
        list_for_each (j, next, &q->running, struct job, link) {
            if ((int)j->class_ == c && !j->held && !j->blocked && !job_suspect(j) && fits(j)) {
                return j;
            }
        }
    }
    for (int c = CLASSES - 1; c >= 0; c--) {
        list_for_each (j, next, &q->waiting[c], struct job, link) {
            if (!j->blocked && fits(j)) {
                return j;
            }
        }
    }
    return NULL;
}

void plan_run(const struct queue *q, struct seam_plan *ret)
{
    const struct job *suspect = the_suspect(q);

    ret->n_run = 0;
    if (suspect) {
        if (suspect->held) {
            ret->run[ret->n_run++] = suspect->seq;
        }
        return;
    }
    for (int c = CLASSES - 1; c >= 0; c--) {
        list_for_each (j, next, &q->running, struct job, link) {
            if ((int)j->class_ == c && j->held && !j->blocked && ret->n_run < SEAM_PLAN_MAX) {
                ret->run[ret->n_run++] = j->seq;
            }
        }
    }
}
