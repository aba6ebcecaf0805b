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
#include "engine/mathf.h"

#define ROPE_BASE_DEFAULT 10000.0f
#define PI 3.14159265358979323846

static const char *const arch_names[ARCHES] = {[ARCH_LLAMA] = "llama", [ARCH_QWEN3] = "qwen3"};

static const char *const role_names[ROLES] = {
    [ROLE_EMBD] = "token_embd.weight",    [ROLE_OUTPUT_NORM] = "output_norm.weight",
    [ROLE_OUTPUT] = "output.weight",      [ROLE_ATTN_NORM] = "attn_norm.weight",
    [ROLE_Q] = "attn_q.weight",           [ROLE_K] = "attn_k.weight",
    [ROLE_V] = "attn_v.weight",           [ROLE_O] = "attn_output.weight",
    [ROLE_Q_NORM] = "attn_q_norm.weight", [ROLE_K_NORM] = "attn_k_norm.weight",
    [ROLE_FFN_NORM] = "ffn_norm.weight",  [ROLE_GATE] = "ffn_gate.weight",
    [ROLE_UP] = "ffn_up.weight",          [ROLE_DOWN] = "ffn_down.weight",
};

const char *arch_name(enum arch a)
{
    return arch_names[a];
}

const char *role_name(enum role r)
{
    return role_names[r];
}

bool role_is_norm(enum role r)
{
    return r == ROLE_OUTPUT_NORM || r == ROLE_ATTN_NORM || r == ROLE_FFN_NORM || r == ROLE_Q_NORM ||
           r == ROLE_K_NORM;
}

bool role_dims(const struct shape *s, enum role r, uint64_t *ret_cols, uint64_t *ret_rows)
{
    const uint64_t q = (uint64_t)s->n_head * s->head_dim, kv = (uint64_t)s->n_head_kv * s->head_dim;
    uint64_t cols = s->n_embd, rows = 1;

    switch (r) {
    case ROLE_EMBD:
    case ROLE_OUTPUT:
        rows = s->n_vocab;
        break;
    case ROLE_OUTPUT_NORM:
    case ROLE_ATTN_NORM:
    case ROLE_FFN_NORM:
        break;
    case ROLE_Q:
        rows = q;
        break;
    case ROLE_K:
    case ROLE_V:
        rows = kv;
        break;
    case ROLE_O:
        cols = q;
        rows = s->n_embd;
        break;
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
        if (s->arch != ARCH_QWEN3) {
            return false;
        }
        cols = s->head_dim;
        break;
    case ROLE_GATE:
    case ROLE_UP:
        rows = s->n_ff;
        break;
    case ROLE_DOWN:
        cols = s->n_ff;
        rows = s->n_embd;
        break;
    case ROLES:
        return false;
    }
    *ret_cols = cols;
    *ret_rows = rows;
    return true;
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
           s->eps > 0 && s->eps <= 1 && s->rope_scale > 0 && isfinite(s->rope_scale);
}

/* ---- reading keys below "<arch>." ---- */

struct reader {
    const struct gguf *g;
    const char *arch;
    struct diag *d;
    char key[96]; /* scratch of full() */
};

static const char *full(struct reader *rd, const char *key)
{
    (void)snprintf(rd->key, sizeof(rd->key), "%s.%s", rd->arch, key);
    return rd->key;
}

static uint64_t offset_of_key(const struct reader *rd)
{
    return gguf_key_offset(rd->g, rd->key);
}

/* Of the value that gives a head its length. */
static uint64_t offset_of_head_dim(struct reader *rd)
{
    const bool given = gguf_find(rd->g, full(rd, "attention.key_length")) != NULL;

    return given ? offset_of_key(rd) : gguf_key_offset(rd->g, full(rd, "attention.head_count"));
}

static int u32_or(struct reader *rd, const char *key, uint32_t otherwise, uint32_t *ret)
{
    switch (gguf_u32(rd->g, full(rd, key), ret, rd->d)) {
    case GGUF_FOUND:
        return MODEL_OK;
    case GGUF_ABSENT:
        *ret = otherwise;
        return MODEL_OK;
    default:
        return MODEL_MALFORMED;
    }
}

