#include "tests/support/test.h"

#include "tests/unit/engine/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format.h"
#include "engine/gguf.h"
#include "tests/unit/engine/reference_math.h"

/* What tells the architectures apart. Everything else they share:
 *
 *     x = token_embd[t]
 *     h = rms(x) * attn_norm;  q, k, v = Wq h, Wk h, Wv h;  rotate q, k
 *     x += Wo softmax(q k / sqrt(head_dim)) v
 *     h = rms(x) * ffn_norm;   x += Wdown (silu(Wgate h) * Wup h)
 *     logits = W (rms(x) * output_norm),  W = output.weight, or token_embd.weight without it
 *
 * minicpm (arXiv 2404.06395, and `modeling_minicpm.py` of openbmb/MiniCPM-2B-sft-bf16): embeddings
 * are multiplied by scale_emb, what a block adds to x by scale_depth / sqrt(layers), and the last
 * hidden state is divided by hidden_size / dim_model_base. llama.cpp's converter
 * (conversion/minicpm.py) writes these as embedding_scale, residual_scale and logit_scale =
 * hidden_size / dim_model_base; its graph (src/models/granite.cpp, which minicpm takes) multiplies
 * by the first two and *divides* the logits by the third. The embedding's scale is no part of a
 * tied head. Where logit_scale is missing, llama.cpp puts 256 / embedding_length in its place and
 * still divides: the inverse of what the model does. Here a missing key stands for the number of
 * the paper, as the model has it. */
struct family {
    const char *arch;
    bool neighbours;   /* rotated pairs are neighbours */
    bool head_norms;   /* q and k are normed per head, before they are rotated (arXiv 2505.09388) */
    bool biases;       /* of q, k and v (arXiv 2407.10671) */
    bool bit_linear;   /* sub-norms before Wo and Wdown, .scale tensors, ternary W by token */
    bool relu_squared; /* for silu (arXiv 2504.12285), unless hidden_activation says otherwise */
    bool scales;       /* of embeddings, blocks and logits */
};

static const struct family families[] = {
    {.arch = "llama", .neighbours = true},
    {.arch = "qwen2", .biases = true},
    {.arch = "qwen3", .head_norms = true},
    {.arch = "minicpm", .neighbours = true, .scales = true},
    {.arch = "bitnet", .bit_linear = true},
    {.arch = "bitnet-b1.58", .bit_linear = true, .relu_squared = true},
    {.arch = "bitnet-25", .bit_linear = true, .relu_squared = true},
};

struct net {
    struct gguf g;
    const struct family *family;
    size_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ids;
    double eps, embedding_scale, residual_scale, logit_scale;
    bool relu_squared;
    bool signs, widened; /* onebit.activations: inputs of the layers' matrices */
    struct rotation rotation;
    enum reference_activations activations;
    double *tie; /* (n_ids) */
};

/* ---- the file ---- */

static const char *key_of(const struct net *net, const char *what)
{
    static char key[96];

    (void)snprintf(key, sizeof(key), "%s.%s", net->family->arch, what);
    return key;
}

static size_t count(const struct net *net, const char *what, size_t otherwise)
{
    uint32_t v = (uint32_t)otherwise;

    assert_int_not_equal(gguf_u32(&net->g, key_of(net, what), &v, NULL), GGUF_WRONG_TYPE);
    assert_true(v > 0);
    return v;
}

static double real(const struct net *net, const char *what, double otherwise)
{
    float v = 0;

    switch (gguf_f32(&net->g, key_of(net, what), &v, NULL)) {
    case GGUF_FOUND:
        return v;
    case GGUF_ABSENT:
        assert_false(isnan(otherwise));
        return otherwise;
    default:
        fail_msg("%s is no number", what);
        return 0;
    }
}

static const char *name_of(int layer, const char *what, const char *kind)
{
    static char name[96];

    if (layer < 0) {
        (void)snprintf(name, sizeof(name), "%s.%s", what, kind);
    } else {
        (void)snprintf(name, sizeof(name), "blk.%d.%s.%s", layer, what, kind);
    }
    return name;
}

