/* A thread's memory: one block, laid out by a plan that is run twice, to measure and to place. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "train/net/impl.h"

#define ALIGNED 64u          /* bytes: a line of the cache */
#define HUGE_PAGE (2u << 20) /* bytes */

struct plan {
    unsigned char *base; /* NULL: only measure */
    size_t at;           /* bytes */
};

static void *take(struct plan *p, size_t n, size_t size)
{
    void *ret = p->base ? p->base + p->at : NULL;

    p->at += (n * size + ALIGNED - 1) / ALIGNED * ALIGNED;
    return ret;
}

static net_real *reals(struct plan *p, size_t n)
{
    return take(p, n, sizeof(net_real));
}

static void plan_layer(struct plan *p, const struct net *net, size_t n, struct layer_acts *a)
{
    const struct widths *w = &net->widths;

    a->h = reals(p, n * w->embd);
    a->qkv = reals(p, n * w->qkv);
    a->qk = reals(p, n * (w->q + w->kv));
    a->att = reals(p, n * w->q);
    a->att_b = input_wants_x(net) ? reals(p, n * w->q) : a->att;
    a->mid = reals(p, n * w->embd);
    a->h2 = reals(p, n * w->embd);
    a->gu = reals(p, n * 2 * w->ff);
    a->act = reals(p, n * w->ff);
}

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void plan_all(struct plan *p, const struct net *net, struct work *w)
{
    const struct widths *wd = &net->widths;
    const size_t n = w->tokens, n_layer = net->shape.n_layer;
    const size_t keys = (w->longest + LANES - 1) / LANES * LANES;

    for (size_t l = 0; l <= n_layer; l++) {
        struct layer_acts *a = &w->acts[l];
        if (l > 0 && !w->keeps) {
            *a = w->acts[0];
            continue;
        }
        a->x = reals(p, n * wd->embd);
        if (l < n_layer) {
            plan_layer(p, net, n, a);
        }
    }
    w->row = reals(p, most(most(wd->embd, wd->ff), wd->q));
    w->scores = reals(p, QUERY_ROWS * keys);
    w->hs = reals(p, (size_t)HEAD_ROWS * wd->embd);
    w->logits = reals(p, (size_t)HEAD_ROWS * wd->logits);
    w->pos = take(p, n, sizeof(*w->pos));
    w->wanted = take(p, n, sizeof(*w->wanted));
    w->sum = reals(p, net->state_size);
    w->squares = reals(p, net->state_size);
    if (w->keeps) {
        w->slope = reals(p, QUERY_ROWS * keys);
        w->dx = reals(p, n * wd->embd);
        w->d1 = reals(p, n * most(2 * wd->ff, wd->qkv));
        w->d2 = reals(p, most(n, HEAD_ROWS) * most(most(wd->ff, wd->q), wd->embd));
    }
}

int work_room(const struct net *net, struct work *w, size_t tokens, size_t longest, bool keeps)
{
    if (w->memory && tokens <= w->tokens && longest <= w->longest && (w->keeps || !keeps)) {
        return 0;
    }
    w->tokens = most(tokens, w->tokens);
    w->longest = most(longest, w->longest);
    w->keeps = keeps || w->keeps;
    free(w->memory);
    w->memory = NULL;
    if (!w->acts) {
        w->acts = calloc(net->shape.n_layer + 1, sizeof(*w->acts));
    }
    struct plan plan = {0};
    if (w->acts) {
        plan_all(&plan, net, w);
        const size_t bytes = (plan.at + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        w->memory = aligned_alloc(HUGE_PAGE, bytes);
        if (w->memory) {
            (void)madvise(w->memory, bytes, MADV_HUGEPAGE); /* quicker where it can be had */
            memset(w->memory, 0, bytes);
        }
    }
    if (!w->memory) {
        w->tokens = w->longest = 0;
        return -ENOMEM;
    }
    plan = (struct plan){.base = (unsigned char *)w->memory};
    plan_all(&plan, net, w);
    return 0;
}

int work_grads(const struct net *net, struct work *w)
{
    if (!w->grads) {
        w->grads = calloc(net->size, sizeof(*w->grads));
    }
    if (!w->state_sum && net->state_size > 0) {
        w->state_sum = calloc(net->state_size, sizeof(*w->state_sum));
    }
    if (!w->state_squares && net->state_size > 0) {
        w->state_squares = calloc(net->state_size, sizeof(*w->state_squares));
    }
    const bool sums = net->state_size == 0 || (w->state_sum && w->state_squares);
    return w->grads && sums ? 0 : -ENOMEM;
}

void work_deinit(struct work *w)
{
    free(w->state_squares);
    free(w->state_sum);
    free(w->grads);
    free(w->acts);
    free(w->memory);
}
