#include "tests/support/test.h"

#include "tests/unit/engine/tiny.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/format.h"

#define COLS_MAX 512u
#define HEADS 4u
#define HEADS_KV 2u

float tiny_random(uint64_t i)
{
    uint64_t z = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (float)((double)((z ^ (z >> 31)) >> 11) * 0x1p-52 - 1.0);
}

uint8_t *tiny_slurp(int fd, size_t *ret_n)
{
    const off_t n = lseek(fd, 0, SEEK_END);
    uint8_t *data = malloc((size_t)n + 1);

    assert_non_null(data);
    assert_int_equal(pread(fd, data, (size_t)n, 0), n);
    *ret_n = (size_t)n;
    return data;
}

int tiny_file(const void *data, size_t n)
{
    const int fd = memfd_create("tiny", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, n, 0), (ssize_t)n);
    return fd;
}

/* Embedding length: one block of the widest format in use, since tests run at every level under
 * every sanitizer. */
static uint32_t embd_of(const struct tiny *t)
{
    enum format layers, head;

    if (t->each) {
        return 256;
    }
    assert_true(format_of_name(t->format, &layers) && format_of_name(t->head, &head));
    return format_info(layers)->block > 128 || format_info(head)->block > 128 ? 256 : 128;
}

/* Length of the feed-forward, and of all heads together. */
static uint32_t wide_of(const struct tiny *t)
{
    return t->uneven ? 2 * embd_of(t) : embd_of(t);
}

static uint32_t layers_of(const struct tiny *t)
{
    return t->n_layer ? t->n_layer : TINY_LAYERS;
}

static bool is_bitnet(const struct tiny *t)
{
    return strncmp(t->arch, "bitnet", 6) == 0;
}

/* ---- keys ---- */

static void put_u32(struct gguf_writer *w, const struct tiny *t, const char *key, uint32_t v)
{
    char full[96];

    (void)snprintf(full, sizeof(full), "%s.%s", t->arch, key);
    if (!t->skip_key || strcmp(t->skip_key, key) != 0) {
        assert_int_equal(gguf_put_u32(w, full, v), 0);
    }
}

static void put_f32(struct gguf_writer *w, const struct tiny *t, const char *key, float v)
{
    char full[96];

    (void)snprintf(full, sizeof(full), "%s.%s", t->arch, key);
    if (!t->skip_key || strcmp(t->skip_key, key) != 0) {
        assert_int_equal(gguf_put_f32(w, full, v), 0);
    }
}

static void put_shape(struct gguf_writer *w, const struct tiny *t)
{
    char key[64];

    assert_int_equal(gguf_put_str(w, "general.architecture", strview_of(t->arch)), 0);
    assert_int_equal(gguf_put_str(w, "general.name", strview_of("tiny")), 0);
    if (t->inputs) {
        assert_int_equal(gguf_put_str(w, "onebit.activations", strview_of(t->inputs)), 0);
    }
    if (t->extra_key) {
        assert_int_equal(gguf_put_u32(w, t->extra_key, t->extra_value), 0);
    }
    put_u32(w, t, "block_count", layers_of(t));
    put_u32(w, t, "context_length", TINY_CTX);
    put_u32(w, t, "embedding_length", embd_of(t));
    put_u32(w, t, "feed_forward_length", wide_of(t));
    put_u32(w, t, "attention.head_count", HEADS);
    put_u32(w, t, "attention.head_count_kv", HEADS_KV);
    put_u32(w, t, "attention.key_length", wide_of(t) / HEADS);
    put_u32(w, t, "attention.value_length", wide_of(t) / HEADS);
    put_f32(w, t, "attention.layer_norm_rms_epsilon", t->eps > 0 ? t->eps : 1e-5f);
    put_f32(w, t, "rope.freq_base", 10000.0f);
    if (t->scaling) {
        (void)snprintf(key, sizeof(key), "%s.rope.scaling.type", t->arch);
        assert_int_equal(gguf_put_str(w, key, strview_of(t->scaling)), 0);
        put_f32(w, t, "rope.scaling.factor", 4.0f);
        put_u32(w, t, "rope.scaling.original_context_length", t->n_ctx_old ? t->n_ctx_old : 64);
    }
    if (t->activation) {
        (void)snprintf(key, sizeof(key), "%s.hidden_activation", t->arch);
        assert_int_equal(gguf_put_str(w, key, strview_of(t->activation)), 0);
    }
    if (strcmp(t->arch, "minicpm") == 0) {
        put_f32(w, t, "embedding_scale", TINY_EMBEDDING_SCALE);
        put_f32(w, t, "residual_scale", TINY_RESIDUAL_SCALE);
        put_f32(w, t, "logit_scale", TINY_LOGIT_SCALE);
    }
}