/* Bytes from a tensor's first to the next tensor, or to the end of the file. */
static uint64_t room_of(const struct net *net, const struct gguf_tensor_info *t)
{
    uint64_t end = net->g.size;

    for (size_t i = 0; i < net->g.n_tensors; i++) {
        const uint64_t other = net->g.tensors[i].offset;
        end = other > t->offset && other < end ? other : end;
    }
    return end - t->offset;
}

/* A tensor and its format; fails the test unless it has n_rows rows of n_cols. Number 42 is Q2_0
 * in groups of 64, or of 128 when there is no room for more. */
static const struct gguf_tensor_info *tensor(const struct net *net, const char *name, size_t n_cols,
                                             size_t n_rows, enum format *ret_format)
{
    const struct gguf_tensor_info *t = gguf_tensor_find(&net->g, name);

    if (!t) {
        fail_msg("the file has no %s", name);
    }
    assert_true(format_of_id(t->type, ret_format));
    assert_true(t->dims[0] == n_cols && t->dims[1] == n_rows && t->dims[2] == 1);
    uint64_t bytes;
    assert_true(format_tensor_bytes(*ret_format, n_cols, n_rows, &bytes));
    if (*ret_format == FORMAT_Q2_0 && bytes > room_of(net, t)) {
        *ret_format = FORMAT_Q2_0_G128;
    }
    return t;
}

/* A tensor of one row, which the caller frees. */
static double *vector(const struct net *net, const char *name, size_t n)
{
    enum format f;
    const uint8_t *data = net->g.data + tensor(net, name, n, 1, &f)->offset;
    double *ret = ref_zeros(n);
    float *row = malloc(n * sizeof(*row));

    assert_non_null(row);
    format_decode_row(f, data, format_tensor_scale(f, data, n, 1), n, row);
    for (size_t i = 0; i < n; i++) {
        ret[i] = row[i];
    }
    free(row);
    return ret;
}

/* Scaling of rotations, as the keys below rope.scaling name it. Factors of rope_freqs.weight, and
 * of longrope (arXiv 2402.13753), divide the frequencies; of longrope's two sets, the long one is
 * for texts past the original context (`modeling_minicpm.py`; llama.cpp, which makes its tables
 * before it knows the text, asks the context that it was started with). */
static void read_rotation(struct net *net)
{
    struct rotation *r = &net->rotation;
    const double base = real(net, "rope.freq_base", 10000);
    const double factor = real(net, "rope.scaling.factor", real(net, "rope.scale_linear", 1));
    const size_t n_ctx = count(net, "context_length", 0);
    const size_t n_ctx_old = count(net, "rope.scaling.original_context_length", n_ctx);
    struct strview type = strview_of(factor != 1 ? "linear" : "none");
    const char *factors = "rope_freqs.weight";

    ref_rotation_init(r, count(net, "rope.dimension_count", net->head_dim), net->family->neighbours,
                      base);
    assert_int_not_equal(gguf_str(&net->g, key_of(net, "rope.scaling.type"), &type, NULL),
                         GGUF_WRONG_TYPE);
    if (strview_is(type, "longrope")) {
        factors = net->n_ids > n_ctx_old ? "rope_factors_long.weight" : "rope_factors_short.weight";
    }
    if (gguf_tensor_find(&net->g, factors)) {
        double *by = vector(net, factors, r->n_rot / 2);
        ref_rotation_divide(r, by);
        free(by);
    }
    if (strview_is(type, "yarn")) {
        const struct yarn yarn = {
            .factor = factor,
            .extrapolation = real(net, "rope.scaling.yarn_ext_factor", 1),
            .fast = real(net, "rope.scaling.yarn_beta_fast", 32),
            .slow = real(net, "rope.scaling.yarn_beta_slow", 1),
            .n_ctx_old = (double)n_ctx_old,
        };
        ref_rotation_yarn(r, base, &yarn);
    }
    for (size_t i = 0; strview_is(type, "linear") && i < r->n_rot / 2; i++) {
        r->frequency[i] /= factor;
    }
    r->magnitude *= real(net, "rope.scaling.attn_factor", 1);
}

