/* sched_time: how long the engine's next step may take, and when the one in flight is not waited
 * for.
 *
 * A step cannot be added to: whoever comes waits for its end. So where somebody waits for tokens a
 * step takes little more than theirs. Where only low has work a step may be long, since what short
 * ones lose is lost all night: with a chunk of c and a pass of p, c / (c + p) of the time goes into
 * prompts; in steps of 100 ms that is 0.95 where the pass takes 5 ms and 0.85 at 15 ms, in steps of
 * 400 ms 0.99 and 0.96. Whoever comes then has the step stopped, and what was computed in it is
 * thrown away. Of the engine's time a twentieth may be lost so; whoever comes more often than that
 * lasts finds short steps, which end by themselves. Where the pass itself is long (a large model on
 * a slow board) 2.5 passes leave 0.6 of the time for prompts, 5 leave 0.8. */
#include <math.h>

#include "base/clock.h"
#include "daemon/broker/sched_plan.h"

#define CHUNK_US_MIN 1500.0 /* less is not worth making a step longer for */
#define STEP_AIM 1.9        /* a step with prompts beside streams, against what those alone take */
/* Noise and what is not yet learned of the costs are left room: promised are 120 ms or 3 passes
 * until a step ends or is stopped. */
#define STEP_SHORT_US 100e3
#define STEP_SHORT_PASSES 2.5
#define STEP_LONG_US 400e3
#define STEP_LONG_PASSES 5
#define STOP_PART 0.05    /* of the time */
#define STOP_LEFT_US 30e3 /* what ends sooner is waited for */

/* The highest class that a step has work of; -1: none. */
static int class_of(struct job *const jobs[], size_t n)
{
    int top = -1;

    for (size_t i = 0; i < n; i++) {
        top = jobs[i] && (int)jobs[i]->class_ > top ? (int)jobs[i]->class_ : top;
    }
    return top;
}

/* ---- a step's time ---- */

/* What may still be thrown away. */
static double stop_credit_us(const struct planner *p)
{
    const struct sched *s = p->s;
    const uint64_t since_ns = p->now_ns > s->stop_ns ? p->now_ns - s->stop_ns : 0;

    return fmin(s->stop_credit_us + STOP_PART * (double)since_ns / 1e3, SCHED_STOP_US_MAX);
}

/* Prompts that nobody's tokens wait for. */
static double prompt_us_alone(const struct planner *p, const struct slots *m)
{
    const double pass_us = cost_us(&m->cost, m->n_decode, 0);

    if (pass_us <= 0) {
        return STEP_SHORT_US / 2; /* not 0: the engine would first measure a step without prompts */
    }
    double most_us = fmax(STEP_LONG_US, STEP_LONG_PASSES * pass_us);
    if (class_of(p->plan->run, p->plan->n_run) != CLASS_LOW || stop_credit_us(p) < most_us) {
        most_us = fmax(STEP_SHORT_US, STEP_SHORT_PASSES * pass_us);
    }
    return fmax(most_us - pass_us, p->s->limits.chunk_us);
}

/* The time for prompts in a step of this model; 0: the engine measures better than we do. */
static double prompt_us_of(const struct planner *p, const struct slots *m)
{
    if (m->n_watched == 0 && m->n_soon > 0) { /* the step after next may be beside its tokens */
        const double us = (STEP_AIM - 1) * cost_us(&m->cost, m->n_decode + 1, 0);
        return fmax(us, CHUNK_US_MIN);
    }
    if (m->n_watched == 0) {
        return prompt_us_alone(p, m);
    }
    if (p->s->limits.chunk_us > 0) {
        return p->s->limits.chunk_us;
    }
    const double all_us = plan_cycle_us(p, NULL);
    if (p->top_prompts || p->top_us <= 0 || all_us < 1.05 * p->top_us) {
        return 0; /* the first class's own, or nobody but them decodes */
    }
    return fmax(STEP_AIM * p->top_us - all_us, CHUNK_US_MIN);
}

/* Where the engine would measure and less is asked for: what it would come to, and a part of it. */
static double part_of(const struct planner *p, const struct slots *m, double us)
{
    const uint32_t part = p->s->limits.chunk_part;

    if (part <= 1) {
        return us;
    }
    us = us > 0 ? us : (STEP_AIM - 1) * cost_us(&m->cost, m->n_decode, 0);
    return fmax(us / part, CHUNK_US_MIN);
}

uint32_t plan_prompt_us(const struct planner *p)
{
    double least = (double)INFINITY;

    if (p->s->limits.fifo) {
        return UINT32_MAX;
    }
    for (size_t i = 0; i < p->plan->n_run; i++) {
        const struct slots *m = p->plan->run[i]->slots;
        if (m->n_prefill > 0) {
            const double us = part_of(p, m, prompt_us_of(p, m));
            least = us > 0 ? fmin(least, us) : least;
        }
    }
    return isinf(least) ? 0 : (uint32_t)least;
}

double plan_step_us(const struct planner *p)
{
    double most = 0;

    for (size_t i = 0; i < p->plan->n_run; i++) {
        const struct slots *m = p->plan->run[i]->slots;
        const double pass_us = cost_us(&m->cost, m->n_decode, 0);
        const uint32_t n_left = m->n_left < UINT32_MAX ? (uint32_t)m->n_left : UINT32_MAX;
        const double rest_us = cost_us(&m->cost, m->n_decode, n_left) - pass_us;
        most = fmax(most, pass_us + fmin(rest_us, p->plan->prompt_us));
    }
    return most;
}

/* ---- a step's end before its time ---- */

bool plan_urgent(struct planner *p)
{
    struct sched *s = p->s;
    const double gone_us = p->now_ns > s->flight_ns ? (double)(p->now_ns - s->flight_ns) / 1e3 : 0;
    const double credit_us = stop_credit_us(p);
    const bool below = class_of(s->flight, s->n_flight) == CLASS_LOW &&
                       class_of(p->plan->run, p->plan->n_run) > CLASS_LOW;

    if (s->limits.fifo || !below || s->flight_us - gone_us < STOP_LEFT_US || gone_us > credit_us) {
        return false;
    }
    s->stop_credit_us = credit_us - gone_us;
    s->stop_ns = p->now_ns;
    return true;
}
