/* sched_plan: what the engine shall do next.
 *
 * Classes go strictly one after the other; inside a class the account with the smallest counter
 * picks one of its jobs at a time, and each pick raises the counter by what the next step will
 * charge, so that streams and prompt time are dealt out like cards. A plan reaches the engine while
 * it works on the one before: that step is charged in advance (`ahead`), too. Who is not picked
 * stays in the engine, paused with its KV in place; KV is taken from somebody only where a start
 * needs it that has the better claim, or where there is none left.
 *
 * Two rules go before all that: low gets a tenth of the service while it has work (a credit that
 * grows with the service of the others), and nobody is paused for longer than pause_max_ns. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/broker/sched_plan.h"

#define CHUNK_FIRST 32u /* prompt tokens that a step is thought to take before one was seen */
#define STEP_MORE 2.0   /* a step with others in it, against what the first class alone takes */
#define LOOK_MAX 64u    /* jobs of one account that are asked whether they can work */

struct slots *plan_model(const struct planner *p, const struct job *j)
{
    struct slots *m = j->slots;

    if (m->plan != p->s->n_plans) {
        m->plan = p->s->n_plans;
        m->chunk_left = m->chunk ? m->chunk : CHUNK_FIRST;
        m->n_decode = m->n_watched = m->n_prefill = m->n_soon = 0;
        m->n_left = 0;
        m->closed_to = 0;
        m->closed_holders = 0;
    }
    return m;
}

/* Low's credit is for service: a prompt that would get no tokens in this step is none. */
static bool served(const struct planner *p, const struct job *j)
{
    return isinf(p->credit) || sched_next_cost(j, plan_model(p, j)->chunk_left) > 0;
}

static bool affordable(const struct planner *p, const struct job *j)
{
    const double cost = sched_next_cost(j, plan_model(p, j)->chunk_left);

    return p->credit >= fmin(cost, SCHED_CREDIT_MAX);
}

/* Could a job be started, as far as this is known before room is asked for? */
static bool startable(const struct planner *p, const struct job *j)
{
    const struct sched_account *a = j->account;
    const struct slots *m = j->slots;

    return !m->draining && (a->running_max == 0 || a->n_held < a->running_max) &&
           j->bytes <= p->bytes_left && (m->plan != p->s->n_plans || !plan_closed(m, j));
}

/* Could it work now? What can be said of it in one plan is never taken back in the same one. */
static bool workable(const struct planner *p, const struct job *j)
{
    const struct slots *m = j->slots;

    return !j->picked && !j->blocked && !j->parked && m && m->ready && !job_suspect(j) &&
           j->class_ >= p->s->limits.lowest &&
           (p->counting || ((j->held || startable(p, j)) && served(p, j)));
}

/* From `at` on in one of an account's lists, but not for ever: of very many that cannot start
 * (their model is being loaded) the first ones speak for all. */
static struct job *first_workable(const struct planner *p, const struct list *head, struct list *at)
{
    for (size_t n = 0; at != head && n < LOOK_MAX; n++, at = at->next) {
        struct job *j = container_of(at, struct job, own_link);
        if (workable(p, j)) {
            return j;
        }
    }
    return NULL;
}

static struct job *first_of(const struct planner *p, struct sched_account *a, int class_)
{
    struct list *running = &a->running[class_], *waiting = &a->waiting[class_];
    struct job *j = first_workable(p, running, running->next);

    return j ? j : first_workable(p, waiting, waiting->next);
}

/* The account's next job after this one. */
static struct job *next_of(const struct planner *p, const struct job *j)
{
    struct list *running = &j->account->running[j->class_];
    struct list *waiting = &j->account->waiting[j->class_];

    if (!j->running) {
        return first_workable(p, waiting, j->own_link.next);
    }
    struct job *next = first_workable(p, running, j->own_link.next);
    return next ? next : first_workable(p, waiting, waiting->next);
}

/* ---- one pick ---- */

double plan_cycle_us(const struct planner *p, const struct job *more)
{
    double us = 0;

    for (size_t i = 0; i < p->plan->n_run + (more ? 1 : 0); i++) {
        const struct job *j = i < p->plan->n_run ? p->plan->run[i] : more;
        struct slots *m = j->slots;
        bool seen = false;
        for (size_t k = 0; k < i && !seen; k++) {
            seen = p->plan->run[k]->slots == m;
        }
        if (!seen) {
            const bool here = more && more->slots == m;
            const uint32_t n = m->plan == p->s->n_plans ? m->n_decode : 0;
            us += cost_us(&m->cost, n + (here && more->left == 0), 0);
        }
    }
    return us;
}

