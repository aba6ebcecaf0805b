/* Rotary position embedding (RoFormer, arXiv 2104.09864): the angles of a model's file. Plain;
 * linear scaling; Llama 3's divisors (rope_freqs.weight); YaRN with its attention factor (arXiv
 * 2309.00071); longrope's short factors. */
#ifndef ENGINE_ROPE_H
#define ENGINE_ROPE_H

#include "base/compiler.h"

struct keys;
struct shape;

/**
 * rope_read() - n_rot and rope_scale of a shape whose heads are read, and the frequencies
 * @ret_inv_freq: on MODEL_OK, malloc'ed (n_rot / 2) radians per position, the caller frees
 *
 * longrope has one set of divisors up to the original context and another beyond it. Numbers here
 * must not depend on how long a sequence may become, so s->n_ctx is cut to the original context and
 * the short set used.
 * Return: MODEL_OK, MODEL_MALFORMED, MODEL_UNSUPPORTED or -ENOMEM.
 */
MUST_USE int rope_read(struct keys *k, struct shape *s, double **ret_inv_freq);

#endif
