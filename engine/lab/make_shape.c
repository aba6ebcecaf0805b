/* The keys and tensors that make a file of a shape.
 *
 * One walk over the tensors serves twice: first to announce them, then to write them. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/lab/make.h"

/* ---- tensors ---- */

struct walk {
    const struct shape *shape;
    const struct family *family;
    const struct make_as *as;
    struct gguf_writer *w;
    bool writing; /* second pass */
    uint64_t i;   /* tensors so far: each has random numbers of its own */
    int r;        /* the first failure; later calls do nothing */
};

static uint64_t tensor_seed(const struct walk *k)
{
    return (k->as->seed + 1) * 0x9e3779b97f4a7c15u ^ (k->i * 0xd1b54a32d192ed03u);
}

static void matrix(struct walk *k, const char *name, const char *format, uint64_t n_cols,
                   uint64_t n_rows, double std)
{
    if (k->r != 0) {
        return;
    }
    k->i++;
    if (k->writing) {
        k->r = make_weights(k->w, format, n_cols, n_rows, std, tensor_seed(k));
    } else {
        k->r = gguf_put_tensor(k->w, name, format, n_cols, n_rows, /* vector= */ false);
    }
}

static void vector(struct walk *k, const char *name, uint64_t n, double middle, double reach)
{
    if (k->r != 0) {
        return;
    }
    k->i++;
    if (k->writing) {
        k->r = make_vector(k->w, n, middle, reach, tensor_seed(k));
    } else {
        k->r = gguf_put_tensor(k->w, name, "F32", n, 1, /* vector= */ true);
    }
}

/* ---- those of a layer ---- */

#define NAME_BYTES 64

struct place {
    struct walk *k;
    uint32_t layer;
};

static const char *name_of(char buf[NAME_BYTES], struct place p, const char *what, const char *kind)
{
    (void)snprintf(buf, NAME_BYTES, "blk.%u.%s.%s", p.layer, what, kind);
    return buf;
}

static void norm(struct place p, const char *what, uint64_t n)
{
    char name[NAME_BYTES];

    vector(p.k, name_of(name, p, what, "weight"), n, 1, 0.1);
}

static void bias(struct place p, const char *what, uint64_t n)
{
    char name[NAME_BYTES];

    if (p.k->family->biases) {
        vector(p.k, name_of(name, p, what, "bias"), n, 0, 0.3);
    }
}

/* Where a float stands beside the matrix, that one gives the size and the weights are -1, 0 and
 * +1. */
static void weights(struct place p, const char *what, uint64_t n_cols, uint64_t n_rows, double std)
{
    char name[NAME_BYTES];

    if (p.k->family->matrix_scale) {
        vector(p.k, name_of(name, p, what, "scale"), 1, std / MAKE_TERNARY_STD, 0);
        std = MAKE_TERNARY_STD;
    }
    matrix(p.k, name_of(name, p, what, "weight"), p.k->as->format, n_cols, n_rows, std);
}

static bool has_binary_activations(const struct make_as *as)
{
    return as->activations && strcmp(as->activations, "binary") == 0;
}

/* What the input of a product is compared with. */
static void threshold(struct place p, const char *what, uint64_t n, double middle)
{
    char name[NAME_BYTES];

    if (has_binary_activations(p.k->as)) {
        vector(p.k, name_of(name, p, what, "threshold"), n, middle, 0.1);
    }
}

/* MiniCPM multiplies what each half of a layer adds by this: scale_depth / sqrt(layers). */
static double residual_scale(const struct shape *s)
{
    return 1.4 / sqrt(s->n_layer);
}

#define EMBEDDING_SCALE 12.0 /* MiniCPM's scale_emb */
#define LOGIT_SCALE 2.0      /* MiniCPM's hidden_size / dim_model_base */

/* A matrix of standard deviation 1/sqrt(columns) keeps a vector's length. What the layers add to
 * the residual stream comes to a few units at any depth, well above the embedding: else a tied head
 * would see little but the token that came in and say it again for ever. */
static double gain_of(const struct walk *k)
{
    const double gain = 6 / sqrt(2.0 * k->shape->n_layer);

    return k->family->mup ? gain * EMBEDDING_SCALE * LOGIT_SCALE / residual_scale(k->shape) : gain;
}

static void layer(struct walk *k, uint32_t i)
{
    const struct shape *s = k->shape;
    const struct family *f = k->family;
    const struct place p = {.k = k, .layer = i};
    const uint64_t q = (uint64_t)s->n_head * s->head_dim, kv = (uint64_t)s->n_head_kv * s->head_dim;
    const double gain = gain_of(k), embd = 1 / sqrt(s->n_embd);

    norm(p, "attn_norm", s->n_embd);
    weights(p, "attn_q", s->n_embd, q, embd);
    bias(p, "attn_q", q);
    weights(p, "attn_k", s->n_embd, kv, embd);
    bias(p, "attn_k", kv);
    weights(p, "attn_v", s->n_embd, kv, embd);
    bias(p, "attn_v", kv);
    if (f->sub_norms) {
        norm(p, "attn_sub_norm", s->n_embd);
    }
    weights(p, "attn_output", q, s->n_embd, gain / sqrt((double)q));
    if (f->qk_norms) {
        norm(p, "attn_q_norm", s->head_dim);
        norm(p, "attn_k_norm", s->head_dim);
    }
    norm(p, "ffn_norm", s->n_embd);
    weights(p, "ffn_gate", s->n_embd, s->n_ff, embd);
    weights(p, "ffn_up", s->n_embd, s->n_ff, embd);
    if (f->sub_norms) {
        norm(p, "ffn_sub_norm", s->n_ff);
    }
    weights(p, "ffn_down", s->n_ff, s->n_embd, gain / sqrt(s->n_ff));
    threshold(p, "attn_norm", s->n_embd, 0.5);
    threshold(p, "attn_output", q, 0);
    threshold(p, "ffn_norm", s->n_embd, 0.5);
    threshold(p, "ffn_down", s->n_ff, 0);
}