static int f32_or(struct reader *rd, const char *key, float otherwise, float *ret)
{
    switch (gguf_f32(rd->g, full(rd, key), ret, rd->d)) {
    case GGUF_FOUND:
        return MODEL_OK;
    case GGUF_ABSENT:
        *ret = otherwise;
        return MODEL_OK;
    default:
        return MODEL_MALFORMED;
    }
}

/* More layers than tensors: the file is broken, however many layers this engine would take. */
static int refuse_empty_layers(struct reader *rd)
{
    uint32_t n;
    const int r = u32_or(rd, "block_count", 0, &n);

    if (r != MODEL_OK || n <= rd->g->n_tensors) {
        return r;
    }
    diag_set(rd->d, offset_of_key(rd), "key %s is %" PRIu32 ", and the file has %zu tensors",
             rd->key, n, rd->g->n_tensors);
    return MODEL_MALFORMED;
}

/* A number that must be there, in 1..max. */
static int u32_within(struct reader *rd, const char *key, uint32_t max, uint32_t *ret)
{
    const int r = u32_or(rd, key, 0, ret);

    if (r != MODEL_OK) {
        return r;
    }
    if (!gguf_find(rd->g, rd->key)) {
        diag_set(rd->d, rd->g->keys_end, "key %s is missing", rd->key);
        return MODEL_MALFORMED;
    }
    if (*ret == 0) {
        diag_set(rd->d, offset_of_key(rd), "key %s is 0", rd->key);
        return MODEL_MALFORMED;
    }
    if (*ret > max) {
        diag_set(rd->d, offset_of_key(rd), "key %s is %" PRIu32 ", the limit is %" PRIu32, rd->key,
                 *ret, max);
        return MODEL_TOO_BIG;
    }
    return MODEL_OK;
}

static int unsupported(struct reader *rd, const char *what)
{
    diag_set(rd->d, offset_of_key(rd), "key %s: %s is unsupported", rd->key, what);
    return MODEL_UNSUPPORTED;
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
    for (unsigned a = 0; a < ARCHES; a++) {
        if (strview_is(name, arch_names[a])) {
            *ret = (enum arch)a;
            return MODEL_OK;
        }
    }
    diag_set(d, gguf_find(g, "general.architecture")->offset,
             "architecture %.*s is unsupported (llama and qwen3 are)", (int)(name.n & 0xff),
             name.data);
    return MODEL_UNSUPPORTED;
}