static void read_net(struct net *net, const uint8_t *gguf, size_t n_bytes)
{
    struct strview arch, activation, inputs;

    assert_int_equal(gguf_parse(&net->g, gguf, n_bytes, NULL), GGUF_OK);
    assert_int_equal(gguf_str(&net->g, "general.architecture", &arch, NULL), GGUF_FOUND);
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        net->family = strview_is(arch, families[i].arch) ? &families[i] : net->family;
    }
    assert_non_null(net->family);
    net->n_layer = count(net, "block_count", 0);
    net->n_embd = count(net, "embedding_length", 0);
    net->n_ff = count(net, "feed_forward_length", 0);
    net->n_head = count(net, "attention.head_count", 0);
    net->n_head_kv = count(net, "attention.head_count_kv", net->n_head);
    net->head_dim = count(net, "attention.key_length", net->n_embd / net->n_head);
    net->n_vocab = gguf_tensor_find(&net->g, "token_embd.weight")->dims[1];
    net->eps = real(net, "attention.layer_norm_rms_epsilon", NAN);
    net->embedding_scale = net->residual_scale = net->logit_scale = 1;
    if (net->family->scales) {
        net->embedding_scale = real(net, "embedding_scale", 12);
        net->residual_scale = real(net, "residual_scale", 1.4 / sqrt((double)net->n_layer));
        net->logit_scale = real(net, "logit_scale", (double)net->n_embd / 256);
    }
    net->relu_squared = net->family->relu_squared;
    if (gguf_str(&net->g, key_of(net, "hidden_activation"), &activation, NULL) == GGUF_FOUND) {
        net->relu_squared = strview_is(activation, "relu2");
        assert_true(net->relu_squared || strview_is(activation, "silu"));
    }
    if (gguf_str(&net->g, "onebit.activations", &inputs, NULL) == GGUF_FOUND) {
        net->signs = strview_is(inputs, "binary");
        net->widened = strview_is(inputs, "int8");
        assert_true(net->signs || net->widened);
    }
    read_rotation(net);
}

/* ---- pieces: x holds one row a token ---- */

enum int8 { NOT, BLOCKS_OF_32, BLOCKS_OF_256, BY_TOKEN };

/* How the input of a matrix of this format is quantized (NUMERICS.md, "Weights and activations").
 */
static enum int8 int8_of(const struct net *net, enum format f)
{
    const bool bit_linear = net->family->bit_linear;

    switch (f) {
    case FORMAT_F32:
    case FORMAT_F16:
    case FORMAT_BF16:
        return NOT;
    case FORMAT_I2_S:
    case FORMAT_IQ2_BN:
        return BY_TOKEN;
    case FORMAT_TQ2_0:
    case FORMAT_TQ1_0:
        return bit_linear ? BY_TOKEN : BLOCKS_OF_256;
    case FORMAT_Q2_0:
    case FORMAT_Q2_0_G128:
    case FORMAT_PQ2_0:
        return bit_linear ? BY_TOKEN : BLOCKS_OF_32;
    default:
        return BLOCKS_OF_32;
    }
}

/* Whose thresholds the input of a layer's matrix is compared with. */
static const char *threshold_of(const char *what)
{
    if (strcmp(what, "attn_output") == 0 || strcmp(what, "ffn_down") == 0) {
        return what;
    }
    return strncmp(what, "attn", 4) == 0 ? "attn_norm" : "ffn_norm";
}

/* x as a matrix of this format, or of a layer of a model whose inputs are signs, sees it; the
 * caller frees. */
