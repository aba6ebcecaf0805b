/* What the parts of sched_plan() share: the plan as it is made. Nobody else includes this. */
#ifndef BROKER_SCHED_PLAN_H
#define BROKER_SCHED_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "daemon/broker/sched.h"

struct planner {
    struct sched *s; /* borrowed */
    struct sched_plan *plan;
    uint64_t now_ns;
    size_t bytes_left;
    int top;          /* the highest class in the plan; -1: none yet */
    double top_us;    /* what a step with that class alone takes; 0: not known */
    bool top_prompts; /* it has prompts to compute */
    double credit;    /* low's, while it is spent; INFINITY: not by credit */
    bool counting;    /* who has work at all, whether or not its turn can come in this plan */
    unsigned n_shut;  /* times that starts became impossible for many at once */
};

/** plan_model() - the job's model, its scratch made new for this plan */
struct slots *plan_model(const struct planner *p, const struct job *j);

/** plan_cycle_us() - all that is in the plan so far and one job more (NULL: none), one step of each
 * model without prompts; 0: not known */
double plan_cycle_us(const struct planner *p, const struct job *more);

/* ---- sched_time.c ---- */

/** plan_prompt_us() - what struct seam_plan says of prompts, of the plan as it stands */
uint32_t plan_prompt_us(const struct planner *p);

/** plan_urgent() - shall the step in flight be stopped for this plan? What it costs is booked. */
bool plan_urgent(struct planner *p);

/** plan_step_us() - what the longest step of this plan takes; 0: not known */
double plan_step_us(const struct planner *p);

/* ---- sched_room.c ---- */

/** plan_short_of_room() - is there no place for one more sequence of so many KV blocks? */
bool plan_short_of_room(const struct planner *p, const struct slots *m, uint32_t blocks);

/** plan_closed() - has a start with at least as good a claim found no room in this plan? */
bool plan_closed(const struct slots *m, const struct job *j);

/** plan_make_room() - a place for the start of this job, taken from others where its claim is
 * better */
MUST_USE bool plan_make_room(struct planner *p, struct job *j);

/** plan_relieve() - the model's KV has run out under its streams: give back until it suffices. The
 * least claim has a stream whose client does not read, then the lowest class, then the account
 * furthest ahead, then the latest start. One stream always stays. */
void plan_relieve(struct planner *p, struct slots *m);

#endif