/* A lower class joins as far as the step stays within bounds for the highest one. Its prompts do
 * not where that one has prompts: they would fill up a step in which a first token is computed. */
static bool may_join(const struct planner *p, const struct job *j)
{
    if ((int)j->class_ >= p->top) {
        return true;
    }
    if (j->left > 0) {
        return !p->top_prompts; /* else their time is bounded by plan_prompt_us() */
    }
    return p->top_us <= 0 || plan_cycle_us(p, j) <= STEP_MORE * p->top_us;
}

static bool start(struct planner *p, struct job *j)
{
    if (!startable(p, j)) {
        p->n_shut++;
        return false;
    }
    if (!plan_make_room(p, j)) {
        return false;
    }
    p->bytes_left -= j->bytes;
    sched_hold(p->s, j);
    p->plan->start[p->plan->n_start++] = j;
    return true;
}

static void pick(struct planner *p, struct job *j)
{
    struct slots *m = plan_model(p, j);

    j->picked = true;
    j->account->ahead[j->class_] += sched_next_cost(j, m->chunk_left) / j->account->weight;
    p->credit -= sched_next_cost(j, m->chunk_left);
    if (j->left == 0) {
        m->n_decode++;
        m->n_watched += j->class_ > CLASS_LOW;
    } else {
        m->chunk_left -= j->left < m->chunk_left ? j->left : m->chunk_left;
        m->n_prefill++;
        m->n_left += j->left;
        m->n_soon += j->class_ > CLASS_LOW && j->left <= 2 * (m->chunk ? m->chunk : CHUNK_FIRST);
    }
    p->plan->run[p->plan->n_run++] = j;
}

static bool full(const struct planner *p)
{
    return p->plan->n_run >= sched_streams(p->s) || p->plan->n_run >= SEAM_PLAN_MAX;
}

/* Into the plan, if it may and there is room. */
static bool take(struct planner *p, struct job *j)
{
    if (full(p) || j->picked || !served(p, j) || !may_join(p, j) || (!j->held && !start(p, j))) {
        return false;
    }
    pick(p, j);
    return true;
}

/* ---- one class ---- */

/* Streams that run stay, unless they are ahead by so much: nobody gains by taking turns faster. */
static double key_of(const struct planner *p, const struct job *j)
{
    const double stay = j->planned && j->left == 0 ? sched_streams(p->s) : 0;

    return j->account->ahead[j->class_] - stay / j->account->weight;
}

static bool before(const struct sched_turn *a, const struct sched_turn *b)
{
    return a->key < b->key || (a->key == b->key && a->seq < b->seq);
}

/* A heap's turn has changed. */
static void sink(struct sched_turn *turns, size_t n, size_t i)
{
    for (;;) {
        size_t least = i;
        for (size_t k = 2 * i + 1; k <= 2 * i + 2 && k < n; k++) {
            if (before(&turns[k], &turns[least])) {
                least = k;
            }
        }
        if (least == i) {
            return;
        }
        const struct sched_turn t = turns[i];
        turns[i] = turns[least];
        turns[least] = t;
        i = least;
    }
}

static struct sched_turn turn_of(const struct planner *p, struct job *j)
{
    return (struct sched_turn){.key = key_of(p, j), .seq = j->seq, .job = j};
}

/* All accounts' first turns, as a heap. */
static size_t gather(struct planner *p, int class_)
{
    struct sched_turn *turns = p->s->turns;
    size_t n = 0;

    list_for_each (a, next, &p->s->accounts[class_], struct sched_account, link[class_]) {
        struct job *j = a->active[class_] && n < SCHED_ACCOUNTS_MAX ? first_of(p, a, class_) : NULL;
        if (j) {
            turns[n++] = turn_of(p, j);
        }
    }
    for (size_t i = n / 2; i-- > 0;) {
        sink(turns, n, i);
    }
    return n;
}

/* Many cannot start any more: they go at once, and not each one when its turn comes. */
static size_t clear(struct planner *p, size_t n_turns)
{
    struct sched_turn *turns = p->s->turns;
    size_t n = 0;

    for (size_t i = 0; i < n_turns; i++) {
        struct job *j = turns[i].job;
        if (workable(p, j)) {
            turns[n++] = turns[i];
        } else if ((j = next_of(p, j))) {
            turns[n++] = turn_of(p, j);
        }
    }
    for (size_t i = n / 2; i-- > 0;) {
        sink(turns, n, i);
    }
    return n;
}

