/* Shapes of real models, and the keys and tensors that make a file of one.
 *
 * One walk over the tensors serves twice: first to announce them, then to write them. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/lab/make.h"

static const struct shape shapes[] = {
    {.name = "tiny",
     .arch = "qwen3",
     .n_layer = 2,
     .n_embd = 256,
     .n_ff = 512,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 64,
     .n_vocab = 512,
     .n_ctx = 2048,
     .rope_base = 1e6f,
     .rms_eps = 1e-6f,
     .tied = true},
    {.name = "bonsai-1.7b",
     .arch = "qwen3",
     .n_layer = 28,
     .n_embd = 2048,
     .n_ff = 6144,
     .n_head = 16,
     .n_head_kv = 8,
     .head_dim = 128,
     .n_vocab = 151669,
     .n_ctx = 32768,
     .rope_base = 1e6f,
     .rms_eps = 1e-6f,
     .tied = true},
    {.name = "bonsai-8b",
     .arch = "qwen3",
     .n_layer = 36,
     .n_embd = 4096,
     .n_ff = 12288,
     .n_head = 32,
     .n_head_kv = 8,
     .head_dim = 128,
     .n_vocab = 151669,
     .n_ctx = 65536,
     .rope_base = 1e6f,
     .rms_eps = 1e-6f,
     .tied = false},
    {.name = "llama-160m",
     .arch = "llama",
     .n_layer = 12,
     .n_embd = 768,
     .n_ff = 3072,
     .n_head = 12,
     .n_head_kv = 12,
     .head_dim = 64,
     .n_vocab = 32000,
     .n_ctx = 2048,
     .rope_base = 1e4f,
     .rms_eps = 1e-6f,
     .tied = false},
};

const struct shape *shape_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        if (strcmp(shapes[i].name, name) == 0) {
            return &shapes[i];
        }
    }
    return NULL;
}

const char *shape_names(void)
{
    return "tiny, bonsai-1.7b, bonsai-8b, llama-160m";
}

/* ---- tensors ---- */

struct walk {
    const struct shape *shape;
    const char *format, *head;
    uint64_t seed;
    struct gguf_writer *w;
    bool writing; /* second pass */
    uint64_t i;   /* tensors so far: each has random numbers of its own */
    int r;        /* the first failure; later calls do nothing */
};

static uint64_t tensor_seed(const struct walk *k)
{
    return (k->seed + 1) * 0x9e3779b97f4a7c15u ^ (k->i * 0xd1b54a32d192ed03u);
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

static void vector(struct walk *k, const char *name, uint64_t n)
{
    if (k->r != 0) {
        return;
    }
    k->i++;
    if (k->writing) {
        k->r = make_ones(k->w, n, tensor_seed(k));
    } else {
        k->r = gguf_put_tensor(k->w, name, "F32", n, 1, /* vector= */ true);
    }
}

static const char *in_layer(char *buf, size_t n, uint32_t layer, const char *what)
{
    (void)snprintf(buf, n, "blk.%u.%s.weight", layer, what);
    return buf;
}

/* A matrix of standard deviation 1/sqrt(columns) keeps a vector's length. What the layers add to the
 * residual stream comes to a few units at any depth, well above the embedding: else a tied head would
 * see little but the token that came in and say it again for ever. */
static void layer(struct walk *k, uint32_t i)
{
    const struct shape *s = k->shape;
    const uint64_t q = (uint64_t)s->n_head * s->head_dim, kv = (uint64_t)s->n_head_kv * s->head_dim;
    const double gain = 6 / sqrt(2.0 * s->n_layer);
    const double embd = 1 / sqrt(s->n_embd);
    char name[64];

    vector(k, in_layer(name, sizeof(name), i, "attn_norm"), s->n_embd);
    matrix(k, in_layer(name, sizeof(name), i, "attn_q"), k->format, s->n_embd, q, embd);
    matrix(k, in_layer(name, sizeof(name), i, "attn_k"), k->format, s->n_embd, kv, embd);
    matrix(k, in_layer(name, sizeof(name), i, "attn_v"), k->format, s->n_embd, kv, embd);
    matrix(k, in_layer(name, sizeof(name), i, "attn_output"), k->format, q, s->n_embd,
           gain / sqrt((double)q));
    if (strcmp(s->arch, "qwen3") == 0) {
        vector(k, in_layer(name, sizeof(name), i, "attn_q_norm"), s->head_dim);
        vector(k, in_layer(name, sizeof(name), i, "attn_k_norm"), s->head_dim);
    }
    vector(k, in_layer(name, sizeof(name), i, "ffn_norm"), s->n_embd);
    matrix(k, in_layer(name, sizeof(name), i, "ffn_gate"), k->format, s->n_embd, s->n_ff, embd);
    matrix(k, in_layer(name, sizeof(name), i, "ffn_up"), k->format, s->n_embd, s->n_ff, embd);
    matrix(k, in_layer(name, sizeof(name), i, "ffn_down"), k->format, s->n_ff, s->n_embd,
           gain / sqrt(s->n_ff));
}

/* The head turns a vector of unit mean square into logits of standard deviation 3, as trained models
 * have; a tied embedding shares that scale, which the first norm takes out again. */
static int tensors(struct walk *k)
{
    const struct shape *s = k->shape;
    const double head = 3 / sqrt(s->n_embd);

    k->i = 0;
    matrix(k, "token_embd.weight", k->head, s->n_embd, s->n_vocab, head);
    vector(k, "output_norm.weight", s->n_embd);
    if (!s->tied) {
        matrix(k, "output.weight", k->head, s->n_embd, s->n_vocab, head);
    }
    for (uint32_t i = 0; i < s->n_layer; i++) {
        layer(k, i);
    }
    return k->r;
}

/* ---- keys ---- */

/* A number under "<arch>.<what>". */
static int put(struct gguf_writer *w, const struct shape *s, const char *what, uint32_t v)
{
    char key[96];

    (void)snprintf(key, sizeof(key), "%s.%s", s->arch, what);
    return gguf_put_u32(w, key, v);
}

static int put_f32(struct gguf_writer *w, const struct shape *s, const char *what, float v)
{
    char key[96];

    (void)snprintf(key, sizeof(key), "%s.%s", s->arch, what);
    return gguf_put_f32(w, key, v);
}

static int keys(struct gguf_writer *w, const struct shape *s, const char *format)
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
    int r = gguf_put_str(w, "general.architecture", strview_of(s->arch));
    if (r == 0) {
        r = gguf_put_str(w, "general.name", strview_of(name));
    }
    if (r == 0) {
        r = gguf_put_u32(w, "general.quantization_version", 2);
    }
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(numbers); i++) {
        r = put(w, s, numbers[i].what, numbers[i].v);
    }
    if (r == 0) {
        r = put_f32(w, s, "attention.layer_norm_rms_epsilon", s->rms_eps);
    }
    if (r == 0) {
        r = put_f32(w, s, "rope.freq_base", s->rope_base);
    }
    return r;
}

int shape_write(const struct shape *shape, const char *format, const char *head, uint64_t seed,
                int fd)
{
    struct walk k = {.shape = shape, .format = format, .head = head, .seed = seed};
    int r = gguf_writer_new(&k.w);

    if (r == 0) {
        r = keys(k.w, shape, format);
    }
    if (r == 0) {
        r = make_vocab(k.w, shape->n_vocab, strcmp(shape->arch, "qwen3") == 0 ? "qwen2" : "gpt-2");
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
