/* For gradient checks: quantizers held still.
 *
 * A straight-through estimator Q with the stand-in f claims that Q(x) has the slope of f. That is
 * the true gradient of f(x) + (Q(x0) - f(x0)): at x0 the quantizer's own value, and around it the
 * stand-in. A tape records the constants at x0 and gives them back in later passes, so that finite
 * differences of the whole net, at the very numbers of its quantized pass, must equal the gradients
 * of net_step(). Scales that f needs are those of x0, and where f has a kink, at |x - t| = 1, its
 * piece is that of x0. One thread, one chunk, no random rounding;
 * with NET_STE_CLIP no gradient may be greater than 1. */
#ifndef TRAIN_NET_TAPE_H
#define TRAIN_NET_TAPE_H

#include "train/net/impl.h"

enum tape_mode { TAPE_RECORD, TAPE_REPLAY };

struct tape {
    enum tape_mode mode;
    size_t tokens;    /* there is room for */
    net_real *x0;     /* owned; (net size): the weights, */
    net_real *q0;     /* owned; what the quantizers make of them, */
    net_real *offset; /* owned; and how far that is from their stand-ins */
    net_real *scale;  /* owned; with these scales */
    /* owned; for slot i (tokens, width); the slots are all layers' inputs, and the head's */
    net_real **inputs;
    net_real **args; /* owned; alike: x0 - t of binary inputs */
    net_real *now;   /* owned; (NET_WIDTH_MAX): the stand-in of the row that is being quantized */
};

/** tape_new() - begin to record; the net owns it. 0 or -ENOMEM. For tests: no program has a
 * tape. */
MUST_USE int tape_new(struct net *net, size_t tokens);
void tape_free(struct tape *tape, const struct net *net);

struct tape_row {
    size_t slot, at, n; /* at: the token; n: numbers */
};

void tape_before_slow(const struct net *net, const struct tape_row *row, const net_real *x);
void tape_after_slow(const struct net *net, const struct tape_row *row, net_real *y);
void tape_weights_slow(struct net *net);

/** tape_before(), tape_after() - around a quantizer of inputs: x may be overwritten in between */
static inline void tape_before(const struct net *net, const struct tape_row *row, const net_real *x)
{
    if (net->tape) {
        tape_before_slow(net, row, x);
    }
}

static inline void tape_after(const struct net *net, const struct tape_row *row, net_real *y)
{
    if (net->tape) {
        tape_after_slow(net, row, y);
    }
}

/** tape_weights() - after the weights were quantized */
static inline void tape_weights(struct net *net)
{
    if (net->tape) {
        tape_weights_slow(net);
    }
}

#endif