static void put_vocab(struct gguf_writer *w, uint32_t n_words)
{
    static const char *const names[] = {"<unk>", "<s>", "</s>"};
    static const char *const words[] = {"\xe2\x96\x81on", "light", "a", "b", "ab"};
    const uint32_t n = TINY_VOCAB + n_words;
    struct strview *tokens = calloc(n, sizeof(*tokens));
    float *scores = calloc(n, sizeof(*scores));
    int32_t *types = calloc(n, sizeof(*types));
    char bytes[256][8], (*more)[16] = calloc(n, sizeof(*more));

    assert_true(tokens && scores && types && more);
    for (uint32_t i = 0; i < n; i++) {
        if (i < 3) {
            tokens[i] = strview_of(names[i]);
            types[i] = i == 0 ? 2 : 3;
        } else if (i < 259) {
            (void)snprintf(bytes[i - 3], sizeof(bytes[0]), "<0x%02X>", i - 3);
            tokens[i] = strview_of(bytes[i - 3]);
            types[i] = 6;
        } else {
            (void)snprintf(more[i], sizeof(more[0]), "w%u", i);
            tokens[i] = strview_of(i < TINY_VOCAB ? words[i - 259] : more[i]);
            types[i] = 1;
            scores[i] = -(float)i;
        }
    }
    assert_int_equal(gguf_put_str(w, "tokenizer.ggml.model", strview_of("llama")), 0);
    assert_int_equal(gguf_put_str_array(w, "tokenizer.ggml.tokens", tokens, n), 0);
    assert_int_equal(gguf_put_f32_array(w, "tokenizer.ggml.scores", scores, n), 0);
    assert_int_equal(gguf_put_i32_array(w, "tokenizer.ggml.token_type", types, n), 0);
    assert_int_equal(gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1), 0);
    assert_int_equal(gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2), 0);
    free(more);
    free(types);
    free(scores);
    free(tokens);
}

/* ---- tensors ---- */

enum kind { MATRIX, NORM, BIAS, SCALE, THRESHOLD };

struct plan {
    char name[64];
    const char *format;
    uint64_t n_cols, n_rows;
    enum kind kind;
};

struct plans {
    const struct tiny *t;
    struct plan p[96];
    size_t n, n_matrices;
};

/* The format of the matrix whose turn it is. */
static const char *next_of(struct plans *plans, const char *format)
{
    const char *const *each = plans->t->each;
    size_t n = 0;

    while (each && each[n]) {
        n++;
    }
    return n > 0 ? each[plans->n_matrices++ % n] : format;
}

static void add(struct plans *plans, const char *name, enum kind kind, const char *format,
                uint64_t n_cols, uint64_t n_rows)
{
    struct plan *p = &plans->p[plans->n];

    if (plans->t->skip_tensor && strcmp(plans->t->skip_tensor, name) == 0 &&
        name != plans->t->extra_tensor) { /* that one may take its place */
        return;
    }
    assert_true(plans->n < ARRAY_SIZE(plans->p));
    format = kind == MATRIX ? next_of(plans, format) : format;
    *p = (struct plan){.format = format, .n_cols = n_cols, .n_rows = n_rows, .kind = kind};
    (void)snprintf(p->name, sizeof(p->name), "%s", name);
    plans->n++;
}

static void plan_layer(struct plans *plans, unsigned layer)
{
    const struct tiny *t = plans->t;
    const uint64_t embd = embd_of(t), wide = wide_of(t), kv = wide / HEADS * HEADS_KV;
    const bool qwen2 = strcmp(t->arch, "qwen2") == 0, qwen3 = strcmp(t->arch, "qwen3") == 0;
    const bool signs = t->inputs && strcmp(t->inputs, "binary") == 0;
    const struct {
        const char *name;
        uint64_t n_cols, n_rows;
        enum kind kind;
        bool there;
    } parts[] = {
        {"attn_norm.weight", embd, 1, NORM, true},
        {"ffn_norm.weight", embd, 1, NORM, true},
        {"attn_q_norm.weight", wide / HEADS, 1, NORM, qwen3},
        {"attn_k_norm.weight", wide / HEADS, 1, NORM, qwen3},
        {"attn_sub_norm.weight", wide, 1, NORM, is_bitnet(t)},
        {"ffn_sub_norm.weight", wide, 1, NORM, is_bitnet(t)},
        {"attn_q.weight", embd, wide, MATRIX, true},
        {"attn_k.weight", embd, kv, MATRIX, true},
        {"attn_v.weight", embd, kv, MATRIX, true},
        {"attn_output.weight", wide, embd, MATRIX, true},
        {"ffn_gate.weight", embd, wide, MATRIX, true},
        {"ffn_up.weight", embd, wide, MATRIX, true},
        {"ffn_down.weight", wide, embd, MATRIX, true},
        {"attn_q.bias", wide, 1, BIAS, qwen2},
        {"attn_k.bias", kv, 1, BIAS, qwen2},
        {"attn_v.bias", kv, 1, BIAS, qwen2},
        {"attn_q.scale", 1, 1, SCALE, t->scales},
        {"attn_k.scale", 1, 1, SCALE, t->scales},
        {"attn_v.scale", 1, 1, SCALE, t->scales},
        {"attn_output.scale", 1, 1, SCALE, t->scales},
        {"ffn_gate.scale", 1, 1, SCALE, t->scales},
        {"ffn_up.scale", 1, 1, SCALE, t->scales},
        {"ffn_down.scale", 1, 1, SCALE, t->scales},
        {"attn_norm.threshold", embd, 1, THRESHOLD, signs},
        {"attn_output.threshold", wide, 1, THRESHOLD, signs},
        {"ffn_norm.threshold", embd, 1, THRESHOLD, signs},
        {"ffn_down.threshold", wide, 1, THRESHOLD, signs},
    };

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "blk.%u.%s", layer, parts[i].name);
        if (parts[i].there) {
            add(plans, name, parts[i].kind, parts[i].kind == MATRIX ? t->format : "F32",
                parts[i].n_cols, parts[i].n_rows);
        }
    }
}

