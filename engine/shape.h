/* The shape of a model: what its file's keys say about the graph, checked. Everything else that a
 * reader needs about dimensions follows from here by pure functions. */
#ifndef ENGINE_SHAPE_H
#define ENGINE_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "engine/arch.h"
#include "engine/role.h"

struct gguf;

#define SHAPE_HEAD_DIM_MAX 1024u
#define SHAPE_HEADS_MAX 4096u
#define SHAPE_INV_FREQ_MAX 1024.0 /* keeps every angle in the domain of math_sincos() */

/* What the layers' matrices are multiplied with: the key onebit.activations. */
enum input_form {
    INPUTS_FORMAT = 0, /* what the format of each takes */
    INPUTS_INT8,       /* the same, and where that is floats, these quantized and widened again */
    INPUTS_BINARY,     /* signs, against thresholds of their own */
    INPUTS,
};

/* Stored in packed files as it is: fixed-width fields without gaps. */
struct shape {
    uint32_t arch; /* enum arch */
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim;
    uint32_t n_rot; /* rotated dimensions of a head; even, <= head_dim */
    uint32_t n_vocab;
    uint32_t n_ctx; /* positions the model was made for, at most MODEL_CTX_MAX */
    float eps;
    float rope_scale;     /* multiplies the rotated vectors (YaRN's attention factor) */
    uint32_t activation;  /* enum activation */
    float embd_scale;     /* multiplies the embedding; 1 in most families */
    float residual_scale; /* multiplies what a half of a layer adds to the stream */
    float logit_scale;    /* multiplies the logits */
    uint32_t n_ctx_file;  /* what the file says; n_ctx is what can be used of it */
    uint32_t inputs;      /* enum input_form */
};

/** inputs_name() - as the key has it; "" for INPUTS_FORMAT. Static. */
const char *inputs_name(enum input_form inputs);

/** shape_signs() - is this a matrix of a layer that is multiplied with signs? */
bool shape_signs(const struct shape *s, enum role role);

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
