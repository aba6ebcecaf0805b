/* The small model: two llama layers, all matrices Q8_0. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "tests/support/runner_model.h"

#define N_EMBD 64
#define N_FF 128
#define N_LAYER 2
#define N_HEAD 4
#define N_HEAD_KV 2
#define HEAD_DIM 16

static uint64_t lcg(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* The letter that stands for a byte in GPT-2's vocabularies, as UTF-8. */
static size_t byte_letter(unsigned byte, char *ret)
{
    unsigned letter = byte, next = 256;

    for (unsigned b = 0; b <= byte; b++) {
        const bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        letter = plain ? b : next++;
    }
    if (letter < 128) {
        ret[0] = (char)letter;
        return 1;
    }
    ret[0] = (char)(0xc0 | letter >> 6);
    ret[1] = (char)(0x80 | (letter & 63));
    return 2;
}

static void put_vocabulary(struct gguf_writer *w, unsigned flags)
{
    static const char *const control[] = {"<|im_start|>", "<|im_end|>", "<|endoftext|>"};
    static const char chatml[] = "{% for m in messages %}{{'<|im_start|>' + m.role + '\n' + "
                                 "m.content + '<|im_end|>' + '\n'}}{% endfor %}";
    static const char odd[] = "{% for m in messages %}{{'<|im_start|>' + m.content}}{% endfor %}";
    static char letters[256][2];
    struct strview tokens[RUNNER_MODEL_VOCAB];
    const struct strview merges[] = {strview_of("t h"), strview_of("o n")};
    int32_t types[RUNNER_MODEL_VOCAB];

    for (unsigned i = 0; i < 256; i++) {
        tokens[i] = (struct strview){.data = letters[i], .n = byte_letter(i, letters[i])};
        types[i] = 1;
    }
    tokens[256] = strview_of("th");
    tokens[257] = strview_of("on");
    types[256] = types[257] = 1;
    for (unsigned i = 0; i < 3; i++) {
        tokens[258 + i] = strview_of(control[i]);
        types[258 + i] = 3;
    }
    assert_int_equal(gguf_put_str(w, "tokenizer.ggml.model", strview_of("gpt2")), 0);
    assert_int_equal(gguf_put_str(w, "tokenizer.ggml.pre", strview_of("gpt-2")), 0);
    assert_int_equal(gguf_put_str_array(w, "tokenizer.ggml.tokens", tokens, RUNNER_MODEL_VOCAB), 0);
    assert_int_equal(gguf_put_i32_array(w, "tokenizer.ggml.token_type", types, RUNNER_MODEL_VOCAB),
                     0);
    assert_int_equal(gguf_put_str_array(w, "tokenizer.ggml.merges", merges, ARRAY_SIZE(merges)), 0);
    assert_int_equal(gguf_put_u32(w, "tokenizer.ggml.eos_token_id", RUNNER_MODEL_END), 0);
    if (!(flags & RUNNER_MODEL_NO_TEMPLATE)) {
        assert_int_equal(gguf_put_str(w, "tokenizer.chat_template",
                                      strview_of(flags & RUNNER_MODEL_ODD_TEMPLATE ? odd : chatml)),
                         0);
    }
}

static void put_keys(struct gguf_writer *w)
{
    assert_int_equal(gguf_put_str(w, "general.architecture", strview_of("llama")), 0);
    assert_int_equal(gguf_put_str(w, "general.name", strview_of("small")), 0);
    assert_int_equal(gguf_put_u32(w, "llama.block_count", N_LAYER), 0);
    assert_int_equal(gguf_put_u32(w, "llama.context_length", RUNNER_MODEL_CTX), 0);
    assert_int_equal(gguf_put_u32(w, "llama.embedding_length", N_EMBD), 0);
    assert_int_equal(gguf_put_u32(w, "llama.feed_forward_length", N_FF), 0);
    assert_int_equal(gguf_put_u32(w, "llama.attention.head_count", N_HEAD), 0);
    assert_int_equal(gguf_put_u32(w, "llama.attention.head_count_kv", N_HEAD_KV), 0);
    assert_int_equal(gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f), 0);
    assert_int_equal(gguf_put_u32(w, "llama.rope.dimension_count", HEAD_DIM), 0);
}