/* Keys whose presence changes the arithmetic in ways this engine does not do. */
static int refuse_foreign_keys(struct reader *rd)
{
    static const char *const must_be_zero[] = {"expert_count", "expert_used_count"};
    static const char *const must_be_one[] = {"logit_scale", "embedding_scale", "residual_scale"};
    static const char *const must_be_0f[] = {"attention.scale", "attn_logit_softcapping",
                                             "final_logit_softcapping", "attention.clamp_kqv",
                                             "attention.max_alibi_bias"};
    int r;

    for (size_t i = 0; i < ARRAY_SIZE(must_be_zero); i++) {
        uint32_t v;
        r = u32_or(rd, must_be_zero[i], 0, &v);
        if (r != MODEL_OK || v != 0) {
            return r != MODEL_OK ? r : unsupported(rd, "a mixture of experts");
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(must_be_one) + ARRAY_SIZE(must_be_0f); i++) {
        const bool one = i < ARRAY_SIZE(must_be_one);
        const float want = one ? 1.0f : 0.0f;
        float v;
        r = f32_or(rd, one ? must_be_one[i] : must_be_0f[i - ARRAY_SIZE(must_be_one)], want, &v);
        if (r != MODEL_OK || v != want) {
            return r != MODEL_OK ? r : unsupported(rd, "this scaling");
        }
    }
    bool causal = true;
    r = gguf_bool(rd->g, full(rd, "attention.causal"), &causal, rd->d);
    if (r == GGUF_WRONG_TYPE) {
        return MODEL_MALFORMED;
    }
    return causal ? MODEL_OK : unsupported(rd, "attention that is not causal");
}

static int read_heads(struct reader *rd, struct shape *s)
{
    uint32_t value_dim;
    int r;

    r = u32_within(rd, "attention.head_count", SHAPE_HEADS_MAX, &s->n_head);
    if (r != MODEL_OK) {
        return r;
    }
    const struct gguf_key *kv = gguf_find(rd->g, full(rd, "attention.head_count_kv"));
    if (kv && kv->type == GGUF_ARR) {
        return unsupported(rd, "a head count that differs between layers");
    }
    r = u32_or(rd, "attention.head_count_kv", s->n_head, &s->n_head_kv);
    if (r != MODEL_OK) {
        return r;
    }
    if (s->n_head_kv == 0 || s->n_head % s->n_head_kv != 0) {
        diag_set(rd->d, offset_of_key(rd), "%" PRIu32 " heads cannot share %" PRIu32 " of keys",
                 s->n_head, s->n_head_kv);
        return MODEL_MALFORMED;
    }
    r = u32_or(rd, "attention.key_length", 0, &s->head_dim);
    if (r == MODEL_OK) {
        const bool given = gguf_find(rd->g, rd->key) != NULL;
        if (!given && s->n_embd % s->n_head != 0) {
            diag_set(rd->d, offset_of_head_dim(rd),
                     "%" PRIu32 " heads do not divide an embedding of %" PRIu32, s->n_head,
                     s->n_embd);
            return MODEL_MALFORMED;
        }
        s->head_dim = given ? s->head_dim : s->n_embd / s->n_head;
        r = u32_or(rd, "attention.value_length", s->head_dim, &value_dim);
    }
    if (r != MODEL_OK) {
        return r;
    }
    if (s->head_dim == 0) {
        diag_set(rd->d, offset_of_head_dim(rd), "the length of a head is 0");
        return MODEL_MALFORMED;
    }
    if (s->head_dim > SHAPE_HEAD_DIM_MAX || (uint64_t)s->n_head * s->head_dim > KERN_COLS_MAX) {
        diag_set(rd->d, offset_of_head_dim(rd),
                 "%" PRIu32 " heads of %" PRIu32 " pass a limit (%u, %zu in all)", s->n_head,
                 s->head_dim, SHAPE_HEAD_DIM_MAX, KERN_COLS_MAX);
        return MODEL_TOO_BIG;
    }
    return value_dim == s->head_dim ? MODEL_OK
                                    : unsupported(rd, "a value length other than the key length");
}

static int read_eps(struct reader *rd, struct shape *s)
{
    const int r = f32_or(rd, "attention.layer_norm_rms_epsilon", -1.0f, &s->eps);

    if (r != MODEL_OK) {
        return r;
    }
    if (!gguf_find(rd->g, rd->key)) {
        diag_set(rd->d, rd->g->keys_end, "key %s is missing", rd->key);
        return MODEL_MALFORMED;
    }
    if (!(s->eps > 0 && s->eps <= 1)) {
        diag_set(rd->d, offset_of_key(rd), "key %s is not in (0, 1]", rd->key);
        return MODEL_MALFORMED;
    }
    return MODEL_OK;
}

/* ---- rope ---- */

enum rope_kind { ROPE_PLAIN = 0, ROPE_LINEAR, ROPE_YARN };

struct rope {
    enum rope_kind kind;
    float base, factor, attn_factor, ext_factor, beta_fast, beta_slow;
    uint32_t n_ctx_orig;
};

static int read_rope_kind(struct reader *rd, struct rope *rope)
{
    struct strview type = {0};

    const int r = gguf_str(rd->g, full(rd, "rope.scaling.type"), &type, rd->d);
    if (r == GGUF_WRONG_TYPE) {
        return MODEL_MALFORMED;
    }
    if (r == GGUF_ABSENT) { /* a factor alone means linear, as in older files */
        rope->kind = rope->factor != 1.0f ? ROPE_LINEAR : ROPE_PLAIN;
    } else if (strview_is(type, "none")) {
        rope->kind = ROPE_PLAIN;
    } else if (strview_is(type, "linear")) {
        rope->kind = ROPE_LINEAR;
    } else if (strview_is(type, "yarn")) {
        rope->kind = ROPE_YARN;
    } else {
        char what[64];
        (void)snprintf(what, sizeof(what), "rope scaling %.*s", type.n > 32 ? 32 : (int)type.n,
                       type.data);
        return unsupported(rd, what);
    }
    return MODEL_OK;
}

static int read_rope_keys(struct reader *rd, const struct shape *s, struct rope *rope)
{
    const struct {
        const char *key;
        float otherwise, *ret, min, max;
    } floats[] = {
        {"rope.freq_base", ROPE_BASE_DEFAULT, &rope->base, 1e-3f, 1e30f},
        {"rope.scale_linear", 1, &rope->factor, 0, 1e9f},
        {"rope.scaling.factor", 0, &rope->factor, 0, 1e9f}, /* falls back on the line above */
        {"rope.scaling.attn_factor", 1, &rope->attn_factor, 1e-6f, 1e6f},
        {"rope.scaling.yarn_ext_factor", 1, &rope->ext_factor, 0, 1},
        {"rope.scaling.yarn_beta_fast", 32, &rope->beta_fast, 1e-3f, 1e6f},
        {"rope.scaling.yarn_beta_slow", 1, &rope->beta_slow, 1e-3f, 1e6f},
    };
    int r;

    for (size_t i = 0; i < ARRAY_SIZE(floats); i++) {
        const float before = *floats[i].ret;
        r = f32_or(rd, floats[i].key, floats[i].otherwise, floats[i].ret);
        if (r != MODEL_OK) {
            return r;
        }
        if (strcmp(floats[i].key, "rope.scaling.factor") == 0 && !gguf_find(rd->g, rd->key)) {
            *floats[i].ret = before;
        }
        if (!(*floats[i].ret >= floats[i].min && *floats[i].ret <= floats[i].max)) {
            diag_set(rd->d, offset_of_key(rd), "key %s is out of range", rd->key);
            return MODEL_MALFORMED;
        }
    }
    if (rope->factor == 0) { /* some converters write 0 for "none" */
        rope->factor = 1;
    }
    float log_mul;
    r = f32_or(rd, "rope.scaling.yarn_log_multiplier", 0, &log_mul);
    if (r != MODEL_OK || log_mul != 0) {
        return r != MODEL_OK ? r : unsupported(rd, "this rope scaling");
    }
    r = u32_or(rd, "rope.scaling.original_context_length", s->n_ctx, &rope->n_ctx_orig);
    if (r == MODEL_OK && rope->n_ctx_orig == 0) {
        diag_set(rd->d, offset_of_key(rd), "key %s is 0", rd->key);
        return MODEL_MALFORMED;
    }
    return r != MODEL_OK ? r : read_rope_kind(rd, rope);
}

/* The rotation index (as a real number) whose wavelength makes `turns` turns in the old context. */
static double yarn_dim(const struct rope *rope, const struct shape *s, double turns)
{
    return s->n_rot * math_log(rope->n_ctx_orig / (turns * 2 * PI)) / (2 * math_log(rope->base));
}

static void yarn_freqs(const struct rope *rope, struct shape *s, double *inv_freq)
{
    const double low = fmax(0, floor(yarn_dim(rope, s, rope->beta_fast)));
    const double high = fmin(s->n_rot - 1, ceil(yarn_dim(rope, s, rope->beta_slow)));

    for (uint32_t i = 0; i < s->n_rot / 2; i++) {
        const double ramp = (i - low) / fmax(0.001, high - low);
        const double mix = (1 - fmin(1, fmax(0, ramp))) * rope->ext_factor;
        inv_freq[i] = inv_freq[i] / rope->factor * (1 - mix) + inv_freq[i] * mix;
    }
    if (rope->ext_factor != 0) {
        s->rope_scale *= (float)(1 + 0.1 * math_log(rope->factor));
    }
}

/* Llama 3's factors: one divisor per pair, in a tensor of the file. */
static int divide_by_factors(const struct gguf *g, const struct shape *s, double *inv_freq,
                             struct diag *d)
{
    const struct gguf_tensor_info *t = gguf_tensor_find(g, "rope_freqs.weight");
    const uint64_t n = s->n_rot / 2;

    if (!t) {
        return MODEL_OK;
    }
    if (t->type != format_info(FORMAT_F32)->id || t->dims[0] != n || t->dims[1] != 1 ||
        t->dims[2] != 1 || t->dims[3] != 1 || n * sizeof(float) > g->size - t->offset) {
        diag_set(d, t->info_offset, "rope_freqs.weight is no F32 vector of %" PRIu64, n);
        return MODEL_MALFORMED;
    }
    for (uint64_t i = 0; i < n; i++) {
        float f;
        memcpy(&f, g->data + t->offset + i * sizeof(f), sizeof(f));
        inv_freq[i] /= f; /* zero and NaN are found with the other bounds */
    }
    return MODEL_OK;
}

static int make_freqs(struct reader *rd, struct shape *s, const struct rope *rope, double *inv_freq)
{
    const uint32_t n = s->n_rot / 2;

    for (uint32_t i = 0; i < n; i++) {
        inv_freq[i] = math_pow(rope->base, -2.0 * i / s->n_rot);
    }
    const int r = divide_by_factors(rd->g, s, inv_freq, rd->d);
    if (r != MODEL_OK) {
        return r;
    }
    s->rope_scale = rope->attn_factor;
    if (rope->kind == ROPE_LINEAR) {
        for (uint32_t i = 0; i < n; i++) {
            inv_freq[i] /= rope->factor;
        }
    } else if (rope->kind == ROPE_YARN) {
        if (!(rope->base > 1) || rope->factor < 1) {
            (void)full(rd, rope->base > 1 ? "rope.scaling.factor" : "rope.freq_base");
            diag_set(rd->d, offset_of_key(rd),
                     "YaRN wants a base above 1 and a factor of at least 1");
            return MODEL_MALFORMED;
        }
        yarn_freqs(rope, s, inv_freq);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!(fabs(inv_freq[i]) <= SHAPE_INV_FREQ_MAX)) {
            const struct gguf_tensor_info *t = gguf_tensor_find(rd->g, "rope_freqs.weight");
            (void)full(rd, "rope.freq_base");
            diag_set(rd->d, t ? t->offset : offset_of_key(rd),
                     "rope frequency %" PRIu32 " is out of range", i);
            return MODEL_MALFORMED;
        }
    }
    return MODEL_OK;
}

