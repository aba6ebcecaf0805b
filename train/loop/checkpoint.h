/* A training on disk: all it takes to go on as if it had never stopped.
 *
 * The file, little-endian, in units of 8 bytes:
 *
 *     "ONEBITCK"
 *     u64 version (1), u64 bytes of a struct recipe
 *     the recipe, member by member: u64 or double
 *     u64 steps done, rows taken, tokens seen; double seconds spent
 *     u64 n, n bytes: the vocabulary, a GGUF file; zeros up to a multiple of 8
 *     u64 n, three times n floats: parameters, moving means of gradients and of their squares
 *     u64 n, n floats: the net's state
 *     zeros up to a multiple of 8
 *     u64 checksum of all before: h = rotate_left(h ^ word, 29) * 0x9e3779b97f4a7c15, from 0
 *
 * The data are not in it: their hash is. */
#ifndef TRAIN_LOOP_CHECKPOINT_H
#define TRAIN_LOOP_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "train/loop/recipe.h"

#define CHECKPOINT_VERSION 1u
#define CHECKPOINT_BYTES_MAX ((uint64_t)1 << 36)

/* What is written, and what reading gives: borrowed from the file's map there. */
struct checkpoint {
    struct recipe recipe;
    struct progress_at at;
    const uint8_t *vocabulary; /* (n_vocabulary) */
    size_t n_vocabulary;
    const float *params, *m, *v; /* (n_params) */
    size_t n_params;
    const float *state; /* (n_state) */
    size_t n_state;
};

/** checkpoint_write() - to fd, from its beginning; not synced. 0 or a negative errno */
MUST_USE int checkpoint_write(int fd, const struct checkpoint *c);

enum { CHECKPOINT_OK = 0, CHECKPOINT_MALFORMED, CHECKPOINT_UNSUPPORTED };

/**
 * checkpoint_parse() - check a file whole
 * @data: n bytes, 8-byte aligned, borrowed for as long as ret is used
 *
 * That the numbers of parameters and of state fit the recipe is for who makes the net to check.
 * Return: CHECKPOINT_OK; CHECKPOINT_MALFORMED; CHECKPOINT_UNSUPPORTED: of another version; diag
 * says what.
 */
MUST_USE int checkpoint_parse(struct checkpoint *ret, const void *data, size_t n,
                              struct diag *ret_diag);

#endif
