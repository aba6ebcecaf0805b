/* What the tensors of a model are for: their names in a file and the dimensions that a shape gives
 * them. */
#ifndef ENGINE_ROLE_H
#define ENGINE_ROLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

struct shape;

enum role {
    ROLE_EMBD = 0,
    ROLE_OUTPUT_NORM,
    ROLE_OUTPUT,    /* absent when the head is the embedding */
    ROLE_ATTN_NORM, /* from here on: one per layer */
    ROLE_Q,
    ROLE_K,
    ROLE_V,
    ROLE_O,
    ROLE_Q_BIAS,
    ROLE_K_BIAS,
    ROLE_V_BIAS,
    ROLE_Q_NORM,
    ROLE_K_NORM,
    ROLE_ATTN_SUB_NORM,
    ROLE_FFN_NORM,
    ROLE_GATE,
    ROLE_UP,
    ROLE_DOWN,
    ROLE_FFN_SUB_NORM,
    ROLE_ATTN_THRESHOLD, /* of the input of q, k and v, where signs go into products */
    ROLE_O_THRESHOLD,
    ROLE_FFN_THRESHOLD, /* of gate and up */
    ROLE_DOWN_THRESHOLD,
    ROLES,
};

#define ROLES_GLOBAL ((size_t)ROLE_ATTN_NORM)
#define ROLES_LAYER ((size_t)(ROLES - ROLE_ATTN_NORM))
#define ROLE_NAME_BYTES 64u

/** role_name() - GGUF's tensor name, without "blk.N." for the roles of a layer. Static. */
const char *role_name(enum role r);

/** role_full_name() - with "blk.N." before it where the role is one of a layer */
void role_full_name(enum role r, size_t layer, char ret[ROLE_NAME_BYTES]);

/** role_scale_name() - of the number that may stand beside a matrix: "blk.N.attn_q.scale" */
void role_scale_name(enum role r, size_t layer, char ret[ROLE_NAME_BYTES]);

/** role_is_threshold() - one of the four */
bool role_is_threshold(enum role r);

/** role_is_vector() - a norm, a bias or a threshold, kept as floats, as opposed to a matrix */
bool role_is_vector(enum role r);

/** role_dims() - the dimensions this shape wants; false when its graph has no such tensor */
MUST_USE bool role_dims(const struct shape *s, enum role r, uint64_t *ret_cols, uint64_t *ret_rows);

/** role_of_name() - the role that a tensor's name has in this shape's graph, whatever its layer, or
 * the number beside one; false when it has none */
MUST_USE bool role_of_name(const struct shape *s, const char *name, enum role *ret);

#endif