static int read_rope(struct reader *rd, struct shape *s, double **ret_inv_freq)
{
    struct rope rope = {0};
    int r;

    r = u32_or(rd, "rope.dimension_count", s->head_dim, &s->n_rot);
    if (r != MODEL_OK) {
        return r;
    }
    if (s->n_rot < 2 || s->n_rot > s->head_dim || s->n_rot % 2 != 0) {
        diag_set(rd->d, offset_of_key(rd), "cannot rotate %" PRIu32 " of %" PRIu32 " dimensions",
                 s->n_rot, s->head_dim);
        return MODEL_MALFORMED;
    }
    r = read_rope_keys(rd, s, &rope);
    if (r != MODEL_OK) {
        return r;
    }
    double *inv_freq = calloc(s->n_rot / 2, sizeof(*inv_freq));
    if (!inv_freq) {
        return -ENOMEM;
    }
    r = make_freqs(rd, s, &rope, inv_freq);
    if (r != MODEL_OK) {
        free(inv_freq);
        return r;
    }
    *ret_inv_freq = inv_freq;
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
    struct reader rd = {.g = g, .arch = arch_names[arch], .d = ret_diag};
    const struct {
        const char *key;
        uint32_t max, *ret;
    } counts[] = {
        {"block_count", MODEL_LAYERS_MAX, &s.n_layer},
        {"embedding_length", (uint32_t)KERN_COLS_MAX, &s.n_embd},
        {"feed_forward_length", (uint32_t)KERN_COLS_MAX, &s.n_ff},
        {"context_length", UINT32_MAX, &s.n_ctx},
    };
    r = refuse_empty_layers(&rd);
    for (size_t i = 0; r == MODEL_OK && i < ARRAY_SIZE(counts); i++) {
        r = u32_within(&rd, counts[i].key, counts[i].max, counts[i].ret);
    }
    /* A model may be made for more positions than a sequence can have here. */
    s.n_ctx = s.n_ctx < MODEL_CTX_MAX ? s.n_ctx : MODEL_CTX_MAX;

    if (r != MODEL_OK || (r = read_heads(&rd, &s)) != MODEL_OK ||
        (r = read_eps(&rd, &s)) != MODEL_OK || (r = refuse_foreign_keys(&rd)) != MODEL_OK ||
        (r = read_vocab_size(g, &s.n_vocab, ret_diag)) != MODEL_OK) {
        return r;
    }
    r = read_rope(&rd, &s, ret_inv_freq);
    if (r == MODEL_OK) {
        *ret = s;
    }
    return r;
}