/* The head turns a vector of unit mean square into logits of standard deviation 3, as trained
 * models have; a tied embedding shares that scale, which the first norm takes out again. */
static int tensors(struct walk *k)
{
    const struct shape *s = k->shape;
    const double head = 3 / sqrt(s->n_embd) * (k->family->mup ? LOGIT_SCALE : 1);

    k->i = 0;
    matrix(k, "token_embd.weight", k->as->head, s->n_embd, s->n_vocab, head);
    vector(k, "output_norm.weight", s->n_embd, 1, 0.1);
    if (!s->tied) {
        matrix(k, "output.weight", k->as->head, s->n_embd, s->n_vocab, head);
    }
    for (uint32_t i = 0; i < s->n_layer; i++) {
        layer(k, i);
    }
    return k->r;
}

/* ---- keys ---- */

/* A number under "<arch>.<what>". */
static int put(struct gguf_writer *w, const struct family *f, const char *what, uint32_t v)
{
    char key[96];

    (void)snprintf(key, sizeof(key), "%s.%s", f->arch, what);
    return gguf_put_u32(w, key, v);
}

static int put_f32(struct gguf_writer *w, const struct family *f, const char *what, double v)
{
    char key[96];

    (void)snprintf(key, sizeof(key), "%s.%s", f->arch, what);
    return gguf_put_f32(w, key, (float)v);
}

static int put_mup(struct gguf_writer *w, const struct shape *s, const struct family *f)
{
    int r = put_f32(w, f, "embedding_scale", EMBEDDING_SCALE);

    if (r == 0) {
        r = put_f32(w, f, "residual_scale", residual_scale(s));
    }
    return r == 0 ? put_f32(w, f, "logit_scale", LOGIT_SCALE) : r;
}

static int put_yarn(struct gguf_writer *w, const struct shape *s, const struct family *f)
{
    char key[96];

    (void)snprintf(key, sizeof(key), "%s.rope.scaling.type", f->arch);
    int r = gguf_put_str(w, key, strview_of("yarn"));
    if (r == 0) {
        r = put_f32(w, f, "rope.scaling.factor", (double)s->n_ctx / s->n_ctx_old);
    }
    return r == 0 ? put(w, f, "rope.scaling.original_context_length", s->n_ctx_old) : r;
}

static int keys(struct gguf_writer *w, const struct shape *s, const struct family *f,
                const char *format)
{
    const struct {
        const char *what;
        uint32_t v;
    } numbers[] = {
        {"block_count", s->n_layer},           {"context_length", s->n_ctx},
        {"embedding_length", s->n_embd},       {"feed_forward_length", s->n_ff},
        {"attention.head_count", s->n_head},   {"attention.head_count_kv", s->n_head_kv},
        {"attention.key_length", s->head_dim}, {"attention.value_length", s->head_dim},
        {"rope.dimension_count", s->head_dim}, {"vocab_size", s->n_vocab},
    };
    char name[96];

    (void)snprintf(name, sizeof(name), "%s %s, random weights", s->name, format);
    int r = gguf_put_str(w, "general.architecture", strview_of(f->arch));
    if (r == 0) {
        r = gguf_put_str(w, "general.name", strview_of(name));
    }
    if (r == 0) {
        r = gguf_put_u32(w, "general.quantization_version", 2);
    }
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(numbers); i++) {
        r = put(w, f, numbers[i].what, numbers[i].v);
    }
    if (r == 0) {
        r = put_f32(w, f, "attention.layer_norm_rms_epsilon", s->rms_eps);
    }
    if (r == 0) {
        r = put_f32(w, f, "rope.freq_base", s->rope_base);
    }
    if (r == 0 && s->n_ctx_old) {
        r = put_yarn(w, s, f);
    }
    return r == 0 && f->mup ? put_mup(w, s, f) : r;
}

int shape_write(const struct shape *shape, const struct make_as *as, int fd)
{
    const struct family *family = shape_family(shape, as->format);
    struct walk k = {.shape = shape, .family = family, .as = as};
    int r = gguf_writer_new(&k.w);

    if (r == 0) {
        r = keys(k.w, shape, family, as->format);
    }
    if (r == 0 && as->activations) {
        r = gguf_put_str(k.w, "onebit.activations", strview_of(as->activations));
    }
    if (r == 0) {
        r = make_vocab(k.w, shape->n_vocab, family->pre);
    }
    if (r == 0) {
        r = tensors(&k);
    }
    if (r == 0) {
        r = gguf_writer_begin(k.w, fd);
    }
    if (r == 0) {
        k.writing = true;
        r = tensors(&k);
    }
    if (r == 0) {
        r = gguf_writer_end(k.w);
    }
    gguf_writer_free(k.w);
    return r;
}