static double *seen(const struct net *net, int layer, const char *what, enum format f,
                    const double *x, size_t n)
{
    const bool widened = net->widened && layer >= 0 && int8_of(net, f) == NOT;
    const enum int8 own = widened ? BLOCKS_OF_32 : int8_of(net, f);
    const enum int8 how = net->activations == REFERENCE_INT8 ? own : NOT;
    double *ret = ref_zeros(net->n_ids * n);

    memcpy(ret, x, net->n_ids * n * sizeof(*ret));
    if (net->signs && layer >= 0) {
        double *threshold = vector(net, name_of(layer, threshold_of(what), "threshold"), n);
        for (size_t t = 0; t < net->n_ids; t++) {
            net->tie[t] = fmin(net->tie[t], ref_signs(ret + t * n, threshold, n));
        }
        free(threshold);
        return ret;
    }
    for (size_t t = 0; how != NOT && t < net->n_ids; t++) {
        double *row = ret + t * n;
        const double tie = how == BY_TOKEN
                               ? ref_int8_token(row, n)
                               : ref_int8_blocks(row, n, how == BLOCKS_OF_32 ? 32 : 256);
        net->tie[t] = fmin(net->tie[t], tie);
    }
    return ret;
}

/* W x for every token, times the tensor's .scale where there is one, plus its .bias in families
 * that have them; the caller frees */
static double *product(const struct net *net, int layer, const char *what, const double *x,
                       size_t n_in, size_t n_out)
{
    enum format f;
    const struct gguf_tensor_info *w = tensor(net, name_of(layer, what, "weight"), n_in, n_out, &f);
    const uint8_t *data = net->g.data + w->offset;
    const float tensor_scale = format_tensor_scale(f, data, n_in, n_out);
    const bool in_layer = layer >= 0, qkv = strcmp(what, "attn_q") == 0 ||
                                            strcmp(what, "attn_k") == 0 ||
                                            strcmp(what, "attn_v") == 0;
    const char *scale_name = name_of(layer, what, "scale");
    double *scale = in_layer && net->family->bit_linear && gguf_tensor_find(&net->g, scale_name)
                        ? vector(net, scale_name, 1)
                        : NULL;
    double *bias =
        net->family->biases && qkv ? vector(net, name_of(layer, what, "bias"), n_out) : NULL;
    double *in = seen(net, layer, what, f, x, n_in), *ret = ref_zeros(net->n_ids * n_out);
    float *row = malloc(n_in * sizeof(*row));

    assert_non_null(row);
    for (size_t o = 0; o < n_out; o++) {
        format_decode_row(f, data + o * format_row_bytes(f, n_in), tensor_scale, n_in, row);
        for (size_t t = 0; t < net->n_ids; t++) {
            double sum = 0;
            for (size_t i = 0; i < n_in; i++) {
                sum += (double)row[i] * in[t * n_in + i];
            }
            ret[t * n_out + o] = sum * (scale ? *scale : 1) + (bias ? bias[o] : 0);
        }
    }
    free(row);
    free(in);
    free(scale);
    free(bias);
    return ret;
}

static void norm(const struct net *net, int layer, const char *what, double *x, size_t n,
                 size_t n_runs)
{
    double *w = vector(net, name_of(layer, what, "weight"), n);

    ref_rms_norm(x, w, n, n_runs, net->eps);
    free(w);
}

static double *normed(const struct net *net, int layer, const char *what, const double *x)
{
    const size_t n = net->n_ids * net->n_embd;
    double *ret = ref_zeros(n);

    memcpy(ret, x, n * sizeof(*ret));
    norm(net, layer, what, ret, net->n_embd, net->n_ids);
    return ret;
}

/* ---- the graph ---- */

/* x += what a block made of it */
static void add(const struct net *net, double *x, double *y)
{
    for (size_t i = 0; i < net->n_ids * net->n_embd; i++) {
        x[i] += y[i] * net->residual_scale;
    }
    free(y);
}

