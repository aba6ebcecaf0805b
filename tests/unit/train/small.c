#include "tests/support/test.h"

#include <stdlib.h>

#include "tests/unit/train/small.h"

struct net_shape small_shape(const struct net_modes *m)
{
    const bool groups = m->weights == NET_W_BINARY;
    const uint32_t width = m->block == 256 ? 256 : groups ? 128 : 64;

    return (struct net_shape){
        .n_layer = 2,
        .n_embd = width,
        .n_ff = width == 64 ? 96 : width,
        .n_head = width / 32,
        .n_head_kv = width / 64,
        .head_dim = 32,
        .n_vocab = 37,
        .n_ctx = 16,
        .rope_base = 10000,
        .rms_eps = 1e-5f,
    };
}

double small_unit(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) * 0x1p-52 - 1;
}

void small_batch(struct small *s, const struct net_shape *shape, uint64_t seed)
{
    static const uint32_t begin[SMALL_ROWS + 1] = {0, 9, 10, 26, 33};
    static const float masks[] = {1, 0, 0.5f, 1};

    for (unsigned i = 0; i <= SMALL_ROWS; i++) {
        s->begin[i] = begin[i];
    }
    for (unsigned i = 0; i < SMALL_TOKENS; i++) {
        s->tokens[i] = (int32_t)((small_unit(&seed) + 1) / 2 * shape->n_vocab);
        s->mask[i] = masks[i % 4];
    }
    s->batch = (struct net_batch){.n_rows = SMALL_ROWS,
                                  .begin = s->begin,
                                  .tokens = s->tokens,
                                  .mask = s->mask,
                                  .scale = 0.05f};
}

struct net *small_net(const struct net_shape *shape, const struct net_modes *modes,
                      unsigned n_threads)
{
    struct net *net = NULL;
    uint64_t state = 7;

    assert_int_equal(net_new(&net, shape, modes, n_threads, 1), 0);
    for (size_t i = 0; i < net_count(net); i++) {
        const struct net_tensor *t = net_tensor(net, i);
        net_real *x = net_params(net) + t->at;
        for (size_t j = 0; j < (size_t)t->rows * t->cols; j++) {
            if (t->kind == NET_NORM) {
                x[j] = (net_real)(1 + 0.3 * small_unit(&state));
            } else if (t->kind == NET_EMBEDDING) {
                x[j] *= 2;
            } else if (j % 41 == 3) {
                x[j] = x[j] < 0 ? -1.25f : 1.25f;
            }
        }
    }
    for (size_t i = 0; i < net_state_size(net); i++) {
        net_state(net)[i] = (net_real)(0.8 + 0.5 * small_unit(&state));
    }
    return net;
}

void small_each_mode(void (*fn)(const struct net_modes *modes))
{
    for (int w = NET_W_FLOAT; w <= NET_W_BINARY; w++) {
        for (int a = NET_A_FLOAT; a <= NET_A_BINARY; a++) {
            fn(&(struct net_modes){.weights = (enum net_weights)w,
                                   .activations = (enum net_activations)a});
        }
    }
}

net_real *small_zeros(const struct net *net)
{
    net_real *ret = calloc(net_size(net), sizeof(*ret));

    assert_non_null(ret);
    return ret;
}
