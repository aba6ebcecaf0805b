/* Quantizers held still: tape.h. Plain loops; nothing here is for speed. */
#include "train/net/tape.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

int tape_new(struct net *net, size_t tokens)
{
    const size_t n_slots = (size_t)net->shape.n_layer * INPUTS + 1;
    struct tape *t = calloc(1, sizeof(*t));

    if (!t) {
        return -ENOMEM;
    }
    tape_free(net->tape, net);
    net->tape = t;
    t->tokens = tokens;
    t->x0 = calloc(net->size, sizeof(*t->x0));
    t->q0 = calloc(net->size, sizeof(*t->q0));
    t->offset = calloc(net->size, sizeof(*t->offset));
    t->scale = calloc(net->size, sizeof(*t->scale));
    t->now = calloc(NET_WIDTH_MAX, sizeof(*t->now));
    t->inputs = calloc(n_slots, sizeof(*t->inputs));
    t->args = calloc(n_slots, sizeof(*t->args));
    if (!t->args || !t->x0 || !t->q0 || !t->offset || !t->scale || !t->now || !t->inputs) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n_slots; i++) {
        const size_t width = i + 1 < n_slots ? input_width(net, i % INPUTS) : net->widths.embd;
        t->inputs[i] = calloc(tokens * width, sizeof(*t->inputs[i]));
        t->args[i] = calloc(tokens * width, sizeof(*t->args[i]));
        if (!t->inputs[i] || !t->args[i]) {
            return -ENOMEM;
        }
    }
    return 0;
}

void tape_free(struct tape *t, const struct net *net)
{
    if (!t) {
        return;
    }
    for (size_t i = 0; i < (size_t)net->shape.n_layer * INPUTS + 1; i++) {
        if (t->inputs) {
            free(t->inputs[i]);
        }
        if (t->args) {
            free(t->args[i]);
        }
    }
    free(t->args);
    free(t->inputs);
    free(t->now);
    free(t->scale);
    free(t->offset);
    free(t->q0);
    free(t->x0);
    free(t);
}

/* ---- the stand-ins ---- */

static double stand_in(enum net_ste ste, double k, double x)
{
    switch (ste) {
    case NET_STE_HARD:
        return x > 1 ? 1 : x < -1 ? -1 : x;
    case NET_STE_SMOOTH:
        return tanh(k * x);
    case NET_STE_CLIP:
        break;
    }
    return x;
}

static double weight_stand_in(const struct net *net, double w, double s)
{
    const struct net_modes *m = &net->modes;
    const double k = (double)m->smooth_k, u = w / s;

    if (m->ste_weights != NET_STE_SMOOTH) {
        return stand_in(m->ste_weights, k, w);
    }
    return m->weights == NET_W_BINARY ? s * tanh(k * u)
                                      : s / 2 * (tanh(2 * k * (u - 0.5)) + tanh(2 * k * (u + 0.5)));
}

/* ---- inputs ---- */

/* The stand-in of a binary input x - t, on the piece that x0 - t lies on. */
static double piece(const struct net_modes *m, double x, double x0)
{
    if (m->ste_activations == NET_STE_HARD) {
        return fabs(x0) <= 1 ? x : stand_in(NET_STE_HARD, 1, x0);
    }
    return stand_in(m->ste_activations, (double)m->smooth_k, x);
}

void tape_before_slow(const struct net *net, const struct tape_row *row, const net_real *x)
{
    const struct net_modes *m = &net->modes;
    const struct tape *tape = net->tape;
    const bool head = row->slot == (size_t)net->shape.n_layer * INPUTS;
    net_real *args = tape->args[row->slot] + row->at * row->n;

    for (size_t i = 0; i < row->n; i++) {
        tape->now[i] = x[i];
        if (!head && m->activations == NET_A_BINARY) {
            const net_real arg = x[i] - net->thresholds[net->states[row->slot].at + i];
            if (tape->mode == TAPE_RECORD) {
                args[i] = arg;
            }
            tape->now[i] = (net_real)piece(m, (double)arg, (double)args[i]);
        }
    }
}

void tape_after_slow(const struct net *net, const struct tape_row *row, net_real *y)
{
    const struct tape *t = net->tape;
    net_real *offset = t->inputs[row->slot] + row->at * row->n;

    for (size_t i = 0; i < row->n; i++) {
        if (t->mode == TAPE_RECORD) {
            offset[i] = y[i] - t->now[i];
        } else {
            y[i] = t->now[i] + offset[i];
        }
    }
}

/* ---- weights ---- */

static void record_weight(struct net *net, const struct net_tensor *t, const net_real *scales,
                          size_t j)
{
    const size_t group = net->modes.weights == NET_W_BINARY ? (j - t->at) / GROUP : 0;
    struct tape *tape = net->tape;
    double f = (double)net->params[j];

    if (t->kind == NET_MATRIX) {
        tape->scale[j] = scales[group];
        f = weight_stand_in(net, f, (double)tape->scale[j]);
    }
    tape->x0[j] = net->params[j];
    tape->q0[j] = net->seen[j];
    tape->offset[j] = net->seen[j] - (net_real)f;
}

static void replay_weight(struct net *net, const struct net_tensor *t, size_t j)
{
    const struct tape *tape = net->tape;
    const double w = (double)net->params[j];

    if (net->params[j] == tape->x0[j]) { /* most of them, in a difference */
        net->seen[j] = tape->q0[j];
    } else if (t->kind == NET_MATRIX) {
        net->seen[j] = (net_real)weight_stand_in(net, w, (double)tape->scale[j]) + tape->offset[j];
    } else {
        net->seen[j] = net->params[j] + tape->offset[j];
    }
}

void tape_weights_slow(struct net *net)
{
    for (size_t i = 0; i < net->n_tensors; i++) {
        const struct net_tensor *t = &net->tensors[i];
        for (size_t j = t->at; j < t->at + (size_t)t->rows * t->cols; j++) {
            if (net->tape->mode == TAPE_RECORD) {
                record_weight(net, t, net->scales + net->scale_at[i], j);
            } else {
                replay_weight(net, t, j);
            }
        }
    }
}
