/* Keys to shape. A key of the wrong type or range is malformed; a key that asks for arithmetic this
 * engine does not do is unsupported, because ignoring it would give wrong answers quietly. */
#include "engine/shape.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/format.h"
#include "engine/gguf.h"
#include "engine/kernels/kernels.h"
#include "engine/keys.h"
#include "engine/rope.h"

#define ARCH_SHOWN 64 /* bytes of an unknown architecture's name in a message */
#define SCALE_MAX 1e6f

static const char *const inputs_names[INPUTS] = {
    [INPUTS_FORMAT] = "", [INPUTS_INT8] = "int8", [INPUTS_BINARY] = "binary"};

const char *inputs_name(enum input_form inputs)
{
    return inputs_names[inputs];
}

bool shape_signs(const struct shape *s, enum role role)
{
    return s->inputs == INPUTS_BINARY && role >= (enum role)ROLES_GLOBAL && !role_is_vector(role);
}

static bool scale_valid(float x)
{
    return x > 0 && x <= SCALE_MAX;
}

bool shape_valid(const struct shape *s)
{
    return s->arch < ARCHES && s->n_layer >= 1 && s->n_layer <= MODEL_LAYERS_MAX &&
           s->n_embd >= 1 && s->n_embd <= KERN_COLS_MAX && s->n_ff >= 1 &&
           s->n_ff <= KERN_COLS_MAX && s->n_head >= 1 && s->n_head <= SHAPE_HEADS_MAX &&
           s->n_head_kv >= 1 && s->n_head % s->n_head_kv == 0 && s->head_dim >= 1 &&
           s->head_dim <= SHAPE_HEAD_DIM_MAX && s->n_head * s->head_dim <= KERN_COLS_MAX &&
           s->n_rot >= 2 && s->n_rot % 2 == 0 && s->n_rot <= s->head_dim && s->n_vocab >= 1 &&
           s->n_vocab <= MODEL_VOCAB_MAX && s->n_ctx >= 1 && s->n_ctx <= MODEL_CTX_MAX &&
           s->eps > 0 && s->eps <= 1 && s->rope_scale > 0 && isfinite(s->rope_scale) &&
           s->activation < ACTIVATIONS && s->inputs < INPUTS && scale_valid(s->embd_scale) &&
           scale_valid(s->residual_scale) && scale_valid(s->logit_scale);
}

/* Of the value that gives a head its length. */
static uint64_t offset_of_head_dim(struct keys *k)
{
    const bool given = gguf_find(k->g, keys_name(k, "attention.key_length")) != NULL;

    return given ? keys_offset(k) : gguf_key_offset(k->g, keys_name(k, "attention.head_count"));
}

/* More layers than tensors: the file is broken, however many layers this engine would take. */
static int refuse_empty_layers(struct keys *k)
{
    uint32_t n;
    const int r = keys_u32(k, "block_count", 0, &n);

    if (r != MODEL_OK || n <= k->g->n_tensors) {
        return r;
    }
    diag_set(k->d, keys_offset(k), "key %s is %" PRIu32 ", and the file has %zu tensors", k->key, n,
             k->g->n_tensors);
    return MODEL_MALFORMED;
}

static int read_arch(const struct gguf *g, enum arch *ret, struct diag *d)
{
    struct strview name;

    switch (gguf_str(g, "general.architecture", &name, d)) {
    case GGUF_FOUND:
        break;
    case GGUF_ABSENT:
        diag_set(d, g->keys_end, "key general.architecture is missing");
        return MODEL_MALFORMED;
    default:
        return MODEL_MALFORMED;
    }
    if (arch_of_name(name, ret)) {
        return MODEL_OK;
    }
    diag_set(d, gguf_find(g, "general.architecture")->offset,
             "architecture %.*s is unsupported (supported: %s)",
             name.n > ARCH_SHOWN ? ARCH_SHOWN : (int)name.n, name.data, arch_names());
    return MODEL_UNSUPPORTED;
}