struct tensor {
    char name[64];
    uint64_t n_cols, n_rows;
    bool norm;
};

static size_t list_tensors(struct tensor *ret)
{
    static const struct {
        const char *name;
        unsigned cols, rows;
        bool norm;
    } layer[] = {
        {"attn_norm", N_EMBD, 1, true},
        {"attn_q", N_EMBD, N_HEAD * HEAD_DIM, false},
        {"attn_k", N_EMBD, N_HEAD_KV * HEAD_DIM, false},
        {"attn_v", N_EMBD, N_HEAD_KV * HEAD_DIM, false},
        {"attn_output", N_HEAD * HEAD_DIM, N_EMBD, false},
        {"ffn_norm", N_EMBD, 1, true},
        {"ffn_gate", N_EMBD, N_FF, false},
        {"ffn_up", N_EMBD, N_FF, false},
        {"ffn_down", N_FF, N_EMBD, false},
    };
    size_t n = 0;

    ret[n++] = (struct tensor){"token_embd.weight", N_EMBD, RUNNER_MODEL_VOCAB, false};
    for (unsigned l = 0; l < N_LAYER; l++) {
        for (size_t i = 0; i < ARRAY_SIZE(layer); i++) {
            struct tensor *t = &ret[n++];
            *t = (struct tensor){
                .n_cols = layer[i].cols, .n_rows = layer[i].rows, .norm = layer[i].norm};
            (void)snprintf(t->name, sizeof(t->name), "blk.%u.%s.weight", l, layer[i].name);
        }
    }
    ret[n++] = (struct tensor){"output_norm.weight", N_EMBD, 1, true};
    ret[n++] = (struct tensor){"output.weight", N_EMBD, RUNNER_MODEL_VOCAB, false};
    return n;
}

static void write_tensor(struct gguf_writer *w, const struct tensor *t, unsigned flags,
                         uint64_t *state)
{
    const bool broken = (flags & RUNNER_MODEL_NAN) && strcmp(t->name, "output_norm.weight") == 0;
    float row[N_FF];

    for (uint64_t r = 0; r < t->n_rows; r++) {
        for (uint64_t c = 0; c < t->n_cols; c++) {
            const float x = (float)lcg(state) / 2147483648.0f - 0.5f;
            row[c] = broken ? 3e38f : t->norm ? 1.0f + 0.1f * x : 0.7f * x;
        }
        assert_int_equal(gguf_writer_rows(w, row, 1), 0);
    }
}

int runner_model_gguf(unsigned flags)
{
    struct tensor tensors[2 + 9 * N_LAYER + 1];
    struct gguf_writer *w = NULL;
    uint64_t state = 42;
    const size_t n = list_tensors(tensors);
    const int fd = memfd_create("model.gguf", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(gguf_writer_new(&w), 0);
    put_keys(w);
    put_vocabulary(w, flags);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(gguf_put_tensor(w, tensors[i].name, tensors[i].norm ? "F32" : "Q8_0",
                                         tensors[i].n_cols, tensors[i].n_rows, tensors[i].norm),
                         0);
    }
    assert_int_equal(gguf_writer_begin(w, fd), 0);
    for (size_t i = 0; i < n; i++) {
        write_tensor(w, &tensors[i], flags, &state);
    }
    assert_int_equal(gguf_writer_end(w), 0);
    gguf_writer_free(w);
    return fd;
}

int runner_model_packed(unsigned flags)
{
    const struct model_limits limits = {0};
    const int in = runner_model_gguf(flags);
    const int out = memfd_create("model.pack", MFD_CLOEXEC);
    struct diag diag = {0};

    assert_true(out >= 0);
    const int r = model_pack(in, out, &limits, &diag);
    if (r != MODEL_OK) {
        fail_msg("the small model cannot be packed: %d %s", r, diag.text);
    }
    (void)close(in);
    return out;
}
