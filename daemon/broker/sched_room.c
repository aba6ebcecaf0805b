/* sched_room: who may have KV. A stream keeps what it has, running or paused, until somebody with a
 * better claim cannot start without: a higher class; inside a class an identity that holds nothing,
 * from one that holds two or more; and anybody, from a stream whose client does not read. What is
 * given back for that has no such claim itself, so nothing goes back and forth. */
#include <math.h>

#include "daemon/broker/sched_plan.h"

#define START_ROOM 64u  /* positions that a start needs beyond its prompt */
#define GROWTH_ROOM 32u /* and those that each stream which is there may need by then */

bool plan_short_of_room(const struct planner *p, const struct slots *m, uint32_t blocks)
{
    if (p->s->n_held >= SEAM_STREAMS_MAX) {
        return true;
    }
    if (m->kv_full && m->n_held > 0) {
        return true; /* until something was given back */
    }
    if (m->kv_blocks == 0) {
        return m->n_held >= m->n_streams;
    }
    if (m->n_held == 0) {
        return false; /* whatever it needs, it will never find more */
    }
    return (uint64_t)m->blocks_used + blocks > m->kv_blocks;
}

/* Has the start of `j` a better claim to KV than this job? Then larger is a better one. */
static double claim(const struct planner *p, const struct job *j, const struct job *victim)
{
    if (p->s->limits.fifo || !victim->held || victim->picked || job_suspect(victim) ||
        (victim->slots != j->slots && p->s->n_held < SEAM_STREAMS_MAX)) {
        return 0;
    }
    if (victim->blocked && victim->class_ <= j->class_) {
        return (double)(CLASSES - victim->class_) * 1e18 + 1e17; /* nobody reads it */
    }
    if (victim->account == j->account) {
        return 0;
    }
    if (victim->class_ < j->class_) {
        return (double)(CLASSES - victim->class_) * 1e18;
    }
    if (victim->class_ > j->class_ || j->account->n_held > 0 || victim->account->n_held < 2) {
        return 0;
    }
    return fmin(victim->account->ahead[victim->class_] + 1, 1e17);
}

static void give_back(struct planner *p, struct job *j)
{
    p->plan->give_back[p->plan->n_give_back++] = j;
    sched_forgotten(p->s, j);
    p->s->n_given_back++;
    j->picked = true; /* not again in this plan */
}

/* The latest started of those with the weakest claim. */
static struct job *find_victim(const struct planner *p, const struct job *j)
{
    struct job *best = NULL;
    double most = 0;

    list_for_each (v, next, &p->s->queue->running, struct job, link) {
        const double c = claim(p, j, v);
        if (c > 0 && c >= most) {
            best = v;
            most = c;
        }
    }
    return best;
}

/* Could it be had at all? Nobody loses KV for a start that fails all the same. */
static bool worth_it(const struct planner *p, const struct job *j, uint32_t blocks)
{
    const struct slots *m = j->slots;
    uint64_t there = m->kv_blocks > m->blocks_used ? m->kv_blocks - m->blocks_used : 0;
    uint32_t n = 0;

    list_for_each (v, next, &p->s->queue->running, struct job, link) {
        if (claim(p, j, v) > 0) {
            there += v->blocks;
            n++;
        }
    }
    return n > 0 && (m->kv_blocks == 0 || there >= blocks || n == m->n_held);
}

bool plan_closed(const struct slots *m, const struct job *j)
{
    const bool holds = j->account->n_held > 0;

    return (int)j->class_ < m->closed_to || (holds && (m->closed_holders >> j->class_ & 1));
}

/* Who has no better claim than j need not ask. */
static void close_behind(struct planner *p, struct slots *m, const struct job *j)
{
    const int to = (int)j->class_ + (j->account->n_held == 0);

    m->closed_to = to > m->closed_to ? to : m->closed_to;
    m->closed_holders |= 1u << j->class_;
    p->n_shut++;
}

bool plan_make_room(struct planner *p, struct job *j)
{
    struct slots *m = plan_model(p, j);
    const uint64_t growth = (uint64_t)m->n_held * GROWTH_ROOM;
    const uint32_t blocks =
        sched_blocks(m, (uint64_t)j->prompt + j->answer + START_ROOM) + sched_blocks(m, growth);

    if (plan_closed(m, j)) {
        return false;
    }
    if (plan_short_of_room(p, m, blocks) && worth_it(p, j, blocks)) {
        struct job *victim;
        while (plan_short_of_room(p, m, blocks) && (victim = find_victim(p, j))) {
            give_back(p, victim);
        }
    }
    const bool room = !plan_short_of_room(p, m, blocks);
    if (!room && isinf(p->credit)) { /* low's credit buys time, not a place before others */
        close_behind(p, m, j);
    }
    return room;
}

/* Of two streams, is the second, which started later, the first to lose its KV? */
static bool gives_way(const struct job *stays, const struct job *j)
{
    if (j->blocked != stays->blocked) {
        return j->blocked; /* it has no use for it now */
    }
    if (j->class_ != stays->class_) {
        return j->class_ < stays->class_;
    }
    return j->account->ahead[j->class_] >= stays->account->ahead[j->class_];
}

void plan_relieve(struct planner *p, struct slots *m)
{
    while (m->kv_blocks > 0 && m->blocks_used > m->kv_blocks && m->n_held > 1) {
        struct job *worst = NULL;
        list_for_each (j, next, &p->s->queue->running, struct job, link) {
            if (j->held && j->slots == m && (!worst || gives_way(worst, j))) {
                worst = j;
            }
        }
        give_back(p, worst);
    }
}