/* Credit is saved up for whose turn it is: else streams, a token at a time, would leave nothing for
 * a prompt that begins. */
static void plan_class(struct planner *p, int class_)
{
    struct sched_turn *turns = p->s->turns;
    size_t n = p->credit >= SCHED_ANSWER_COST ? gather(p, class_) : 0;

    while (n > 0 && !full(p) && affordable(p, turns[0].job)) {
        const unsigned n_shut = p->n_shut;
        struct job *after = next_of(p, turns[0].job); /* before a start moves it elsewhere */
        take(p, turns[0].job);
        if (after) {
            turns[0] = turn_of(p, after);
        } else {
            turns[0] = turns[--n];
        }
        if (p->n_shut != n_shut) {
            n = clear(p, n);
        } else {
            sink(turns, n, 0);
        }
    }
}

/* Classes in their order; what the first one takes is the measure for the others. */
static void plan_classes(struct planner *p)
{
    for (int c = CLASSES - 1; c >= 0; c--) {
        const size_t before_it = p->plan->n_run;
        plan_class(p, c);
        if (p->top < 0 && p->plan->n_run > before_it) {
            p->top = c;
            p->top_us = plan_cycle_us(p, NULL);
            for (size_t i = 0; i < p->plan->n_run; i++) {
                p->top_prompts |= p->plan->run[i]->left > 0;
            }
        }
    }
}

/* ---- what goes before the classes ---- */

/* Whoever has been paused for too long: the one that waits longest, until it has a token. */
static void plan_paused(struct planner *p)
{
    const uint64_t most = p->s->limits.pause_max_ns;
    struct job *oldest = NULL;

    list_for_each (j, next, &p->s->queue->running, struct job, link) {
        if (j->held && j->paused_ns > 0 && p->now_ns - j->paused_ns >= most && workable(p, j) &&
            (!oldest || j->paused_ns < oldest->paused_ns)) {
            oldest = j;
        }
    }
    if (most > 0 && oldest) {
        take(p, oldest);
    }
}

static void plan_low_share(struct planner *p)
{
    p->credit = p->s->low_credit;
    plan_class(p, CLASS_LOW);
    p->credit = (double)INFINITY;
}

/* ---- a suspect alone ---- */

/* The one whose turn it is: the one that is held, else the first that can be. One that cannot run
 * now (its client does not read, its model is not there, no stream is free) is passed over, so that
 * it never stops the rest. */
static struct job *the_suspect(const struct planner *p)
{
    struct job *first = NULL;

    list_for_each (j, next, &p->s->queue->running, struct job, link) {
        if (!job_suspect(j) || j->blocked || !j->slots->ready || j->class_ < p->s->limits.lowest) {
            continue;
        }
        if (j->held) {
            return j;
        }
        if (!first && !j->slots->draining &&
            !plan_short_of_room(p, j->slots, sched_blocks(j->slots, j->prompt + j->answer))) {
            first = j;
        }
    }
    return first;
}

static bool plan_suspect(struct planner *p)
{
    struct job *j = the_suspect(p);

    if (!j) {
        return false;
    }
    if (!j->held && j->bytes <= p->bytes_left) {
        sched_hold(p->s, j);
        p->plan->start[p->plan->n_start++] = j;
    }
    if (j->held) {
        pick(p, j);
    }
    return true;
}

/* ---- first come first served ---- */

static void plan_fifo(struct planner *p)
{
    struct queue *q = p->s->queue;
    struct list *at[CLASSES];

    list_for_each (j, next, &q->running, struct job, link) {
        if (workable(p, j)) {
            take(p, j);
        }
    }
    for (size_t c = 0; c < CLASSES; c++) {
        at[c] = q->waiting[c].next;
    }
    while (!full(p)) {
        struct job *first = NULL;
        for (size_t c = 0; c < CLASSES; c++) {
            struct job *j = container_of(at[c], struct job, link);
            if (at[c] != &q->waiting[c] && (!first || j->seq < first->seq)) {
                first = j;
            }
        }
        if (!first) {
            return;
        }
        at[first->class_] = first->link.next; /* before a start moves it elsewhere */
        if (workable(p, first) && !take(p, first) && plan_closed(first->slots, first)) {
            return; /* nobody overtakes */
        }
    }
}