static void attention(const struct net *net, int layer, double *x)
{
    const size_t hd = net->head_dim, n_q = net->n_head * hd, n_kv = net->n_head_kv * hd;
    double *h = normed(net, layer, "attn_norm", x);
    double *q = product(net, layer, "attn_q", h, net->n_embd, n_q);
    double *k = product(net, layer, "attn_k", h, net->n_embd, n_kv);
    double *v = product(net, layer, "attn_v", h, net->n_embd, n_kv);
    double *o = ref_zeros(net->n_ids * n_q);

    if (net->family->head_norms) {
        norm(net, layer, "attn_q_norm", q, hd, net->n_ids * net->n_head);
        norm(net, layer, "attn_k_norm", k, hd, net->n_ids * net->n_head_kv);
    }
    ref_rotate(&net->rotation, q, net->n_ids, net->n_head, hd);
    ref_rotate(&net->rotation, k, net->n_ids, net->n_head_kv, hd);
    for (size_t t = 0; t < net->n_ids; t++) {
        for (size_t head = 0; head < net->n_head; head++) {
            const size_t at = t * n_q + head * hd, kv = head / (net->n_head / net->n_head_kv) * hd;
            ref_attend(q + at, k + kv, v + kv, n_kv, t + 1, hd, o + at);
        }
    }
    if (net->family->bit_linear) {
        norm(net, layer, "attn_sub_norm", o, n_q, net->n_ids);
    }
    add(net, x, product(net, layer, "attn_output", o, n_q, net->n_embd));
    free(h);
    free(q);
    free(k);
    free(v);
    free(o);
}

static void feed_forward(const struct net *net, int layer, double *x)
{
    double *h = normed(net, layer, "ffn_norm", x);
    double *gate = product(net, layer, "ffn_gate", h, net->n_embd, net->n_ff);
    double *up = product(net, layer, "ffn_up", h, net->n_embd, net->n_ff);

    for (size_t i = 0; i < net->n_ids * net->n_ff; i++) {
        const double relu = fmax(gate[i], 0), silu = gate[i] / (1 + exp(-gate[i]));
        up[i] *= net->relu_squared ? relu * relu : silu;
    }
    if (net->family->bit_linear) {
        norm(net, layer, "ffn_sub_norm", up, net->n_ff, net->n_ids);
    }
    add(net, x, product(net, layer, "ffn_down", up, net->n_ff, net->n_embd));
    free(h);
    free(gate);
    free(up);
}

/* x = the rows of the ids; the caller frees. */
static double *embed(const struct net *net, const int32_t *ids)
{
    const size_t n = net->n_embd;
    enum format f;
    const uint8_t *data =
        net->g.data + tensor(net, "token_embd.weight", n, net->n_vocab, &f)->offset;
    const float scale = format_tensor_scale(f, data, n, net->n_vocab);
    double *x = ref_zeros(net->n_ids * n);
    float *row = malloc(n * sizeof(*row));

    assert_non_null(row);
    for (size_t t = 0; t < net->n_ids; t++) {
        assert_true(ids[t] >= 0 && (size_t)ids[t] < net->n_vocab);
        format_decode_row(f, data + (size_t)ids[t] * format_row_bytes(f, n), scale, n, row);
        for (size_t i = 0; i < n; i++) {
            x[t * n + i] = row[i] * net->embedding_scale;
        }
    }
    free(row);
    return x;
}

void reference_logits(const uint8_t *gguf, size_t n_bytes, const int32_t *ids, size_t n_ids,
                      enum reference_activations activations, double *ret, double *ret_tie)
{
    struct net net = {.n_ids = n_ids, .activations = activations, .tie = ref_zeros(n_ids)};

    read_net(&net, gguf, n_bytes);
    for (size_t t = 0; t < n_ids; t++) {
        net.tie[t] = 0.5;
    }
    double *x = embed(&net, ids);
    for (size_t layer = 0; layer < net.n_layer; layer++) {
        attention(&net, (int)layer, x);
        feed_forward(&net, (int)layer, x);
    }
    norm(&net, -1, "output_norm", x, net.n_embd, n_ids);
    const bool tied = !gguf_tensor_find(&net.g, "output.weight");
    double *logits = product(&net, -1, tied ? "token_embd" : "output", x, net.n_embd, net.n_vocab);
    for (size_t i = 0; i < n_ids * net.n_vocab; i++) {
        ret[i] = logits[i] / net.logit_scale;
    }
    if (ret_tie) {
        memcpy(ret_tie, net.tie, n_ids * sizeof(*ret_tie));
    }
    free(logits);
    free(x);
    free(net.tie);
    free(net.rotation.frequency);
    gguf_deinit(&net.g);
}
