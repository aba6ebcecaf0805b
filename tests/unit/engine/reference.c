#include "tests/support/test.h"

#include "tests/unit/engine/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format.h"
#include "engine/gguf.h"

struct net {
    struct gguf g;
    char arch[32];
    size_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ids;
    double eps, rope_base, rope_factor;
};

static double *zeros(size_t n)
{
    double *ret = calloc(n, sizeof(*ret));

    assert_non_null(ret);
    return ret;
}

/* ---- the file ---- */

static const char *key_of(const struct net *net, const char *what)
{
    static char key[96];

    (void)snprintf(key, sizeof(key), "%s.%s", net->arch, what);
    return key;
}

static size_t count(const struct net *net, const char *what, size_t otherwise)
{
    uint32_t v = (uint32_t)otherwise;

    assert_int_not_equal(gguf_u32(&net->g, key_of(net, what), &v, NULL), GGUF_WRONG_TYPE);
    assert_true(v > 0);
    return v;
}

static double real(const struct net *net, const char *what, float otherwise)
{
    float v = otherwise;

    assert_int_not_equal(gguf_f32(&net->g, key_of(net, what), &v, NULL), GGUF_WRONG_TYPE);
    return v;
}

/* The decoded weights of "blk.LAYER.WHAT", or of WHAT when layer is -1; the caller frees. NULL when the
 * file has no such tensor. */
static double *weights(const struct net *net, int layer, const char *what, size_t n_cols,
                       size_t n_rows)
{
    char name[64], prefix[16] = "";
    enum format f;

    if (layer >= 0) {
        (void)snprintf(prefix, sizeof(prefix), "blk.%d.", layer);
    }
    (void)snprintf(name, sizeof(name), "%s%s", prefix, what);
    const struct gguf_tensor_info *t = gguf_tensor_find(&net->g, name);
    if (!t) {
        return NULL;
    }
    assert_true(format_of_id(t->type, &f));
    assert_true(t->dims[0] == n_cols && t->dims[1] == n_rows);
    double *ret = zeros(n_cols * n_rows);
    float *row = malloc(n_cols * sizeof(*row));
    const float scale = format_tensor_scale(f, net->g.data + t->offset, n_cols, n_rows);
    assert_non_null(row);
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *data = net->g.data + t->offset + r * format_row_bytes(f, n_cols);
        format_decode_row(f, data, scale, n_cols, row);
        for (size_t c = 0; c < n_cols; c++) {
            ret[r * n_cols + c] = row[c];
        }
    }
    free(row);
    return ret;
}

static void read_net(struct net *net, const uint8_t *gguf, size_t n_bytes)
{
    struct strview arch;

    assert_int_equal(gguf_parse(&net->g, gguf, n_bytes, NULL), GGUF_OK);
    assert_int_equal(gguf_str(&net->g, "general.architecture", &arch, NULL), GGUF_FOUND);
    assert_true(arch.n < sizeof(net->arch));
    memcpy(net->arch, arch.data, arch.n);
    net->n_layer = count(net, "block_count", 0);
    net->n_embd = count(net, "embedding_length", 0);
    net->n_ff = count(net, "feed_forward_length", 0);
    net->n_head = count(net, "attention.head_count", 0);
    net->n_head_kv = count(net, "attention.head_count_kv", net->n_head);
    net->head_dim = count(net, "attention.key_length", net->n_embd / net->n_head);
    net->n_vocab = gguf_tensor_find(&net->g, "token_embd.weight")->dims[1];
    net->eps = real(net, "attention.layer_norm_rms_epsilon", 0);
    net->rope_base = real(net, "rope.freq_base", 10000);
    net->rope_factor = real(net, "rope.scaling.factor", 1);
}

/* ---- pieces: x holds one row a token ---- */

/* W x for every token; the caller frees */
static double *product(const struct net *net, int layer, const char *what, const double *x,
                       size_t n_in, size_t n_out)
{
    double *w = weights(net, layer, what, n_in, n_out), *ret = zeros(net->n_ids * n_out);

    assert_non_null(w);
    for (size_t t = 0; t < net->n_ids; t++) {
        for (size_t o = 0; o < n_out; o++) {
            for (size_t i = 0; i < n_in; i++) {
                ret[t * n_out + o] += w[o * n_in + i] * x[t * n_in + i];
            }
        }
    }
    free(w);
    return ret;
}

/* x / sqrt(mean(x^2) + eps) * w, in runs of n; leaves x alone when there is no such norm */
static void norm(const struct net *net, int layer, const char *what, double *x, size_t n,
                 size_t n_runs)
{
    double *w = weights(net, layer, what, n, 1);

    for (size_t run = 0; w && run < n_runs; run++, x += n) {
        double square = 0;
        for (size_t i = 0; i < n; i++) {
            square += x[i] * x[i];
        }
        for (size_t i = 0; i < n; i++) {
            x[i] *= w[i] / sqrt(square / (double)n + net->eps);
        }
    }
    free(w);
}

static double *normed(const struct net *net, int layer, const char *what, const double *x)
{
    const size_t n = net->n_ids * net->n_embd;
    double *ret = zeros(n);

    memcpy(ret, x, n * sizeof(*ret));
    norm(net, layer, what, ret, net->n_embd, net->n_ids);
    return ret;
}

