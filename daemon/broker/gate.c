/* gate: lines of tickets over the buckets.
 *
 * Inside a line it is first come first served. Lines take turns: the one that was let through goes
 * to the end. A line whose head waits for its own bucket is passed over; where the head waits for a
 * bucket of all together, nobody behind takes from that before it. The daily quota is no such
 * bucket: until midnight nothing comes in, and what is left may still do for smaller ones. */
#include "daemon/broker/gate.h"

#include <assert.h>

void gate_init(struct gate *g)
{
    *g = (struct gate){0};
    list_init(&g->lines);
}

void gate_line_init(struct gate_line *l)
{
    *l = (struct gate_line){0};
    list_init(&l->link);
    list_init(&l->waiters);
}

void ticket_init(struct ticket *t)
{
    *t = (struct ticket){0};
    list_init(&t->link);
}

bool gate_line_idle(const struct gate_line *l, const struct moment *at)
{
    return list_empty(&l->waiters) && buckets_idle(&l->own, at);
}

bool gate_waits(const struct ticket *t)
{
    return !list_empty(&t->link);
}

static bool of_all(enum rate_limit l)
{
    return l == RATE_ALL_REQUESTS || l == RATE_ALL_TOKENS;
}

enum rate_limit gate_ask(struct gate *g, struct gate_line *l, struct ticket *t, uint64_t tokens,
                         const struct moment *at, uint64_t *ret_wait_ns)
{
    assert(!gate_waits(t) && !t->charge.taken);

    t->line = l;
    t->tokens = tokens;
    const enum rate_limit why =
        buckets_wait(&g->all, &g->waiting, &l->own, &l->waiting, tokens, at, ret_wait_ns);
    if (why != RATE_NONE) {
        return why;
    }
    if (!list_empty(
            &l->waiters)) { /* for a limit that this one does not touch: behind them all the same */
        const struct ticket *head = container_of(l->waiters.next, struct ticket, link);
        *ret_wait_ns = 0;
        return head->why;
    }
    return buckets_take(&g->all, &l->own, tokens, at, &t->charge, ret_wait_ns);
}

/* Count a waiter in or out of the sums that newcomers stand behind. */
static void count(struct gate *g, const struct ticket *t, bool in)
{
    const uint64_t one = in ? 1 : UINT64_MAX,
                   n = in ? t->tokens : -t->tokens; /* wraps on purpose */

    t->line->waiting.requests += one;
    t->line->waiting.tokens += n;
    if (of_all(t->why)) {
        g->waiting.requests += one;
        g->waiting.tokens += n;
    }
}

void gate_wait(struct gate *g, struct ticket *t, enum rate_limit why)
{
    assert(!gate_waits(t) && t->line && why != RATE_NONE);

    t->why = why;
    count(g, t, true);
    if (list_empty(&t->line->waiters)) {
        list_push(&g->lines, &t->line->link);
    }
    list_push(&t->line->waiters, &t->link);
}

static void step_out(struct gate *g, struct ticket *t)
{
    count(g, t, false);
    list_remove(&t->link);
    list_remove(&t->line->link); /* to the end, where others of the line still wait */
    if (!list_empty(&t->line->waiters)) {
        list_push(&g->lines, &t->line->link);
    }
}

struct ticket *gate_next(struct gate *g, const struct moment *at, uint64_t *ret_wait_ns)
{
    uint64_t nearest = UINT64_MAX;

    list_for_each (l, next, &g->lines, struct gate_line, link) {
        struct ticket *t = container_of(l->waiters.next, struct ticket, link);
        struct charge charge;
        uint64_t wait = 0;
        const enum rate_limit why = buckets_take(&g->all, &l->own, t->tokens, at, &charge, &wait);

        if (why == RATE_NONE) {
            step_out(g, t);
            t->charge = charge;
            return t;
        }
        nearest = wait < nearest ? wait : nearest;
        count(g, t, false);
        t->why = why;
        count(g, t, true);
        if (of_all(why)) {
            break;
        }
    }
    *ret_wait_ns = nearest;
    return NULL;
}

void gate_leave(struct gate *g, struct ticket *t, uint64_t used, const struct moment *at)
{
    if (gate_waits(t)) {
        count(g, t, false);
        list_remove(&t->link);
        if (list_empty(&t->line->waiters)) {
            list_remove(&t->line->link);
        }
    }
    if (t->charge.taken) {
        buckets_settle(&g->all, &t->line->own, &t->charge, used, at);
    }
}
