/* The parameters through their quantizers, and the gradients back: each thread its own rows of
 * every tensor. */
#include <string.h>

#include "train/net/impl.h"
#include "train/net/tape.h"

#define MEAN_TINY 1e-5 /* the least scale of a ternary tensor, as its definition has it */

struct see {
    struct net *net;
    uint32_t key;
};

struct gather {
    struct net *net;
    net_real *grads;
};

/* Rows of a tensor that are thread i's. */
struct span {
    size_t begin, end;
};

static struct span span_of(const struct net *net, const struct net_tensor *t, unsigned i)
{
    const size_t n = team_size(net->team);

    return (struct span){(size_t)t->rows * i / n, (size_t)t->rows * (i + 1) / n};
}

/* ---- forward ---- */

static void sum_part(void *ctx, unsigned thread_i)
{
    const struct see *s = ctx;
    struct net *net = s->net;

    for (size_t i = 0; i < net->n_tensors; i++) {
        const struct net_tensor *t = &net->tensors[i];
        const struct span span = span_of(net, t, thread_i);
        for (size_t r = span.begin; t->kind == NET_MATRIX && r < span.end; r++) {
            net->row_sums[net->row_at[i] + r] =
                (double)net->loops->abs_sum(net->params + t->at + r * t->cols, t->cols);
        }
    }
}

static net_real ternary_scale(const struct net *net, const struct net_tensor *t, double sum)
{
    const double mean = sum / ((double)t->rows * t->cols);
    const net_real s = (net_real)(mean < MEAN_TINY ? MEAN_TINY : mean);

    return net->modes.block != 0 ? (net_real)loops_f16((float)s) : s;
}

static net_real group_scale(const struct net *net, const net_real *w)
{
    return (net_real)loops_f16((float)(net->loops->abs_sum(w, GROUP) / GROUP));
}

/* One row of a matrix; ternary: its scale is there, binary: it is written. */
static void see_row(const struct net *net, const struct net_tensor *t, size_t r, uint32_t key,
                    net_real *scales, net_real *y)
{
    const net_real *w = net->params + t->at + r * t->cols;

    if (net->modes.weights == NET_W_TERNARY) {
        net->loops->ternary(w, t->cols, scales[0], key, t->at + r * t->cols, y);
        return;
    }
    for (size_t g = 0; g < t->cols; g += GROUP) {
        net_real *s = &scales[(r * t->cols + g) / GROUP];
        *s = group_scale(net, w + g);
        net->loops->binary(w + g, GROUP, *s, key, t->at + r * t->cols + g, y + g);
    }
}

static void see_part(void *ctx, unsigned thread_i)
{
    const struct see *s = ctx;
    struct net *net = s->net;

    for (size_t i = 0; i < net->n_tensors; i++) {
        const struct net_tensor *t = &net->tensors[i];
        const struct span span = span_of(net, t, thread_i);
        net_real *scales = net->scales + net->scale_at[i];
        for (size_t r = span.begin; r < span.end; r++) {
            const size_t at = t->at + r * t->cols;
            if (t->kind == NET_MATRIX && net->modes.weights != NET_W_FLOAT) {
                see_row(net, t, r, s->key, scales, net->seen + at);
            } else if (t->kind == NET_EMBEDDING && net->modes.head == NET_H_INT8) {
                net->loops->embedding(net->params + at, t->cols, net->seen + at);
            }
        }
    }
}

void weights_see(struct net *net, uint32_t key)
{
    struct see s = {.net = net, .key = key};

    if (!net->seen) {
        return;
    }
    if (net->modes.weights == NET_W_TERNARY) {
        team_run(net->team, sum_part, &s);
        for (size_t i = 0; i < net->n_tensors; i++) {
            const struct net_tensor *t = &net->tensors[i];
            double sum = 0;
            for (size_t r = 0; t->kind == NET_MATRIX && r < t->rows; r++) {
                sum += net->row_sums[net->row_at[i] + r];
            }
            net->scales[net->scale_at[i]] = ternary_scale(net, t, sum);
        }
    }
    team_run(net->team, see_part, &s);
    tape_weights(net);
}

void net_exported(const struct net *net, size_t i, net_real *ret)
{
    const struct net_tensor *t = &net->tensors[i];
    const net_real *w = net->params + t->at;
    const size_t n = (size_t)t->rows * t->cols;

    if (t->kind == NET_EMBEDDING && net->modes.head == NET_H_INT8) {
        net->loops->embedding(w, n, ret);
    } else if (t->kind != NET_MATRIX || net->modes.weights == NET_W_FLOAT) {
        memcpy(ret, w, n * sizeof(*ret));
    } else if (net->modes.weights == NET_W_TERNARY) {
        double sum = 0;
        for (size_t r = 0; r < t->rows; r++) {
            sum += (double)net->loops->abs_sum(w + r * t->cols, t->cols);
        }
        net->loops->ternary(w, n, ternary_scale(net, t, sum), 0, 0, ret);
    } else {
        for (size_t g = 0; g < n; g += GROUP) {
            net->loops->binary(w + g, GROUP, group_scale(net, w + g), 0, 0, ret + g);
        }
    }
}

/* ---- backward ---- */

static void row_back(const struct net *net, size_t tensor_i, size_t r, net_real *g)
{
    const struct net_tensor *t = &net->tensors[tensor_i];
    const net_real *w = net->params + t->at + r * t->cols;
    const net_real *scales = net->scales + net->scale_at[tensor_i];
    const net_real k = net->modes.smooth_k;

    switch (net->modes.ste_weights) {
    case NET_STE_HARD:
        net->loops->ste_hard(w, NULL, t->cols, g);
        return;
    case NET_STE_CLIP:
        net->loops->ste_clip(t->cols, g);
        return;
    case NET_STE_SMOOTH:
        break;
    }
    if (net->modes.weights == NET_W_TERNARY) {
        net->loops->ste_ternary(w, t->cols, scales[0], k, g);
        return;
    }
    for (size_t c = 0; c < t->cols; c += GROUP) {
        net->loops->ste_binary(w + c, GROUP, scales[(r * t->cols + c) / GROUP], k, g + c);
    }
}

static void gather_part(void *ctx, unsigned thread_i)
{
    const struct gather *ga = ctx;
    struct net *net = ga->net;
    const unsigned n_threads = team_size(net->team);

    for (size_t i = 0; i < net->n_tensors; i++) {
        const struct net_tensor *t = &net->tensors[i];
        const struct span span = span_of(net, t, thread_i);
        for (size_t r = span.begin; r < span.end; r++) {
            const size_t at = t->at + r * t->cols;
            net_real *g = net->works[0].grads + at;
            for (unsigned o = 1; o < n_threads; o++) {
                net->loops->add(g, net->works[o].grads + at, t->cols);
                memset(net->works[o].grads + at, 0, t->cols * sizeof(*g));
            }
            if (t->kind == NET_MATRIX && net->modes.weights != NET_W_FLOAT) {
                row_back(net, i, r, g);
            }
            net->loops->add(ga->grads + at, g, t->cols);
            memset(g, 0, t->cols * sizeof(*g));
        }
    }
}

void weights_gather(struct net *net, net_real *grads)
{
    struct gather g = {.net = net, .grads = grads};

    team_run(net->team, gather_part, &g);
}
