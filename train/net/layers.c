/* The layers forward, as engine/graph.c has them for qwen3:
 *
 *     h = norm(x); q, k, v = Wq h, Wk h, Wv h; q, k = rope(norm per head)
 *     mid = x + Wo attention(q, k, v)
 *     h2 = norm(mid); x' = mid + Wdown (silu(Wgate h2) * (Wup h2))
 *
 * What the matrices read is quantized in place, in the loop that makes it, while its row is in the
 * first-level cache. A product's result is added to the residual in the next such loop. */
#include <string.h>

#include "train/net/gemm.h"
#include "train/net/impl.h"

static void embed(const struct chunk *c)
{
    const struct net *net = c->net;
    const size_t n = net->widths.embd, first = c->batch->begin[c->row];
    const net_real *rows = net_seen(net, &net->tensors[0]);

    for (size_t t = 0; t < c->n; t++) {
        const size_t id = (size_t)c->batch->tokens[first + t];
        memcpy(c->work->acts[0].x + t * n, rows + id * n, n * sizeof(*rows));
    }
}

/* h = norm(x), quantized; before it, x += more where there is some. */
static void norm_rows(const struct chunk *c, uint32_t layer, enum input in, net_real *x,
                      const net_real *more, net_real *h)
{
    const struct net *net = c->net;
    const size_t n = net->widths.embd;
    const enum part part = in == IN_QKV ? ATTN_NORM : FFN_NORM;
    const net_real *w = net->params + net_part(net, layer, part)->at;

    for (size_t t = 0; t < c->n; t++) {
        if (more) {
            net->loops->add(x + t * n, more + t * n, n);
        }
        net->loops->norm(x + t * n, w, n, net->shape.rms_eps, h + t * n);
        input_quantize(c, layer, in, t, h + t * n, h + t * n);
    }
}

static void heads_forward(const struct chunk *c, uint32_t layer, const struct layer_acts *a)
{
    const struct net *net = c->net;
    const struct widths *w = &net->widths;
    const net_real *q_norm = net->params + net_part(net, layer, ATTN_Q_NORM)->at;
    const net_real *k_norm = net->params + net_part(net, layer, ATTN_K_NORM)->at;

    for (size_t t = 0; t < c->n; t++) {
        const net_real *x = a->qkv + t * w->qkv;
        const size_t turn_at = c->work->pos[t] * w->half;
        const struct loops_turn turn = {net->cos + turn_at, net->sin + turn_at};
        net_real *y = a->qk + t * (w->q + w->kv);
        for (size_t i = 0; i < w->q + w->kv; i += w->head) {
            net->loops->head(x + i, i < w->q ? q_norm : k_norm, turn, w->head, net->shape.rms_eps,
                             y + i);
        }
    }
}

static void attention_half(const struct chunk *c, uint32_t layer)
{
    const struct net *net = c->net;
    const struct widths *w = &net->widths;
    const struct layer_acts *a = &c->work->acts[layer];
    const struct mat qkv = {net_seen(net, net_part(net, layer, ATTN_Q)), w->embd};
    const struct mat o = {net_seen(net, net_part(net, layer, ATTN_OUTPUT)), w->q};
    const net_real *more = layer > 0 ? c->work->acts[layer - 1].mid : NULL;

    norm_rows(c, layer, IN_QKV, a->x, more, a->h);
    gemm_nt(c->n, w->qkv, w->embd, (struct mat){a->h, w->embd}, qkv, a->qkv, w->qkv);
    heads_forward(c, layer, a);
    attention(c, a);
    for (size_t t = 0; t < c->n; t++) {
        input_quantize(c, layer, IN_O, t, a->att + t * w->q, a->att_b + t * w->q);
    }
    gemm_nt(c->n, w->embd, w->q, (struct mat){a->att_b, w->q}, o, a->mid, w->embd);
}

static void feed_forward_half(const struct chunk *c, uint32_t layer)
{
    const struct net *net = c->net;
    const struct widths *w = &net->widths;
    const struct layer_acts *a = &c->work->acts[layer];
    const struct mat gate_up = {net_seen(net, net_part(net, layer, FFN_GATE)), w->embd};
    const struct mat down = {net_seen(net, net_part(net, layer, FFN_DOWN)), w->ff};

    norm_rows(c, layer, IN_GATE_UP, a->mid, a->x, a->h2);
    gemm_nt(c->n, 2 * w->ff, w->embd, (struct mat){a->h2, w->embd}, gate_up, a->gu, 2 * w->ff);
    for (size_t t = 0; t < c->n; t++) {
        const net_real *gate = a->gu + t * 2 * w->ff;
        net_real *act = a->act + t * w->ff;
        net->loops->silu(gate, gate + w->ff, w->ff, act);
        input_quantize(c, layer, IN_DOWN, t, act, act);
    }
    gemm_nt(c->n, w->embd, w->ff, (struct mat){a->act, w->ff}, down, c->work->acts[layer + 1].x,
            w->embd);
}

void layers_forward(const struct chunk *c)
{
    embed(c);
    for (uint32_t l = 0; l < c->net->shape.n_layer; l++) {
        attention_half(c, l);
        feed_forward_half(c, l);
    }
}
