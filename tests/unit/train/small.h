/* A small net and a batch for it, for the tests of train/net. */
#ifndef TESTS_UNIT_TRAIN_SMALL_H
#define TESTS_UNIT_TRAIN_SMALL_H

#include "train/net/net.h"

#define SMALL_ROWS 4
#define SMALL_TOKENS 33

struct small {
    uint32_t begin[SMALL_ROWS + 1];
    int32_t tokens[SMALL_TOKENS];
    float mask[SMALL_TOKENS];
    struct net_batch batch; /* borrows from the above */
};

/** small_shape() - two layers, two heads to one of keys; widths as the modes want them */
struct net_shape small_shape(const struct net_modes *modes);

/** small_batch() - rows of 9, 1, 16 and 7 tokens, of which some count, some by half */
void small_batch(struct small *ret, const struct net_shape *shape, uint64_t seed);

/** small_unit() - in -1 to 1, from a stream that the state is */
double small_unit(uint64_t *state);

/** small_net() - net_new() with parameters that tests like: norms that are not 1, and some weights
 * beyond what clipping lets pass. Fails the test when it fails. */
struct net *small_net(const struct net_shape *shape, const struct net_modes *modes,
                      unsigned n_threads);

/** small_zeros() - (net_size()) of nothing, for gradients; the caller frees */
net_real *small_zeros(const struct net *net);

/** small_each_mode() - call fn with each pair of modes */
void small_each_mode(void (*fn)(const struct net_modes *modes));

#endif
