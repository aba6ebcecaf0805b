/* A trained net as a GGUF file that the engine runs with the net's own numbers. */
#ifndef TRAIN_LOOP_EXPORT_H
#define TRAIN_LOOP_EXPORT_H

#include "base/compiler.h"
#include "base/diag.h"
#include "train/loop/recipe.h"

struct net;
struct vocabulary;

/* What the file says of itself; borrowed. NULL: nothing. */
struct export_card {
    const char *name, *description, *license;
};

/**
 * export_gguf() - write the net to fd, an empty file; synced on success
 * @vocabulary: whose keys go over as they are
 *
 * Graph qwen3. Matrices in recipe_matrix_format(), the embedding, which is the head too, in
 * recipe_head_format(), norms in F32. Keys of our own: onebit.activations ("binary" or "int8": how
 * the inputs of the layers' matrices are rounded, where the weights' format does not say it), the
 * vectors blk.N.*.threshold (float per channel, what a binary activation is compared with), and
 * onebit.train.* (weights, activations, seed, steps, tokens, data: as text).
 * Return: 0 or a negative errno; -EDOM: a parameter is no number.
 */
MUST_USE int export_gguf(struct net *net, const struct recipe *recipe, const struct progress_at *at,
                         const struct vocabulary *vocabulary, const struct export_card *card,
                         int fd);

#endif
