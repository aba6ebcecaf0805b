#include "tests/support/test.h"

#include "tests/unit/engine/tiny.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EMBD_MAX 256u
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

/* Embedding and feed-forward length: one block of the widest format in use, since tests run at every
 * level under every sanitizer. */
static uint32_t embd_of(const struct tiny *t)
{
    return strcmp(t->format, "TQ2_0") == 0 || strcmp(t->head, "TQ2_0") == 0 ? EMBD_MAX : 128;
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
    put_u32(w, t, "block_count", TINY_LAYERS);
    put_u32(w, t, "context_length", TINY_CTX);
    put_u32(w, t, "embedding_length", embd_of(t));
    put_u32(w, t, "feed_forward_length", embd_of(t));
    put_u32(w, t, "attention.head_count", HEADS);
    put_u32(w, t, "attention.head_count_kv", HEADS_KV);
    put_u32(w, t, "attention.key_length", embd_of(t) / HEADS);
    put_u32(w, t, "attention.value_length", embd_of(t) / HEADS);
    put_f32(w, t, "attention.layer_norm_rms_epsilon", 1e-5f);
    put_f32(w, t, "rope.freq_base", 10000.0f);
    if (t->scaling) {
        (void)snprintf(key, sizeof(key), "%s.rope.scaling.type", t->arch);
        assert_int_equal(gguf_put_str(w, key, strview_of(t->scaling)), 0);
        put_f32(w, t, "rope.scaling.factor", 4.0f);
        put_u32(w, t, "rope.scaling.original_context_length", 64);
    }
}

static void put_vocab(struct gguf_writer *w)
{
    static const char *const names[] = {"<unk>", "<s>", "</s>"};
    static const char *const words[] = {"\xe2\x96\x81on", "light", "a", "b", "ab"};
    struct strview tokens[TINY_VOCAB];
    float scores[TINY_VOCAB] = {0};
    int32_t types[TINY_VOCAB];
    char bytes[256][8];

    for (uint32_t i = 0; i < TINY_VOCAB; i++) {
        if (i < 3) {
            tokens[i] = strview_of(names[i]);
            types[i] = i == 0 ? 2 : 3;
        } else if (i < 259) {
            (void)snprintf(bytes[i - 3], sizeof(bytes[0]), "<0x%02X>", i - 3);
            tokens[i] = strview_of(bytes[i - 3]);
            types[i] = 6;
        } else {
            tokens[i] = strview_of(words[i - 259]);
            types[i] = 1;
            scores[i] = -(float)i;
        }
    }
    assert_int_equal(gguf_put_str(w, "tokenizer.ggml.model", strview_of("llama")), 0);
    assert_int_equal(gguf_put_str_array(w, "tokenizer.ggml.tokens", tokens, TINY_VOCAB), 0);
    assert_int_equal(gguf_put_f32_array(w, "tokenizer.ggml.scores", scores, TINY_VOCAB), 0);
    assert_int_equal(gguf_put_i32_array(w, "tokenizer.ggml.token_type", types, TINY_VOCAB), 0);
    assert_int_equal(gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1), 0);
    assert_int_equal(gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2), 0);
}

/* ---- tensors ---- */

struct plan {
    char name[64];
    const char *format;
    uint64_t n_cols, n_rows;
    bool norm;
};

static size_t add(const struct tiny *t, struct plan *p, size_t n, const char *name,
                  const char *format, uint64_t n_cols, uint64_t n_rows, bool norm)
{
    if (t->skip_tensor && strcmp(t->skip_tensor, name) == 0) {
        return n;
    }
    p[n] = (struct plan){.format = format, .n_cols = n_cols, .n_rows = n_rows, .norm = norm};
    (void)snprintf(p[n].name, sizeof(p[n].name), "%s", name);
    return n + 1;
}

static size_t plan_layer(const struct tiny *t, struct plan *p, size_t n, unsigned layer)
{
    const uint64_t embd = embd_of(t), head_dim = embd / HEADS, kv = HEADS_KV * head_dim;
    const struct {
        const char *name;
        uint64_t n_cols, n_rows;
        bool norm, qwen3;
    } parts[] = {
        {"attn_norm", embd, 1, true, false},      {"ffn_norm", embd, 1, true, false},
        {"attn_q_norm", head_dim, 1, true, true}, {"attn_k_norm", head_dim, 1, true, true},
        {"attn_q", embd, embd, false, false},     {"attn_k", embd, kv, false, false},
        {"attn_v", embd, kv, false, false},       {"attn_output", embd, embd, false, false},
        {"ffn_gate", embd, embd, false, false},   {"ffn_up", embd, embd, false, false},
        {"ffn_down", embd, embd, false, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, parts[i].name);
        if (!parts[i].qwen3 || strcmp(t->arch, "qwen3") == 0) {
            n = add(t, p, n, name, parts[i].norm ? "F32" : t->format, parts[i].n_cols,
                    parts[i].n_rows, parts[i].norm);
        }
    }
    return n;
}

static void write_tensor(struct gguf_writer *w, const struct plan *p, uint64_t seed)
{
    float row[EMBD_MAX];

    for (uint64_t r = 0; r < p->n_rows; r++) {
        for (uint64_t c = 0; c < p->n_cols; c++) {
            const float x = tiny_random(seed << 32 | (r * p->n_cols + c));
            row[c] = p->norm ? 1.0f + 0.3f * x : 0.15f * x;
        }
        assert_int_equal(gguf_writer_rows(w, row, 1), 0);
    }
}

int tiny_write(const struct tiny *t)
{
    const int fd = memfd_create("tiny", MFD_CLOEXEC);
    const uint32_t n_vocab = t->n_vocab ? t->n_vocab : TINY_VOCAB;
    struct gguf_writer *w = NULL;
    struct plan p[64];
    size_t n = 0;

    assert_true(fd >= 0);
    assert_int_equal(gguf_writer_new(&w), 0);
    put_shape(w, t);
    put_vocab(w);
    n = add(t, p, n, "token_embd.weight", t->head, embd_of(t), n_vocab, false);
    n = add(t, p, n, "output_norm.weight", "F32", embd_of(t), 1, true);
    if (t->untied) {
        n = add(t, p, n, "output.weight", t->head, embd_of(t), n_vocab, false);
    }
    for (unsigned layer = 0; layer < TINY_LAYERS; layer++) {
        n = plan_layer(t, p, n, layer);
    }
    if (t->extra_tensor) {
        n = add(t, p, n, t->extra_tensor, "F32", 4, 1, true);
    }
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(
            gguf_put_tensor(w, p[i].name, p[i].format, p[i].n_cols, p[i].n_rows, p[i].norm), 0);
    }
    assert_int_equal(gguf_writer_begin(w, fd), 0);
    for (size_t i = 0; i < n; i++) {
        write_tensor(w, &p[i], i + 1);
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
