/* Attention: q, k and v of a step's rows in, each head's mix of values out. */
#ifndef ENGINE_ATTENTION_H
#define ENGINE_ATTENTION_H

#include <stddef.h>

#include "engine/step.h"

/**
 * attention_run() - one layer's attention for every row of the step
 *
 * Reads st->q, st->k, st->v; norms (where the family does) and rotates q and k, puts k and v into
 * the rows' sequences, and leaves softmax(q k / sqrt(head_dim)) v in st->att. Query head i reads KV
 * head i / (n_head / n_head_kv) (grouped-query attention, arXiv 2305.13245).
 */
void attention_run(struct stepper *st, const struct layer *l, size_t layer_i);

#endif
