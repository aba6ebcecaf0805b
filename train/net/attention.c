/* Causal attention of short sequences, head by head: a block of queries meets the keys up to its
 * last one, and their scores are computed anew in the backward pass instead of being kept. */
#include <math.h>
#include <string.h>

#include "train/net/gemm.h"
#include "train/net/impl.h"

/* One head of one sequence. */
struct one {
    const struct chunk *c;
    size_t n;               /* tokens */
    struct mat q, k, v;     /* (n, head) */
    struct mat dy;          /* the same, backward */
    net_real *dq, *dk, *dv; /* rows of `qkv` numbers */
};

static size_t padded(size_t n)
{
    return (n + LANES - 1) / LANES * LANES;
}

static size_t scores_stride(const struct chunk *c)
{
    return padded(c->work->longest);
}

static struct mat mat_from(struct mat m, size_t row)
{
    return (struct mat){m.at + row * m.stride, m.stride};
}

/* Probabilities of n queries from `first`, for the first + n keys: (n, first + n) in scores. */
static void probabilities(const struct one *o, size_t first, size_t n)
{
    const struct net *net = o->c->net;
    const size_t stride = scores_stride(o->c), n_keys = first + n;
    const net_real scale = (net_real)(1 / sqrt((double)net->widths.head));
    net_real *s = o->c->work->scores;

    gemm_nt(n, n_keys, net->widths.head, mat_from(o->q, first), o->k, s, stride);
    for (size_t i = 0; i < n; i++) {
        net->loops->softmax(s + i * stride, first + i + 1, padded(n_keys), scale);
    }
}

static struct one one_of(const struct chunk *c, const struct layer_acts *a, size_t begin, size_t n,
                         size_t head_i)
{
    const struct widths *w = &c->net->widths;
    const size_t kv_i = head_i / (c->net->shape.n_head / c->net->shape.n_head_kv);
    const size_t qk = w->q + w->kv;

    return (struct one){
        .c = c,
        .n = n,
        .q = {a->qk + begin * qk + head_i * w->head, qk},
        .k = {a->qk + begin * qk + w->q + kv_i * w->head, qk},
        .v = {a->qkv + begin * w->qkv + qk + kv_i * w->head, w->qkv},
    };
}

void attention(const struct chunk *c, const struct layer_acts *a)
{
    const struct widths *w = &c->net->widths;
    const uint32_t *begin = c->batch->begin + c->row;

    for (size_t r = 0; r < c->n_rows; r++) {
        const size_t from = begin[r] - begin[0], n = begin[r + 1] - begin[r];
        for (size_t h = 0; h < c->net->shape.n_head; h++) {
            const struct one o = one_of(c, a, from, n, h);
            for (size_t i = 0; i < n; i += QUERY_ROWS) {
                const size_t n_q = n - i < QUERY_ROWS ? n - i : QUERY_ROWS;
                const struct mat p = {c->work->scores, scores_stride(c)};
                probabilities(&o, i, n_q);
                gemm_nn(n_q, w->head, i + n_q, p, o.v, a->att + (from + i) * w->q + h * w->head,
                        w->q);
            }
        }
    }
}

/* ---- backward ---- */

static void block_back(const struct one *o, size_t first, size_t n)
{
    const struct net *net = o->c->net;
    const size_t stride = scores_stride(o->c), n_keys = first + n;
    const size_t head = net->widths.head, qkv = net->widths.qkv;
    const net_real scale = (net_real)(1 / sqrt((double)head));
    const struct mat p = {o->c->work->scores, stride}, ds = {o->c->work->slope, stride};
    const struct mat q = mat_from(o->q, first), dy = mat_from(o->dy, first);
    net_real *s = o->c->work->slope;

    probabilities(o, first, n);
    gemm_tn_add(n_keys, head, n, p, dy, o->dv, qkv);
    gemm_nt(n, n_keys, head, dy, o->v, s, stride);
    for (size_t i = 0; i < n; i++) {
        memset(s + i * stride + n_keys, 0, (padded(n_keys) - n_keys) * sizeof(*s));
        net->loops->softmax_back(p.at + i * stride, s + i * stride, padded(n_keys), scale);
    }
    gemm_nn(n, head, n_keys, ds, o->k, o->dq + first * qkv, qkv);
    gemm_tn_add(n_keys, head, n, ds, q, o->dk, qkv);
}

void attention_back(const struct chunk *c, const struct layer_acts *a, const net_real *dy,
                    net_real *d)
{
    const struct widths *w = &c->net->widths;
    const size_t group = c->net->shape.n_head / c->net->shape.n_head_kv;
    const uint32_t *begin = c->batch->begin + c->row;

    for (size_t t = 0; t < c->n; t++) { /* keys and values are added to */
        memset(d + t * w->qkv + w->q, 0, 2 * w->kv * sizeof(*d));
    }
    for (size_t r = 0; r < c->n_rows; r++) {
        const size_t from = begin[r] - begin[0], n = begin[r + 1] - begin[r];
        for (size_t h = 0; h < c->net->shape.n_head; h++) {
            struct one o = one_of(c, a, from, n, h);
            o.dy = (struct mat){dy + from * w->q + h * w->head, w->q};
            o.dq = d + from * w->qkv + h * w->head;
            o.dk = d + from * w->qkv + w->q + h / group * w->head;
            o.dv = o.dk + w->kv;
            for (size_t i = 0; i < n; i += QUERY_ROWS) {
                block_back(&o, i, n - i < QUERY_ROWS ? n - i : QUERY_ROWS);
            }
        }
    }
}
