/* The layers backward: layers.c read from its end. work->dx holds the gradient of the residual
 * stream, d1 and d2 those of what lies between two products. For y = x W^T: dx = dy W, dW = dy^T x,
 * with W and x as the forward pass saw them. */
#include "train/net/gemm.h"
#include "train/net/impl.h"

static net_real *grads_of(const struct chunk *c, uint32_t layer, enum part part)
{
    return c->work->grads + net_part(c->net, layer, part)->at;
}

/* From d2, the gradient of the normed and quantized x, to dx. */
static void norm_rows_back(const struct chunk *c, uint32_t layer, enum input in, const net_real *x)
{
    const struct net *net = c->net;
    const size_t n = net->widths.embd;
    const enum part part = in == IN_QKV ? ATTN_NORM : FFN_NORM;
    const net_real *w = net->params + net_part(net, layer, part)->at;
    const net_real eps = net->shape.rms_eps;
    net_real *h = c->work->row, *dw = grads_of(c, layer, part);

    for (size_t t = 0; t < c->n; t++) {
        net_real *dh = c->work->d2 + t * n;
        if (input_wants_x(net)) {
            net->loops->norm(x + t * n, w, n, eps, h);
        }
        input_back(c, layer, in, h, dh);
        net->loops->norm_back(x + t * n, w, dh, n, eps, c->work->dx + t * n, dw);
    }
}

/* From d2, the gradient of down's input, to d1, that of gate's and up's results. */
static void silu_rows_back(const struct chunk *c, uint32_t layer, const struct layer_acts *a)
{
    const struct net *net = c->net;
    const size_t n = net->widths.ff;
    net_real *act = c->work->row;

    for (size_t t = 0; t < c->n; t++) {
        const net_real *gate = a->gu + t * 2 * n;
        net_real *d_act = c->work->d2 + t * n, *d = c->work->d1 + t * 2 * n;
        if (input_wants_x(net)) {
            net->loops->silu(gate, gate + n, n, act);
        }
        input_back(c, layer, IN_DOWN, act, d_act);
        net->loops->silu_back(gate, gate + n, d_act, n, d, d + n);
    }
}

static void heads_back(const struct chunk *c, uint32_t layer, const struct layer_acts *a)
{
    const struct net *net = c->net;
    const struct widths *w = &net->widths;
    const net_real *q_norm = net->params + net_part(net, layer, ATTN_Q_NORM)->at;
    const net_real *k_norm = net->params + net_part(net, layer, ATTN_K_NORM)->at;
    net_real *dq_norm = grads_of(c, layer, ATTN_Q_NORM), *dk_norm = grads_of(c, layer, ATTN_K_NORM);

    for (size_t t = 0; t < c->n; t++) {
        const net_real *x = a->qkv + t * w->qkv;
        const size_t turn_at = c->work->pos[t] * w->half;
        const struct loops_turn turn = {net->cos + turn_at, net->sin + turn_at};
        net_real *d = c->work->d1 + t * w->qkv;
        for (size_t i = 0; i < w->q + w->kv; i += w->head) {
            const bool is_q = i < w->q;
            net->loops->head_back(x + i, is_q ? q_norm : k_norm, turn, w->head, net->shape.rms_eps,
                                  d + i, is_q ? dq_norm : dk_norm);
        }
    }
}

static void feed_forward_back(const struct chunk *c, uint32_t layer)
{
    const struct net *net = c->net;
    const struct widths *w = &net->widths;
    const struct layer_acts *a = &c->work->acts[layer];
    const struct mat dx = {c->work->dx, w->embd}, d_gu = {c->work->d1, 2 * w->ff};
    const struct mat down = {net_seen(net, net_part(net, layer, FFN_DOWN)), w->ff};
    const struct mat gate_up = {net_seen(net, net_part(net, layer, FFN_GATE)), w->embd};

    gemm_nn(c->n, w->ff, w->embd, dx, down, c->work->d2, w->ff);
    gemm_tn_add(w->embd, w->ff, c->n, dx, (struct mat){a->act, w->ff}, grads_of(c, layer, FFN_DOWN),
                w->ff);
    silu_rows_back(c, layer, a);
    gemm_nn(c->n, w->embd, 2 * w->ff, d_gu, gate_up, c->work->d2, w->embd);
    gemm_tn_add(2 * w->ff, w->embd, c->n, d_gu, (struct mat){a->h2, w->embd},
                grads_of(c, layer, FFN_GATE), w->embd);
    norm_rows_back(c, layer, IN_GATE_UP, a->mid);
}

static void attention_half_back(const struct chunk *c, uint32_t layer)
{
    const struct net *net = c->net;
    const struct widths *w = &net->widths;
    const struct layer_acts *a = &c->work->acts[layer];
    const struct mat dx = {c->work->dx, w->embd}, d_qkv = {c->work->d1, w->qkv};
    const struct mat o = {net_seen(net, net_part(net, layer, ATTN_OUTPUT)), w->q};
    const struct mat qkv = {net_seen(net, net_part(net, layer, ATTN_Q)), w->embd};

    gemm_nn(c->n, w->q, w->embd, dx, o, c->work->d2, w->q);
    gemm_tn_add(w->embd, w->q, c->n, dx, (struct mat){a->att_b, w->q},
                grads_of(c, layer, ATTN_OUTPUT), w->q);
    for (size_t t = 0; t < c->n; t++) {
        input_back(c, layer, IN_O, a->att + t * w->q, c->work->d2 + t * w->q);
    }
    attention_back(c, a, c->work->d2, c->work->d1);
    heads_back(c, layer, a);
    gemm_nn(c->n, w->embd, w->qkv, d_qkv, qkv, c->work->d2, w->embd);
    gemm_tn_add(w->qkv, w->embd, c->n, d_qkv, (struct mat){a->h, w->embd},
                grads_of(c, layer, ATTN_Q), w->embd);
    norm_rows_back(c, layer, IN_QKV, a->x);
}

void layers_back(const struct chunk *c)
{
    const size_t n = c->net->widths.embd, first = c->batch->begin[c->row];

    for (uint32_t l = c->net->shape.n_layer; l-- > 0;) {
        feed_forward_back(c, l);
        attention_half_back(c, l);
    }
    for (size_t t = 0; t < c->n; t++) { /* the embedding's rows; tensor 0 */
        const size_t id = (size_t)c->batch->tokens[first + t];
        c->net->loops->add(c->work->grads + id * n, c->work->dx + t * n, n);
    }
}
