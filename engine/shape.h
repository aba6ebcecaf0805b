/* The shape of a model: what its file's keys say about the graph, checked. Everything else that a
 * reader needs about dimensions follows from here by pure functions. */
#ifndef ENGINE_SHAPE_H
#define ENGINE_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"

struct gguf;

#define SHAPE_HEAD_DIM_MAX 1024u
#define SHAPE_HEADS_MAX 4096u
#define SHAPE_INV_FREQ_MAX 1024.0 /* keeps every angle in the domain of math_sincos() */

enum arch { ARCH_LLAMA = 0, ARCH_QWEN3, ARCHES };

/* Stored in packed files as it is: fixed-width fields without gaps. */
struct shape {
    uint32_t arch; /* enum arch */
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim;
    uint32_t n_rot; /* rotated dimensions of a head; even, <= head_dim */
    uint32_t n_vocab;
    uint32_t n_ctx; /* positions the model was made for, at most MODEL_CTX_MAX */
    float eps;
    float rope_scale; /* multiplies the rotated vectors (YaRN's attention factor) */
};

/* What a tensor is for. */
enum role {
    ROLE_EMBD = 0,
    ROLE_OUTPUT_NORM,
    ROLE_OUTPUT,    /* absent when the head is the embedding */
    ROLE_ATTN_NORM, /* from here on: one per layer */
    ROLE_Q,
    ROLE_K,
    ROLE_V,
    ROLE_O,
    ROLE_Q_NORM, /* qwen3 */
    ROLE_K_NORM,
    ROLE_FFN_NORM,
    ROLE_GATE,
    ROLE_UP,
    ROLE_DOWN,
    ROLES,
};

#define ROLES_GLOBAL ((size_t)ROLE_ATTN_NORM)
#define ROLES_LAYER ((size_t)(ROLES - ROLE_ATTN_NORM))

/** arch_name() - GGUF's name of an architecture. Static. */
const char *arch_name(enum arch a);

/** role_name() - GGUF's tensor name, without "blk.N." for the roles of a layer. Static. */
const char *role_name(enum role r);

/** role_is_norm() - a vector of floats, as opposed to a matrix */
bool role_is_norm(enum role r);

/** role_dims() - the dimensions this shape wants; false when it has no such tensor */
MUST_USE bool role_dims(const struct shape *s, enum role r, uint64_t *ret_cols, uint64_t *ret_rows);

/** shape_valid() - are all bounds kept? Also for shapes that come out of a packed file. */
bool shape_valid(const struct shape *s);

/**
 * shape_read() - read and check the keys of a GGUF file
 * @ret_inv_freq: on MODEL_OK, malloc'ed (n_rot / 2) radians per position, the caller frees
 *
 * Return: MODEL_OK, MODEL_MALFORMED, MODEL_UNSUPPORTED, MODEL_TOO_BIG or -ENOMEM.
 */
MUST_USE int shape_read(const struct gguf *g, struct shape *ret, double **ret_inv_freq,
                        struct diag *ret_diag);

#endif