/* ---- the whole ---- */

/* A step has begun, with the last plan. */
static void fly(struct sched *s, uint64_t now_ns)
{
    memcpy(s->flight, s->sent, sizeof(s->flight));
    s->n_flight = s->n_sent;
    s->flight_us = s->sent_us;
    s->flight_ns = now_ns;
    s->reported = false;
}

/* Who has work, who comes back from having none, and what the step in flight is going to charge. */
static void begin(struct planner *p)
{
    struct sched *s = p->s;
    double least[CLASSES];

    for (size_t c = 0; c < CLASSES; c++) {
        least[c] = (double)INFINITY;
    }
    p->counting = true;
    for (int c = 0; c < CLASSES; c++) {
        list_for_each (a, next, &s->accounts[c], struct sched_account, link[c]) {
            const bool was = a->active[c];
            a->active[c] = first_of(p, a, c) != NULL;
            if (a->active[c] && !was) {
                a->counter[c] = fmax(a->counter[c], s->floor[c]);
            }
            if (a->active[c]) {
                least[c] = fmin(least[c], a->counter[c]);
            }
            a->ahead[c] = a->counter[c];
        }
    }
    p->counting = false;
    s->low_waits = !isinf(least[CLASS_LOW]);
    s->low_credit = s->low_waits ? s->low_credit : 0;
    for (size_t c = 0; c < CLASSES; c++) {
        s->floor[c] = isinf(least[c]) ? s->floor[c] : fmax(s->floor[c], least[c]);
    }
    if (s->reported) {
        fly(s, s->reported_ns);
    }
    for (size_t i = 0; i < s->n_flight; i++) {
        struct job *j = s->flight[i];
        if (j) {
            struct slots *m = plan_model(p, j);
            const double cost = sched_next_cost(j, m->chunk_left);
            j->account->ahead[j->class_] += cost / j->account->weight;
            m->chunk_left -= j->left > 0 ? (uint32_t)cost : 0;
        }
    }
    s->n_plans++; /* what models have of the step in flight is not of the plan to come */
}

/* Nothing is left of the step in flight: the engine has none. */
static bool idle(const struct sched *s)
{
    for (size_t i = 0; i < s->n_flight; i++) {
        if (s->flight[i]) {
            return false;
        }
    }
    return true;
}

static void finish(struct planner *p)
{
    struct sched *s = p->s;
    bool prompts = false;

    list_for_each (j, next, &s->queue->running, struct job, link) {
        j->planned = false;
    }
    for (size_t i = 0; i < p->plan->n_run; i++) {
        p->plan->run[i]->planned = true;
        prompts |= p->plan->run[i]->left > 0;
        s->sent[i] = p->plan->run[i];
    }
    s->n_sent = p->plan->n_run;
    s->sent_us = plan_step_us(p);
    if (p->plan->urgent || idle(s)) { /* it begins with this plan at once */
        fly(s, p->now_ns);
    }
    list_for_each (k, next_k, &s->queue->running, struct job, link) {
        k->picked = false;
        if (k->held && !k->planned && !k->blocked) {
            k->paused_ns = k->paused_ns > 0 ? k->paused_ns : p->now_ns;
        } else if (k->blocked) {
            k->paused_ns = 0;
        }
    }
    if (!prompts || s->window_at_ns == 0) {
        s->window_at_ns = prompts ? p->now_ns : 0;
    }
}

void sched_plan(struct sched *s, uint64_t now_ns, size_t bytes_max, struct sched_plan *ret)
{
    struct planner p = {.s = s,
                        .plan = ret,
                        .now_ns = now_ns,
                        .bytes_left = bytes_max,
                        .top = -1,
                        .credit = (double)INFINITY};

    ret->n_give_back = ret->n_start = ret->n_run = 0;
    s->n_plans++;
    begin(&p);
    list_for_each (j, next, &s->queue->running, struct job, link) {
        if (j->held) {
            plan_relieve(&p, plan_model(&p, j));
        }
    }
    if (plan_suspect(&p)) {
        /* nobody else */
    } else if (s->limits.fifo) {
        plan_fifo(&p);
    } else {
        plan_paused(&p);
        plan_low_share(&p);
        plan_classes(&p);
    }
    ret->prompt_us = plan_prompt_us(&p);
    ret->urgent = plan_urgent(&p);
    finish(&p);
}
