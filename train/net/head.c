/* The head, where logits are wanted: a block of tokens at a time, so that logits never take more
 * memory than that, and their gradients are used where they arise. */
#include <string.h>

#include "train/net/gemm.h"
#include "train/net/impl.h"
#include "train/net/tape.h"

/* The tokens of the chunk whose logits are wanted, in order. */
static size_t find_wanted(const struct chunk *c)
{
    const uint32_t *begin = c->batch->begin + c->row;
    struct wanted *w = c->work->wanted;
    size_t n = 0;

    if (c->logits) {
        for (; n < c->n; n++) {
            w[n] = (struct wanted){.from = (uint32_t)n};
        }
        return n;
    }
    for (size_t r = 0; r < c->n_rows; r++) {
        for (uint32_t i = begin[r] + 1; i < begin[r + 1]; i++) {
            if (c->batch->mask[i] != 0) {
                w[n++] = (struct wanted){.from = i - begin[0] - 1,
                                         .target = c->batch->tokens[i],
                                         .mask = c->batch->mask[i]};
            }
        }
    }
    return n;
}

static net_real *last_x(const struct chunk *c, const struct wanted *w)
{
    return c->work->acts[c->net->shape.n_layer].x + w->from * c->net->widths.embd;
}

static const net_real *last_norm(const struct net *net)
{
    return net->params + net->tensors[net->n_tensors - 1].at;
}

/* The head's input: the residual stream's end, normed and quantized. */
static void fill_inputs(const struct chunk *c, const struct wanted *w, size_t n)
{
    const struct net *net = c->net;
    const size_t width = net->widths.embd;
    const net_real *mid = c->work->acts[net->shape.n_layer - 1].mid;

    for (size_t i = 0; i < n; i++) {
        net_real *x = last_x(c, &w[i]), *h = c->work->hs + i * width;
        net->loops->add(x, mid + w[i].from * width, width);
        net->loops->norm(x, last_norm(net), width, net->shape.rms_eps, h);
        if (net->modes.head == NET_H_INT8) {
            const struct tape_row row = {
                .slot = (size_t)net->shape.n_layer * INPUTS, .at = w[i].from, .n = width};
            tape_before(net, &row, h);
            net->loops->int8(h, width, HEAD_BLOCK, h);
            tape_after(net, &row, h);
        }
    }
}

/* Losses of n tokens; their logits become gradients. */
static void losses(const struct chunk *c, const struct wanted *w, size_t n)
{
    const struct net *net = c->net;
    struct net_loss *loss = &c->work->loss;

    for (size_t i = 0; i < n; i++) {
        bool best = false;
        const double e = net->loops->cross_entropy(c->work->logits + i * net->widths.logits,
                                                   net->shape.n_vocab, (size_t)w[i].target,
                                                   (net_real)(c->batch->scale * w[i].mask), &best);
        loss->sum += (double)w[i].mask * e;
        loss->weight += (double)w[i].mask;
        loss->n++;
        loss->n_best += best;
    }
}

static void block_back(const struct chunk *c, const struct wanted *w, size_t n)
{
    const struct net *net = c->net;
    const size_t width = net->widths.embd, n_vocab = net->shape.n_vocab;
    const struct mat d = {c->work->logits, net->widths.logits};
    const struct mat hs = {c->work->hs, width}, rows = {net_seen(net, &net->tensors[0]), width};
    net_real *dw = c->work->grads + net->tensors[net->n_tensors - 1].at;

    gemm_tn_add(n_vocab, width, n, d, hs, c->work->grads, width); /* the embedding, tensor 0 */
    gemm_nn(n, width, n_vocab, d, rows, c->work->d2, width);
    for (size_t i = 0; i < n; i++) {
        net->loops->norm_back(last_x(c, &w[i]), last_norm(net), c->work->d2 + i * width, width,
                              net->shape.rms_eps, c->work->dx + w[i].from * width, dw);
    }
}

void head_run(const struct chunk *c)
{
    const struct net *net = c->net;
    const size_t width = net->widths.embd, n_vocab = net->shape.n_vocab;
    const struct mat rows = {net_seen(net, &net->tensors[0]), width};
    const size_t n_wanted = find_wanted(c), first = c->batch->begin[c->row];

    if (c->back) {
        memset(c->work->dx, 0, c->n * width * sizeof(*c->work->dx));
    }
    for (size_t i = 0; i < n_wanted; i += HEAD_ROWS) {
        const struct wanted *w = c->work->wanted + i;
        const size_t n = n_wanted - i < HEAD_ROWS ? n_wanted - i : HEAD_ROWS;
        const struct mat hs = {c->work->hs, width};
        fill_inputs(c, w, n);
        if (c->logits) {
            gemm_nt(n, n_vocab, width, hs, rows, c->logits + (first + i) * n_vocab, n_vocab);
            continue;
        }
        gemm_nt(n, n_vocab, width, hs, rows, c->work->logits, net->widths.logits);
        losses(c, w, n);
        if (c->back) {
            block_back(c, w, n);
        }
    }
}