static void plan_file(struct plans *plans)
{
    const struct tiny *t = plans->t;
    const uint32_t n_vocab = t->n_vocab ? t->n_vocab : TINY_VOCAB + t->n_words;
    const uint64_t pairs = wide_of(t) / HEADS / 2;

    add(plans, "token_embd.weight", MATRIX, t->head, embd_of(t), n_vocab);
    add(plans, "output_norm.weight", NORM, "F32", embd_of(t), 1);
    if (t->untied) {
        add(plans, "output.weight", MATRIX, t->head, embd_of(t), n_vocab);
    }
    for (unsigned layer = 0; layer < layers_of(t); layer++) {
        plan_layer(plans, layer);
    }
    if (t->factors) {
        add(plans, "rope_freqs.weight", SCALE, "F32", pairs, 1);
    }
    if (t->scaling && strcmp(t->scaling, "longrope") == 0) {
        add(plans, "rope_factors_long.weight", SCALE, "F32", pairs, 1);
        add(plans, "rope_factors_short.weight", SCALE, "F32", pairs, 1);
    }
    if (t->extra_tensor) {
        add(plans, t->extra_tensor, NORM, "F32", 4, 1);
    }
}

static float weight(enum kind kind, uint64_t seed, uint64_t i)
{
    const float x = tiny_random(seed << 32 | i);

    switch (kind) {
    case NORM:
        return 1.0f + 0.3f * x;
    case BIAS:
        return x;
    case SCALE:
        return 1.5f + x;
    case THRESHOLD:
        return 0.2f * x;
    default:
        return 0.15f * x;
    }
}

/* Blocks of zeros, for formats that only others encode. */
static bool write_zeros(struct gguf_writer *w, const struct plan *p)
{
    static const uint8_t zeros[4 * COLS_MAX];
    enum format f;

    if (!format_of_name(p->format, &f) || format_can_encode(f)) {
        return false;
    }
    for (uint64_t r = 0; r < p->n_rows; r++) {
        assert_int_equal(gguf_writer_raw(w, zeros, 1), 0);
    }
    return true;
}

static void write_tensor(struct gguf_writer *w, const struct plan *p, uint64_t seed)
{
    float row[COLS_MAX], most = 0;

    if (write_zeros(w, p)) {
        return;
    }
    for (uint64_t i = 0; i < p->n_rows * p->n_cols; i++) {
        const float x = weight(p->kind, seed, i);
        most = x > most ? x : -x > most ? -x : most;
    }
    if (strcmp(p->format, "I2_S") == 0) {
        assert_int_equal(gguf_writer_scale(w, most), 0);
    }
    for (uint64_t r = 0; r < p->n_rows; r++) {
        for (uint64_t c = 0; c < p->n_cols; c++) {
            row[c] = weight(p->kind, seed, r * p->n_cols + c);
        }
        assert_int_equal(gguf_writer_rows(w, row, 1), 0);
    }
}

int tiny_write(const struct tiny *t)
{
    const int fd = memfd_create("tiny", MFD_CLOEXEC);
    struct gguf_writer *w = NULL;
    struct plans plans = {.t = t};

    assert_true(fd >= 0);
    assert_int_equal(gguf_writer_new(&w), 0);
    put_shape(w, t);
    put_vocab(w, t->n_words);
    plan_file(&plans);
    for (size_t i = 0; i < plans.n; i++) {
        const struct plan *p = &plans.p[i];
        assert_int_equal(
            gguf_put_tensor(w, p->name, p->format, p->n_cols, p->n_rows, p->kind != MATRIX), 0);
    }
    assert_int_equal(gguf_writer_begin(w, fd), 0);
    for (size_t i = 0; i < plans.n; i++) {
        write_tensor(w, &plans.p[i], i + 1);
    }
    assert_int_equal(gguf_writer_end(w), 0);
    gguf_writer_free(w);
    return fd;
}

struct model *tiny_open(const struct tiny *t)
{
    const int fd = tiny_write(t);
    struct model *m = NULL;
    struct diag d = {0};

    const int r = model_open_gguf(&m, fd, NULL, &d);
    if (r != MODEL_OK) {
        fail_msg("%s", d.text);
    }
    (void)close(fd);
    return m;
}
