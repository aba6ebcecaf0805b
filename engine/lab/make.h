/* The parts of `make`: shapes, a synthetic vocabulary, random weights. */
#ifndef ENGINE_LAB_MAKE_H
#define ENGINE_LAB_MAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/engine.h"

struct shape {
    const char *name, *arch;
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ctx;
    float rope_base, rms_eps;
    bool tied; /* the head is the embedding */
};

/** shape_find() - NULL for an unknown name */
const struct shape *shape_find(const char *name);

/** shape_names() - the known ones, for a message */
const char *shape_names(void);

/**
 * shape_write() - a whole model file
 * @fd:     empty and writable; synced on success
 * @format: of the layers' matrices; @head of embedding and head
 *
 * The bytes are a function of shape, formats and seed alone. Memory is bounded by one block of rows
 * and the vocabulary.
 * Return: 0 or a negative errno; -EINVAL: a format that is unknown or does not fit the shape's rows.
 */
MUST_USE int shape_write(const struct shape *shape, const char *format, const char *head,
                         uint64_t seed, int fd);

/** make_vocab() - announce a byte-level vocabulary of n tokens (n >= MAKE_VOCAB_MIN) */
#define MAKE_VOCAB_MIN 320u
MUST_USE int make_vocab(struct gguf_writer *w, uint32_t n, const char *pre);

/**
 * make_weights() - write the tensor whose turn it is with random weights
 * @std: their standard deviation
 */
MUST_USE int make_weights(struct gguf_writer *w, const char *format, uint64_t n_cols,
                          uint64_t n_rows, double std, uint64_t seed);

/** make_ones() - write the F32 vector whose turn it is: n values near 1 */
MUST_USE int make_ones(struct gguf_writer *w, uint64_t n, uint64_t seed);

#endif
