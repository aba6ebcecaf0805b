/* A step: the parameters are quantized once, then each thread takes its own sequences forward and
 * back from end to end, with gradients of its own, and these are added up in the order of threads.
 * So threads meet three times a step, and never inside a layer. */
#include <errno.h>
#include <string.h>

#include "train/rng.h"
#include "train/net/impl.h"

struct pass {
    struct net *net;
    const struct net_batch *batch;
    bool back;
    net_real *logits;
};

/* ---- the split ---- */

/* The first row of thread i: the border that is next to its share of the tokens. */
static size_t first_row(const struct net_batch *b, unsigned i, unsigned n_threads)
{
    const uint64_t target = (uint64_t)b->begin[b->n_rows] * i / n_threads;
    size_t r = 0;

    if (i == n_threads) {
        return b->n_rows;
    }
    while (r < b->n_rows && b->begin[r] < target) {
        r++;
    }
    if (r > 0 && target - b->begin[r - 1] < b->begin[r] - target) {
        r--;
    }
    return r;
}

/* Rows from r on, before `end`, that are computed at once. */
static size_t chunk_rows(const struct net_batch *b, size_t r, size_t end)
{
    size_t n = 1;

    while (r + n < end && b->begin[r + n + 1] - b->begin[r] <= CHUNK_TOKENS) {
        n++;
    }
    return n;
}

/* ---- a thread's part ---- */

/* What binary inputs were like, from the chunk's float sums to the batch's. */
static void flush_stats(const struct net *net, struct work *w)
{
    for (size_t i = 0; i < net->state_size; i++) {
        w->state_sum[i] += (double)w->sum[i];
        w->state_squares[i] += (double)w->squares[i];
        w->sum[i] = w->squares[i] = 0;
    }
}

static void run_chunk(const struct chunk *c)
{
    const uint32_t *begin = c->batch->begin + c->row;

    for (size_t r = 0; r < c->n_rows; r++) {
        for (uint32_t i = begin[r]; i < begin[r + 1]; i++) {
            c->work->pos[i - begin[0]] = i - begin[r];
        }
    }
    layers_forward(c);
    head_run(c);
    if (c->back) {
        layers_back(c);
        flush_stats(c->net, c->work);
    }
}

static void pass_part(void *ctx, unsigned thread_i)
{
    const struct pass *p = ctx;
    const struct net_batch *b = p->batch;
    const unsigned n_threads = team_size(p->net->team);
    const size_t end = first_row(b, thread_i + 1, n_threads);
    struct work *w = &p->net->works[thread_i];

    w->loss = (struct net_loss){0};
    for (size_t r = first_row(b, thread_i, n_threads), n; r < end; r += n) {
        n = chunk_rows(b, r, end);
        const struct chunk c = {.net = p->net,
                                .batch = b,
                                .work = w,
                                .row = r,
                                .n_rows = n,
                                .n = b->begin[r + n] - b->begin[r],
                                .back = p->back,
                                .logits = p->logits};
        run_chunk(&c);
    }
}

/* ---- before it ---- */

static bool batch_sound(const struct net *net, const struct net_batch *b)
{
    if (b->begin[0] != 0) {
        return false;
    }
    for (size_t r = 0; r < b->n_rows; r++) {
        if (b->begin[r + 1] < b->begin[r] || b->begin[r + 1] - b->begin[r] > net->shape.n_ctx) {
            return false;
        }
    }
    for (size_t i = 0; i < b->begin[b->n_rows]; i++) {
        if (b->tokens[i] < 0 || (uint32_t)b->tokens[i] >= net->shape.n_vocab) {
            return false;
        }
    }
    return true;
}

/* Memory for each thread's part. */
static int make_room(const struct pass *p)
{
    const struct net_batch *b = p->batch;
    const unsigned n_threads = team_size(p->net->team);
    int ret = 0;

    for (unsigned t = 0; t < n_threads && ret == 0; t++) {
        const size_t end = first_row(b, t + 1, n_threads);
        size_t tokens = 1, longest = 1;
        for (size_t r = first_row(b, t, n_threads), n; r < end; r += n) {
            n = chunk_rows(b, r, end);
            tokens =
                b->begin[r + n] - b->begin[r] > tokens ? b->begin[r + n] - b->begin[r] : tokens;
            for (size_t i = r; i < r + n; i++) {
                const size_t length = b->begin[i + 1] - b->begin[i];
                longest = length > longest ? length : longest;
            }
        }
        ret = work_room(p->net, &p->net->works[t], tokens, longest, p->back);
        if (ret == 0 && p->back) {
            ret = work_grads(p->net, &p->net->works[t]);
        }
    }
    return ret;
}

/* Of the stochastic rounding; never 0. */
static uint32_t rounding_key(const struct net *net, uint64_t step)
{
    return (uint32_t)(rng_mix(net->seed * 0x9e3779b97f4a7c15u + step) >> 32) | 1;
}

static int pass_run(struct pass *p, struct net_loss *ret)
{
    struct net *net = p->net;

    if (!batch_sound(net, p->batch)) {
        return -EINVAL;
    }
    const int r = make_room(p);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < net->state_size; i++) {
        net->thresholds[i] = (net_real)NET_THRESHOLD * net->state[i];
    }
    weights_see(net, p->back && net->modes.stochastic ? rounding_key(net, p->batch->step) : 0);
    team_run(net->team, pass_part, p);
    if (ret) {
        *ret = (struct net_loss){0};
        for (unsigned t = 0; t < team_size(net->team); t++) {
            const struct net_loss *l = &net->works[t].loss;
            ret->sum += l->sum;
            ret->weight += l->weight;
            ret->n += l->n;
            ret->n_best += l->n_best;
        }
    }
    return 0;
}

int net_step(struct net *net, const struct net_batch *batch, net_real *grads, struct net_loss *ret)
{
    struct pass p = {.net = net, .batch = batch, .back = true};
    const int r = pass_run(&p, ret);

    if (r == 0) {
        weights_gather(net, grads);
        inputs_move(net, batch->begin[batch->n_rows]);
    }
    return r;
}

int net_loss(struct net *net, const struct net_batch *batch, struct net_loss *ret)
{
    struct pass p = {.net = net, .batch = batch};

    return pass_run(&p, ret);
}

int net_logits(struct net *net, const int32_t *tokens, size_t n, net_real *ret)
{
    const uint32_t begin[] = {0, (uint32_t)n};
    const struct net_batch batch = {.n_rows = 1, .begin = begin, .tokens = tokens};
    struct pass p = {.net = net, .batch = &batch, .logits = ret};

    if (n > net->shape.n_ctx) {
        return -EINVAL;
    }
    return pass_run(&p, NULL);
}
