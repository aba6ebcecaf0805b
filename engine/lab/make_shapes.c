/* The shapes that `make` knows: families of architectures, and models with their published
 * dimensions.
 *
 * Every row of the tiny ones is a whole number of blocks of every format. */
#include <string.h>

#include "engine/lab/make.h"

static const struct family llama = {.arch = "llama", .pre = "gpt-2"};
static const struct family qwen3 = {.arch = "qwen3", .pre = "qwen2", .qk_norms = true};
static const struct family qwen2 = {.arch = "qwen2", .pre = "qwen2", .biases = true};
static const struct family minicpm = {.arch = "minicpm", .pre = "gpt-2", .mup = true};
static const struct family bitnet = {
    .arch = "bitnet", .pre = "llama-bpe", .sub_norms = true, .matrix_scale = true};
static const struct family bitnet_158 = {
    .arch = "bitnet-b1.58", .pre = "llama-bpe", .sub_norms = true};
static const struct family bitnet_2b4t = {.arch = "bitnet-b1.58", .sub_norms = true};
static const struct family bitnet_25 = {.arch = "bitnet-25", .pre = "llama-bpe", .sub_norms = true};

#define TINY                                                                                       \
    .n_layer = 2, .n_embd = 256, .n_ff = 512, .n_head = 4, .n_head_kv = 2, .head_dim = 64,         \
    .n_vocab = 512, .n_ctx = 2048

static const struct shape shapes[] = {
    {.name = "tiny", .family = &qwen3, TINY, .rope_base = 1e6f, .rms_eps = 1e-6f, .tied = true},
    {.name = "tiny-llama", .family = &llama, TINY, .rope_base = 1e4f, .rms_eps = 1e-5f},
    {.name = "tiny-qwen2",
     .family = &qwen2,
     TINY,
     .rope_base = 1e6f,
     .rms_eps = 1e-6f,
     .tied = true},
    {.name = "tiny-minicpm",
     .family = &minicpm,
     TINY,
     .rope_base = 1e4f,
     .rms_eps = 1e-5f,
     .tied = true},
    {.name = "tiny-bitnet",
     .family = &bitnet,
     TINY,
     .rope_base = 1e4f,
     .rms_eps = 1e-5f,
     .tied = true},
    {.name = "tiny-bitnet158",
     .family = &bitnet_158,
     TINY,
     .rope_base = 5e5f,
     .rms_eps = 1e-5f,
     .tied = true},
    {.name = "tiny-bitnet25", .family = &bitnet_25, TINY, .rope_base = 5e5f, .rms_eps = 1e-5f},
    {.name = "llama-160m",
     .family = &llama,
     .n_layer = 12,
     .n_embd = 768,
     .n_ff = 3072,
     .n_head = 12,
     .n_head_kv = 12,
     .head_dim = 64,
     .n_vocab = 32000,
     .n_ctx = 2048,
     .rope_base = 1e4f,
     .rms_eps = 1e-6f},
    {.name = "bitnet-2b",
     .family = &bitnet,
     .family_i2 = &bitnet_2b4t,
     .head = "F16",
     .n_layer = 30,
     .n_embd = 2560,
     .n_ff = 6912,
     .n_head = 20,
     .n_head_kv = 5,
     .head_dim = 128,
     .n_vocab = 128256,
     .n_ctx = 4096,
     .rope_base = 5e5f,
     .rms_eps = 1e-5f,
     .tied = true},
    {.name = "bitnet-3b", /* 1bitLLM's: rows that blocks of 128 or 256 do not divide */
     .family = &bitnet,
     .n_layer = 26,
     .n_embd = 3200,
     .n_ff = 8640,
     .n_head = 32,
     .n_head_kv = 32,
     .head_dim = 100,
     .n_vocab = 32002,
     .n_ctx = 2048,
     .rope_base = 1e4f,
     .rms_eps = 1e-5f,
     .tied = true},
    {.name = "bonsai-1.7b",
     .family = &qwen3,
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
    {.name = "bonsai-4b",
     .family = &qwen3,
     .n_layer = 36,
     .n_embd = 2560,
     .n_ff = 9728,
     .n_head = 32,
     .n_head_kv = 8,
     .head_dim = 128,
     .n_vocab = 151669,
     .n_ctx = 32768,
     .rope_base = 1e6f,
     .rms_eps = 1e-6f,
     .tied = true},
    {.name = "bonsai-8b",
     .family = &qwen3,
     .n_layer = 36,
     .n_embd = 4096,
     .n_ff = 12288,
     .n_head = 32,
     .n_head_kv = 8,
     .head_dim = 128,
     .n_vocab = 151669,
     .n_ctx = 65536,
     .n_ctx_old = 16384,
     .rope_base = 1e6f,
     .rms_eps = 1e-6f},
};

const struct shape *shape_at(size_t i)
{
    return i < ARRAY_SIZE(shapes) ? &shapes[i] : NULL;
}

const struct shape *shape_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        if (strcmp(shapes[i].name, name) == 0) {
            return &shapes[i];
        }
    }
    return NULL;
}

const struct family *shape_family(const struct shape *s, const char *format)
{
    const bool i2 = strcmp(format, "I2_S") == 0 || strcmp(format, "IQ2_BN") == 0;

    return i2 && s->family_i2 ? s->family_i2 : s->family;
}

uint64_t shape_misfit(const struct shape *s, bool head, uint32_t block)
{
    const uint64_t lengths[] = {s->n_embd, (uint64_t)s->n_head * s->head_dim, s->n_ff};

    for (size_t i = 0; i < (head ? 1 : ARRAY_SIZE(lengths)); i++) {
        if (lengths[i] % block != 0) {
            return lengths[i];
        }
    }
    return 0;
}
