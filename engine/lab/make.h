/* The parts of `make`: shapes, a synthetic vocabulary, random weights. */
#ifndef ENGINE_LAB_MAKE_H
#define ENGINE_LAB_MAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/engine.h"

/* What the files of an architecture have beside the keys and tensors that all have. */
struct family {
    const char *arch;
    const char *pre;   /* tokenizer.ggml.pre; NULL: the published files have none */
    bool qk_norms;     /* attn_q_norm, attn_k_norm */
    bool biases;       /* of q, k and v */
    bool sub_norms;    /* attn_sub_norm, ffn_sub_norm */
    bool matrix_scale; /* a float beside every matrix of a layer, which then holds -1, 0 and +1 */
    bool mup;          /* scales of embedding, residual stream and logits */
};

struct shape {
    const char *name;
    const struct family *family;
    const struct family *family_i2; /* in I2_S and IQ2_BN, where that is another; or NULL */
    const char *head; /* format of embedding and head unless asked otherwise; NULL: the layers' */
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ctx;
    uint32_t n_ctx_old; /* YaRN: the context that was stretched to n_ctx; 0: plain positions */
    float rope_base, rms_eps;
    bool tied; /* the head is the embedding */
};

/** shape_find() - NULL for an unknown name */
const struct shape *shape_find(const char *name);

/** shape_at() - the i-th one; NULL past the last */
const struct shape *shape_at(size_t i);

/** shape_family() - the family of a shape in this format */
const struct family *shape_family(const struct shape *s, const char *format);

/** shape_misfit() - a row length, of the layers or of the head, that is no multiple of @block; 0:
 * none */
uint64_t shape_misfit(const struct shape *s, bool head, uint32_t block);

/* What a file is to be, besides its shape. */
struct make_as {
    const char *format;      /* of the layers' matrices */
    const char *head;        /* of embedding and head */
    const char *activations; /* of the layers' products: "binary", "int8"; NULL: the format's own */
    uint64_t seed;
};

/**
 * shape_write() - a whole model file
 * @fd: empty and writable; synced on success
 *
 * The bytes are a function of the other arguments alone. Memory is bounded by one block of rows
 * and the vocabulary.
 * Return: 0 or a negative errno; -EINVAL: a format that is unknown or does not fit the shape's
 * rows.
 */
MUST_USE int shape_write(const struct shape *shape, const struct make_as *as, int fd);

/** make_vocab() - announce a byte-level vocabulary of n tokens (n >= MAKE_VOCAB_MIN); @pre may be
 * NULL */
#define MAKE_VOCAB_MIN 320u
MUST_USE int make_vocab(struct gguf_writer *w, uint32_t n, const char *pre);

/** MAKE_TERNARY_STD - standard deviation of -1, 0 and +1 drawn evenly: sqrt(2/3) */
#define MAKE_TERNARY_STD 0.81649658092772603

/**
 * make_weights() - write the tensor whose turn it is with random weights
 * @std: their standard deviation; formats of three values have them at 0 and +/- std /
 *       MAKE_TERNARY_STD
 */
MUST_USE int make_weights(struct gguf_writer *w, const char *format, uint64_t n_cols,
                          uint64_t n_rows, double std, uint64_t seed);

/** make_vector() - write the F32 vector whose turn it is: n values drawn evenly from middle - reach
 * to middle + reach */
MUST_USE int make_vector(struct gguf_writer *w, uint64_t n, double middle, double reach,
                         uint64_t seed);

#endif