/* Keys whose presence changes the arithmetic in ways this engine does not do. */
static int refuse_foreign_keys(struct keys *k)
{
    static const struct {
        const char *key, *what;
    } must_be_zero[] = {
        {"expert_count", "a mixture of experts"},
        {"expert_used_count", "a mixture of experts"},
        {"nextn_predict_layers", "prediction of several tokens"},
    };
    static const char *const must_be_0f[] = {"attention.scale", "attn_logit_softcapping",
                                             "final_logit_softcapping", "attention.clamp_kqv",
                                             "attention.max_alibi_bias"};
    int r;

    for (size_t i = 0; i < ARRAY_SIZE(must_be_zero); i++) {
        uint32_t v;
        r = keys_u32(k, must_be_zero[i].key, 0, &v);
        if (r != MODEL_OK || v != 0) {
            return r != MODEL_OK ? r : keys_unsupported(k, must_be_zero[i].what);
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(must_be_0f); i++) {
        float v;
        r = keys_f32(k, must_be_0f[i], 0, &v);
        if (r != MODEL_OK || v != 0) {
            return r != MODEL_OK ? r : keys_unsupported(k, "this scaling");
        }
    }
    bool parallel = false, causal = true;
    if (gguf_bool(k->g, keys_name(k, "use_parallel_residual"), &parallel, k->d) ==
        GGUF_WRONG_TYPE) {
        return MODEL_MALFORMED;
    }
    if (parallel) {
        return keys_unsupported(k, "a residual in parallel");
    }
    if (gguf_bool(k->g, keys_name(k, "attention.causal"), &causal, k->d) == GGUF_WRONG_TYPE) {
        return MODEL_MALFORMED;
    }
    return causal ? MODEL_OK : keys_unsupported(k, "attention that is not causal");
}

/* A window at least as long as the context is none. */
static int refuse_window(struct keys *k, const struct shape *s)
{
    uint32_t window;
    const int r = keys_u32(k, "attention.sliding_window", 0, &window);

    if (r != MODEL_OK || window == 0 || window >= s->n_ctx) {
        return r;
    }
    return keys_unsupported(k, "attention in a sliding window");
}

static int refuse_key(const struct gguf *g, const char *key, const char *what, struct diag *d)
{
    diag_set(d, gguf_key_offset(g, key), "key %s: %s is unsupported", key, what);
    return MODEL_UNSUPPORTED;
}

/* Files that are no whole model, or one whose inputs are transformed before its products. */
static int refuse_foreign_files(const struct gguf *g, struct diag *d)
{
    struct strview type = strview_of("model");
    uint32_t n_files = 1;

    if (gguf_str(g, "general.type", &type, d) == GGUF_WRONG_TYPE ||
        gguf_u32(g, "split.count", &n_files, d) == GGUF_WRONG_TYPE) {
        return MODEL_MALFORMED;
    }
    if (!strview_is(type, "model")) {
        return refuse_key(g, "general.type", "a file that is no model", d);
    }
    if (n_files > 1) {
        return refuse_key(g, "split.count", "a part of a model in several files", d);
    }
    if (gguf_find(g, "prism.hadamard.version")) {
        return refuse_key(g, "prism.hadamard.version", "a Hadamard transform of activations", d);
    }
    return MODEL_OK;
}

/* MiniCPM's three numbers. Its files give the logits' divisor; those without keys mean the numbers
 * of the paper: 12, 1.4 / sqrt(layers) and a head made for a width of 256. In other families all
 * must be 1. */
static int read_scales(struct keys *k, struct shape *s)
{
    const bool ours = arch_info((enum arch)s->arch)->stream_scales;
    const float width = (float)s->n_embd / 256.0f;
    const struct {
        const char *key;
        float otherwise, *ret;
    } scales[] = {
        {"embedding_scale", ours ? 12.0f : 1.0f, &s->embd_scale},
        {"residual_scale", ours ? 1.4f / sqrtf((float)s->n_layer) : 1.0f, &s->residual_scale},
        {"logit_scale", ours ? width : 1.0f, &s->logit_scale},
    };

    for (size_t i = 0; i < ARRAY_SIZE(scales); i++) {
        const int r = keys_f32(k, scales[i].key, scales[i].otherwise, scales[i].ret);
        if (r != MODEL_OK) {
            return r;
        }
        if (!ours && *scales[i].ret != 1.0f) {
            return keys_unsupported(k, "this scaling");
        }
        if (!(*scales[i].ret >= 1 / SCALE_MAX && *scales[i].ret <= SCALE_MAX)) {
            diag_set(k->d, keys_offset(k), "key %s is out of range", k->key);
            return MODEL_MALFORMED;
        }
    }
    s->logit_scale = 1.0f / s->logit_scale;
    return MODEL_OK;
}

/* A family's own activation, unless the file names one (some BitNet files do). */
static int read_activation(struct keys *k, struct shape *s)
{
    struct strview name;

    s->activation = arch_info((enum arch)s->arch)->activation;
    switch (gguf_str(k->g, keys_name(k, "hidden_activation"), &name, k->d)) {
    case GGUF_ABSENT:
        return MODEL_OK;
    case GGUF_FOUND:
        break;
    default:
        return MODEL_MALFORMED;
    }
    if (strview_is(name, "silu")) {
        s->activation = ACTIVATION_SILU;
    } else if (strview_is(name, "relu2")) {
        s->activation = ACTIVATION_RELU2;
    } else {
        return keys_unsupported(k, "this activation");
    }
    return MODEL_OK;
}

/* A key of our own, the same for all architectures. */
static int read_inputs(const struct gguf *g, struct shape *s, struct diag *d)
{
    static const char key[] = "onebit.activations";
    struct strview name;

    switch (gguf_str(g, key, &name, d)) {
    case GGUF_ABSENT:
        s->inputs = INPUTS_FORMAT;
        return MODEL_OK;
    case GGUF_FOUND:
        break;
    default:
        return MODEL_MALFORMED;
    }
    for (unsigned i = INPUTS_FORMAT + 1; i < INPUTS; i++) {
        if (strview_is(name, inputs_names[i])) {
            s->inputs = i;
            return MODEL_OK;
        }
    }
    diag_set(d, gguf_key_offset(g, key), "key %s is %.*s, which is unsupported (%s, %s)", key,
             name.n > ARCH_SHOWN ? ARCH_SHOWN : (int)name.n, name.data, inputs_names[INPUTS_INT8],
             inputs_names[INPUTS_BINARY]);
    return MODEL_UNSUPPORTED;
}

static int read_heads(struct keys *k, struct shape *s)
{
    uint32_t value_dim;
    int r;

    r = keys_u32_within(k, "attention.head_count", SHAPE_HEADS_MAX, &s->n_head);
    if (r != MODEL_OK) {
        return r;
    }
    const struct gguf_key *kv = gguf_find(k->g, keys_name(k, "attention.head_count_kv"));
    if (kv && kv->type == GGUF_ARR) {
        return keys_unsupported(k, "a head count that differs between layers");
    }
    r = keys_u32(k, "attention.head_count_kv", s->n_head, &s->n_head_kv);
    if (r != MODEL_OK) {
        return r;
    }
    if (s->n_head_kv == 0 || s->n_head % s->n_head_kv != 0) {
        diag_set(k->d, keys_offset(k), "%" PRIu32 " heads cannot share %" PRIu32 " of keys",
                 s->n_head, s->n_head_kv);
        return MODEL_MALFORMED;
    }
    r = keys_u32(k, "attention.key_length", 0, &s->head_dim);
    if (r == MODEL_OK) {
        const bool given = gguf_find(k->g, k->key) != NULL;
        if (!given && s->n_embd % s->n_head != 0) {
            diag_set(k->d, offset_of_head_dim(k),
                     "%" PRIu32 " heads do not divide an embedding of %" PRIu32, s->n_head,
                     s->n_embd);
            return MODEL_MALFORMED;
        }
        s->head_dim = given ? s->head_dim : s->n_embd / s->n_head;
        r = keys_u32(k, "attention.value_length", s->head_dim, &value_dim);
    }
    if (r != MODEL_OK) {
        return r;
    }
    if (s->head_dim == 0) {
        diag_set(k->d, offset_of_head_dim(k), "the length of a head is 0");
        return MODEL_MALFORMED;
    }
    if (s->head_dim > SHAPE_HEAD_DIM_MAX || (uint64_t)s->n_head * s->head_dim > KERN_COLS_MAX) {
        diag_set(k->d, offset_of_head_dim(k),
                 "%" PRIu32 " heads of %" PRIu32 " pass a limit (%u, %zu in all)", s->n_head,
                 s->head_dim, SHAPE_HEAD_DIM_MAX, KERN_COLS_MAX);
        return MODEL_TOO_BIG;
    }
    return value_dim == s->head_dim
               ? MODEL_OK
               : keys_unsupported(k, "a value length other than the key length");
}

static int read_eps(struct keys *k, struct shape *s)
{
    const int r = keys_f32(k, "attention.layer_norm_rms_epsilon", -1.0f, &s->eps);

    if (r != MODEL_OK) {
        return r;
    }
    if (!gguf_find(k->g, k->key)) {
        diag_set(k->d, k->g->keys_end, "key %s is missing", k->key);
        return MODEL_MALFORMED;
    }
    if (!(s->eps > 0 && s->eps <= 1)) {
        diag_set(k->d, keys_offset(k), "key %s is not in (0, 1]", k->key);
        return MODEL_MALFORMED;
    }
    return MODEL_OK;
}

/* ---- the whole ---- */

static int read_vocab_size(const struct gguf *g, uint32_t *ret, struct diag *d)
{
    const struct gguf_key *tokens;

    switch (gguf_array(g, "tokenizer.ggml.tokens", GGUF_STR, &tokens, d)) {
    case GGUF_FOUND:
        break;
    case GGUF_ABSENT:
        diag_set(d, g->keys_end, "key tokenizer.ggml.tokens is missing");
        return MODEL_MALFORMED;
    default:
        return MODEL_MALFORMED;
    }
    if (tokens->n == 0) {
        diag_set(d, tokens->offset, "the vocabulary is empty");
        return MODEL_MALFORMED;
    }
    if (tokens->n > MODEL_VOCAB_MAX) {
        diag_set(d, tokens->offset, "%" PRIu64 " tokens pass the limit of %u", tokens->n,
                 MODEL_VOCAB_MAX);
        return MODEL_TOO_BIG;
    }
    *ret = (uint32_t)tokens->n;
    return MODEL_OK;
}

int shape_read(const struct gguf *g, struct shape *ret, double **ret_inv_freq,
               struct diag *ret_diag)
{
    struct shape s = {0};
    enum arch arch;
    int r;

    r = read_arch(g, &arch, ret_diag);
    if (r != MODEL_OK) {
        return r;
    }
    s.arch = arch;
    struct keys k = {.g = g, .arch = arch_info(arch)->name, .d = ret_diag};
    const struct {
        const char *key;
        uint32_t max, *ret;
    } counts[] = {
        {"block_count", MODEL_LAYERS_MAX, &s.n_layer},
        {"embedding_length", (uint32_t)KERN_COLS_MAX, &s.n_embd},
        {"feed_forward_length", (uint32_t)KERN_COLS_MAX, &s.n_ff},
        {"context_length", UINT32_MAX, &s.n_ctx},
    };
    r = refuse_foreign_files(g, ret_diag);
    if (r == MODEL_OK) {
        r = refuse_empty_layers(&k);
    }
    for (size_t i = 0; r == MODEL_OK && i < ARRAY_SIZE(counts); i++) {
        r = keys_u32_within(&k, counts[i].key, counts[i].max, counts[i].ret);
    }
    /* A model may be made for more positions than a sequence can have here. */
    s.n_ctx_file = s.n_ctx;
    s.n_ctx = s.n_ctx < MODEL_CTX_MAX ? s.n_ctx : MODEL_CTX_MAX;

    if (r != MODEL_OK || (r = read_heads(&k, &s)) != MODEL_OK ||
        (r = read_eps(&k, &s)) != MODEL_OK || (r = refuse_foreign_keys(&k)) != MODEL_OK ||
        (r = refuse_window(&k, &s)) != MODEL_OK || (r = read_scales(&k, &s)) != MODEL_OK ||
        (r = read_activation(&k, &s)) != MODEL_OK ||
        (r = read_inputs(g, &s, ret_diag)) != MODEL_OK ||
        (r = read_vocab_size(g, &s.n_vocab, ret_diag)) != MODEL_OK) {
        return r;
    }
    r = rope_read(&k, &s, ret_inv_freq);
    if (r == MODEL_OK) {
        *ret = s;
    }
    return r;
}
