/* The model families this engine runs, as one table of differences.
 *
 * All of them are the decoder that engine/graph.c spells out; a row of the table says where a
 * family departs from it. docs/decisions/005-one-table-of-differences.md argues for the table.
 * Sources: llama arXiv 2302.13971, qwen2 2407.10671, qwen3 2505.09388, bitnet 2310.11453 and
 * 2402.17764 (BitLinear), bitnet-b1.58 2504.12285 (the 2B4T report), minicpm 2404.06395. */
#ifndef ENGINE_ARCH_H
#define ENGINE_ARCH_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/strview.h"

enum arch {
    ARCH_LLAMA = 0,
    ARCH_QWEN3,
    ARCH_QWEN2,
    ARCH_BITNET,     /* 1bitLLM's models */
    ARCH_BITNET_158, /* Microsoft's BitNet b1.58 2B4T */
    ARCH_BITNET_25,  /* the same model in an earlier file */
    ARCH_MINICPM,
    ARCHES,
};

/* Which dimensions of a head turn together. */
enum rope_pairs {
    PAIRS_NEIGHBOURS = 0, /* 2i and 2i + 1: GGUF's NORM */
    PAIRS_HALVES,         /* i and i + n_rot / 2: GGUF's NEOX */
};

enum activation { ACTIVATION_SILU = 0, ACTIVATION_RELU2, ACTIVATIONS };

struct arch_info {
    const char *name; /* GGUF's general.architecture */
    enum rope_pairs pairs;
    enum activation activation;
    bool qk_norm;       /* RMS norm of each head of q and k, before rope */
    bool qkv_bias;      /* q, k and v are products plus a bias */
    bool sub_norms;     /* RMS norm before the products o and down */
    bool bitlinear;     /* ternary weights take activations with one scale per token */
    bool weight_scales; /* a matrix may have a number beside it that multiplies its product */
    bool stream_scales; /* embedding, residuals and logits are multiplied by numbers of the file */
};

/** arch_info() - static facts of a family */
const struct arch_info *arch_info(enum arch a);

/** arch_of_name() - false when this engine does not run it */
MUST_USE bool arch_of_name(struct strview name, enum arch *ret);

/** arch_names() - "llama, qwen3, ...": static, for messages */
const char *arch_names(void);

#endif
