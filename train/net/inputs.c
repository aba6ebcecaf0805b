/* What a layer's matrices are multiplied with: quantized as the activation mode says, and the
 * gradient's way back. */
#include <math.h>
#include <string.h>

#include "train/net/impl.h"
#include "train/net/tape.h"

#define MOVING 0.99 /* of the old deviation stays */
#define DEVIATION_TINY 1e-8

size_t input_width(const struct net *net, enum input in)
{
    return in == IN_O ? net->widths.q : in == IN_DOWN ? net->widths.ff : net->widths.embd;
}

/* Where a layer's input begins in the state. */
static size_t state_at(const struct net *net, uint32_t layer, enum input in)
{
    return net->states[(size_t)layer * INPUTS + in].at;
}

bool input_wants_x(const struct net *net)
{
    return net->modes.activations == NET_A_BINARY && net->modes.ste_activations != NET_STE_CLIP;
}

void input_quantize(const struct chunk *c, uint32_t layer, enum input in, size_t at,
                    const net_real *x, net_real *y)
{
    const struct net *net = c->net;
    const size_t n = input_width(net, in);

    if (net->modes.activations == NET_A_FLOAT) {
        if (y != x) {
            memcpy(y, x, n * sizeof(*y));
        }
        return;
    }
    const struct tape_row row = {.slot = (size_t)layer * INPUTS + in, .at = at, .n = n};
    tape_before(net, &row, x);
    if (net->modes.activations == NET_A_BINARY) {
        const size_t from = state_at(net, layer, in);
        if (c->back) {
            net->loops->stats(x, n, c->work->sum + from, c->work->squares + from);
        }
        net->loops->sign(x, net->thresholds + from, n, y);
    } else if (net->modes.block == 0) {
        net->loops->int8_token(x, n, y);
    } else {
        net->loops->int8(x, n, net->modes.block, y);
    }
    tape_after(net, &row, y);
}

void input_back(const struct chunk *c, uint32_t layer, enum input in, const net_real *x,
                net_real *g)
{
    const struct net *net = c->net;
    const size_t n = input_width(net, in);

    if (net->modes.activations != NET_A_BINARY) {
        return;
    }
    const net_real *t = net->thresholds + state_at(net, layer, in);
    switch (net->modes.ste_activations) {
    case NET_STE_HARD:
        net->loops->ste_hard(x, t, n, g);
        break;
    case NET_STE_CLIP:
        net->loops->ste_clip(n, g);
        break;
    case NET_STE_SMOOTH:
        net->loops->ste_smooth(x, t, n, net->modes.smooth_k, g);
        break;
    }
}

void inputs_move(struct net *net, size_t n_tokens)
{
    const unsigned n_threads = team_size(net->team);

    if (n_tokens == 0) {
        return;
    }
    for (size_t i = 0; i < net->state_size; i++) {
        double sum = 0, squares = 0;
        for (unsigned t = 0; t < n_threads; t++) {
            sum += net->works[t].state_sum[i];
            squares += net->works[t].state_squares[i];
            net->works[t].state_sum[i] = net->works[t].state_squares[i] = 0;
        }
        const double mean = sum / (double)n_tokens;
        const double variance = squares / (double)n_tokens - mean * mean;
        const double deviation = variance < 0 ? 0 : sqrt(variance);
        net->state[i] = (net_real)(MOVING * (double)net->state[i] +
                                   (1 - MOVING) * (deviation + DEVIATION_TINY));
    }
}