/* Pair i of a head turns by position * base^(-2i / head_dim). */
static void rope(const struct net *net, double *x, size_t n_head)
{
    const size_t hd = net->head_dim;
    const bool neighbours = strcmp(net->arch, "llama") == 0; /* else i and i + head_dim / 2 */

    for (size_t at = 0; at < net->n_ids * n_head; at++, x += hd) {
        const double pos = (double)(at / n_head) / net->rope_factor;
        for (size_t i = 0; i < hd / 2; i++) {
            const double angle = pos * pow(net->rope_base, -2.0 * (double)i / (double)hd);
            double *a = &x[neighbours ? 2 * i : i], *b = &x[neighbours ? 2 * i + 1 : i + hd / 2];
            const double a0 = *a, b0 = *b;
            *a = a0 * cos(angle) - b0 * sin(angle);
            *b = a0 * sin(angle) + b0 * cos(angle);
        }
    }
}

/* One query vector over positions 0..t of one head of keys and values, `stride` apart. */
static void attend(const struct net *net, const double *q, const double *k, const double *v,
                   size_t stride, size_t t, double *ret)
{
    const size_t hd = net->head_dim;
    double *score = zeros(t + 1), max = -INFINITY, sum = 0;

    for (size_t p = 0; p <= t; p++) {
        for (size_t i = 0; i < hd; i++) {
            score[p] += q[i] * k[p * stride + i] / sqrt((double)hd);
        }
        max = fmax(max, score[p]);
    }
    for (size_t p = 0; p <= t; p++) {
        sum += score[p] = exp(score[p] - max);
    }
    for (size_t p = 0; p <= t; p++) {
        for (size_t i = 0; i < hd; i++) {
            ret[i] += score[p] / sum * v[p * stride + i];
        }
    }
    free(score);
}

/* ---- the graph ---- */

static void add(double *x, double *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] += y[i];
    }
    free(y);
}

static void attention(const struct net *net, int layer, double *x)
{
    const size_t hd = net->head_dim, n_q = net->n_head * hd, n_kv = net->n_head_kv * hd;
    double *h = normed(net, layer, "attn_norm.weight", x);
    double *q = product(net, layer, "attn_q.weight", h, net->n_embd, n_q);
    double *k = product(net, layer, "attn_k.weight", h, net->n_embd, n_kv);
    double *v = product(net, layer, "attn_v.weight", h, net->n_embd, n_kv);
    double *o = zeros(net->n_ids * n_q);

    norm(net, layer, "attn_q_norm.weight", q, hd, net->n_ids * net->n_head);
    norm(net, layer, "attn_k_norm.weight", k, hd, net->n_ids * net->n_head_kv);
    rope(net, q, net->n_head);
    rope(net, k, net->n_head_kv);
    for (size_t t = 0; t < net->n_ids; t++) {
        for (size_t head = 0; head < net->n_head; head++) {
            const size_t kv = head / (net->n_head / net->n_head_kv) * hd;
            attend(net, q + t * n_q + head * hd, k + kv, v + kv, n_kv, t, o + t * n_q + head * hd);
        }
    }
    add(x, product(net, layer, "attn_output.weight", o, n_q, net->n_embd),
        net->n_ids * net->n_embd);
    free(h);
    free(q);
    free(k);
    free(v);
    free(o);
}

static void feed_forward(const struct net *net, int layer, double *x)
{
    double *h = normed(net, layer, "ffn_norm.weight", x);
    double *gate = product(net, layer, "ffn_gate.weight", h, net->n_embd, net->n_ff);
    double *up = product(net, layer, "ffn_up.weight", h, net->n_embd, net->n_ff);

    for (size_t i = 0; i < net->n_ids * net->n_ff; i++) {
        up[i] *= gate[i] / (1 + exp(-gate[i]));
    }
    add(x, product(net, layer, "ffn_down.weight", up, net->n_ff, net->n_embd),
        net->n_ids * net->n_embd);
    free(h);
    free(gate);
    free(up);
}

void reference_logits(const uint8_t *gguf, size_t n_bytes, const int32_t *ids, size_t n_ids,
                      double *ret)
{
    struct net net = {.n_ids = n_ids};

    read_net(&net, gguf, n_bytes);
    double *embd = weights(&net, -1, "token_embd.weight", net.n_embd, net.n_vocab);
    double *x = zeros(n_ids * net.n_embd);
    for (size_t t = 0; t < n_ids; t++) {
        memcpy(x + t * net.n_embd, embd + (size_t)ids[t] * net.n_embd, net.n_embd * sizeof(*x));
    }
    free(embd);
    for (size_t layer = 0; layer < net.n_layer; layer++) {
        attention(&net, (int)layer, x);
        feed_forward(&net, (int)layer, x);
    }
    norm(&net, -1, "output_norm.weight", x, net.n_embd, n_ids);
    const bool tied = !gguf_tensor_find(&net.g, "output.weight");
    double *logits =
        product(&net, -1, tied ? "token_embd.weight" : "output.weight", x, net.n_embd, net.n_vocab);
    memcpy(ret, logits, n_ids * net.n_vocab * sizeof(*ret));
    free(logits);
    free(x);
    gguf_deinit(&net.g);
}
