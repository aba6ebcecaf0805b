/* A net's birth: its shape checked, its tensors listed, its parameters drawn. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/rng.h"
#include "train/net/gemm.h"
#include "train/net/impl.h"
#include "train/net/tape.h"

/* Standard deviations of the parameters at first, of a tensor with n columns EMBEDDING_SPREAD or
 * MATRIX_SPREAD / sqrt(n); those that end in the residual stream are smaller by sqrt(2 n_layer).
 * The embedding's matters most, since it is the head as well:
 * docs/training-step.md. */
#define EMBEDDING_SPREAD 1.4
#define MATRIX_SPREAD 0.6

/* ---- what is allowed ---- */

static bool within(uint32_t n, uint32_t max, uint32_t multiple)
{
    return n >= multiple && n <= max && n % multiple == 0;
}

static bool shape_sound(const struct net_shape *s, const struct net_modes *m)
{
    const uint32_t multiple = m->weights == NET_W_BINARY ? GROUP : 32;
    const uint64_t q = (uint64_t)s->n_head * s->head_dim;

    return within(s->n_layer, NET_LAYERS_MAX, 1) && within(s->n_embd, NET_WIDTH_MAX, multiple) &&
           within(s->n_ff, NET_WIDTH_MAX, multiple) && within(s->head_dim, NET_HEAD_DIM_MAX, 32) &&
           s->n_head <= NET_HEADS_MAX && q <= NET_WIDTH_MAX &&
           within((uint32_t)q, NET_WIDTH_MAX, multiple) && within(s->n_head_kv, s->n_head, 1) &&
           s->n_head % s->n_head_kv == 0 && within(s->n_vocab, NET_VOCAB_MAX, 1) &&
           within(s->n_ctx, NET_CTX_MAX, 1) && isfinite(s->rope_base) && s->rope_base > 0 &&
           isfinite(s->rms_eps) && s->rms_eps > 0;
}

/* Fills in defaults. */
static bool modes_sound(const struct net_shape *s, struct net_modes *m)
{
    const bool int8 = m->activations == NET_A_INT8, ternary = m->weights == NET_W_TERNARY;

    if (m->weights > NET_W_BINARY || m->activations > NET_A_BINARY || m->head > NET_H_FLOAT ||
        m->ste_weights > NET_STE_SMOOTH || m->ste_activations > NET_STE_SMOOTH ||
        !(m->smooth_k >= 0) || isinf(m->smooth_k)) {
        return false;
    }
    if (m->smooth_k == 0) {
        m->smooth_k = 1;
    }
    if (int8 && !ternary && m->block == 0) {
        m->block = 32;
    }
    if (m->block == 256) {
        const uint32_t q = s->n_head * s->head_dim;
        return int8 && ternary && s->n_embd % 256 == 0 && s->n_ff % 256 == 0 && q % 256 == 0;
    }
    return m->block == 0 || (m->block == 32 && int8);
}

/* ---- tensors ---- */

static void list(struct net *net, const char *name, uint32_t rows, uint32_t cols,
                 enum net_kind kind)
{
    const size_t i = net->n_tensors++;

    (void)snprintf(net->names[i], sizeof(net->names[i]), "%s", name);
    net->tensors[i] = (struct net_tensor){.name = net->names[i],
                                          .rows = rows,
                                          .cols = cols,
                                          .at = net->size,
                                          .kind = kind,
                                          .decay = kind != NET_NORM};
    net->size += (size_t)rows * cols;
}

static void list_layer(struct net *net, uint32_t layer)
{
    const struct widths *w = &net->widths;
    const uint32_t embd = (uint32_t)w->embd, ff = (uint32_t)w->ff, q = (uint32_t)w->q;
    const uint32_t kv = (uint32_t)w->kv, head = (uint32_t)w->head;
    const struct {
        const char *name;
        uint32_t rows, cols; /* no rows: a norm */
    } parts[PARTS] = {
        [ATTN_NORM] = {"attn_norm", 0, embd},     [ATTN_Q] = {"attn_q", q, embd},
        [ATTN_K] = {"attn_k", kv, embd},          [ATTN_V] = {"attn_v", kv, embd},
        [ATTN_Q_NORM] = {"attn_q_norm", 0, head}, [ATTN_K_NORM] = {"attn_k_norm", 0, head},
        [ATTN_OUTPUT] = {"attn_output", embd, q}, [FFN_NORM] = {"ffn_norm", 0, embd},
        [FFN_GATE] = {"ffn_gate", ff, embd},      [FFN_UP] = {"ffn_up", ff, embd},
        [FFN_DOWN] = {"ffn_down", embd, ff},
    };

    for (size_t p = 0; p < PARTS; p++) {
        char name[40];
        (void)snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, parts[p].name);
        list(net, name, parts[p].rows ? parts[p].rows : 1, parts[p].cols,
             parts[p].rows ? NET_MATRIX : NET_NORM);
    }
}

static void list_states(struct net *net)
{
    static const char *const names[INPUTS] = {
        [IN_QKV] = "attn_norm",
        [IN_O] = "attn_output",
        [IN_GATE_UP] = "ffn_norm",
        [IN_DOWN] = "ffn_down",
    };
    char(*name)[40] = net->names + net->n_tensors;

    for (uint32_t i = 0; i < net->shape.n_layer * INPUTS; i++, name++) {
        const size_t width = input_width(net, i % INPUTS);
        (void)snprintf(*name, sizeof(*name), "blk.%u.%s.threshold", i / INPUTS, names[i % INPUTS]);
        net->states[net->n_states++] = (struct net_tensor){.name = *name,
                                                           .rows = 1,
                                                           .cols = (uint32_t)width,
                                                           .at = net->state_size,
                                                           .kind = NET_DEVIATION};
        net->state_size += width;
    }
}

static int list_all(struct net *net)
{
    const struct net_shape *s = &net->shape;
    const size_t most = 2 + (size_t)s->n_layer * PARTS, states = (size_t)s->n_layer * INPUTS;

    net->widths = (struct widths){
        .embd = s->n_embd,
        .ff = s->n_ff,
        .q = (size_t)s->n_head * s->head_dim,
        .kv = (size_t)s->n_head_kv * s->head_dim,
        .qkv = (size_t)(s->n_head + 2 * s->n_head_kv) * s->head_dim,
        .head = s->head_dim,
        .half = s->head_dim / 2,
        .logits = ((size_t)s->n_vocab + 15) / 16 * 16,
    };
    net->tensors = calloc(most, sizeof(*net->tensors));
    net->states = calloc(states, sizeof(*net->states));
    net->names = calloc(most + states, sizeof(*net->names));
    if (!net->tensors || !net->states || !net->names) {
        return -ENOMEM;
    }
    list(net, "token_embd.weight", s->n_vocab, s->n_embd, NET_EMBEDDING);
    for (uint32_t l = 0; l < s->n_layer; l++) {
        list_layer(net, l);
    }
    list(net, "output_norm.weight", 1, s->n_embd, NET_NORM);
    if (net->modes.activations == NET_A_BINARY) {
        list_states(net);
    }
    return 0;
}

static void unlist(struct net *net)
{
    free(net->names);
    free(net->states);
    free(net->tensors);
}

int net_measure(const struct net_shape *shape, const struct net_modes *modes, size_t *ret_size,
                size_t *ret_state_size)
{
    struct net lists = {.shape = *shape, .modes = *modes}; /* and nothing that is listed */

    if (!shape_sound(shape, modes) || !modes_sound(shape, &lists.modes)) {
        return -EINVAL;
    }
    const int r = list_all(&lists);
    if (r == 0) {
        *ret_size = lists.size;
        *ret_state_size = lists.state_size;
    }
    unlist(&lists);
    return r;
}

/* ---- numbers ---- */

static double random_unit(struct rng *rng) /* in (0, 1) */
{
    return ((double)(rng_next(rng) >> 12) + 0.5) * 0x1p-52;
}

/* Normal deviates, two at a time: G. E. P. Box, M. E. Muller, 1958. */
static void draw(net_real *x, size_t n, double spread, struct rng *rng)
{
    for (size_t i = 0; i < n; i += 2) { /* all tensors have an even number */
        const double r = sqrt(-2 * log(random_unit(rng))) * spread;
        const double angle = 2 * M_PI * random_unit(rng);
        x[i] = (net_real)(r * cos(angle));
        x[i + 1] = (net_real)(r * sin(angle));
    }
}

static void draw_all(struct net *net)
{
    struct rng rng = {net->seed};

    for (size_t i = 0; i < net->n_tensors; i++) {
        const struct net_tensor *t = &net->tensors[i];
        const size_t n = (size_t)t->rows * t->cols;
        net_real *x = net->params + t->at;
        if (t->kind == NET_MATRIX) {
            const enum part part = (i - 1) % PARTS;
            const bool last = part == ATTN_OUTPUT || part == FFN_DOWN;
            const double by = last ? sqrt(2.0 * net->shape.n_layer) : 1;
            draw(x, n, MATRIX_SPREAD / sqrt((double)t->cols) / by, &rng);
        } else if (t->kind == NET_EMBEDDING) {
            draw(x, n, EMBEDDING_SPREAD / sqrt((double)t->cols), &rng);
        } else {
            for (size_t j = 0; j < n; j++) {
                x[j] = 1;
            }
        }
    }
    for (size_t i = 0; i < net->state_size; i++) {
        net->state[i] = 1;
    }
}

static void turn_all(struct net *net)
{
    const size_t half = net->widths.half;

    for (size_t pos = 0; pos < net->shape.n_ctx; pos++) {
        for (size_t i = 0; i < half; i++) {
            const double turns = -2.0 * (double)i / (double)net->shape.head_dim;
            const double angle = (double)pos * pow((double)net->shape.rope_base, turns);
            net->cos[pos * half + i] = (net_real)cos(angle);
            net->sin[pos * half + i] = (net_real)sin(angle);
        }
    }
}

/* Room for what the quantizers make of the parameters. */
static int make_quantized(struct net *net)
{
    size_t n_scales = 0, n_rows = 0;

    net->scale_at = calloc(net->n_tensors, sizeof(*net->scale_at));
    net->row_at = calloc(net->n_tensors, sizeof(*net->row_at));
    if (!net->scale_at || !net->row_at) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < net->n_tensors; i++) {
        const struct net_tensor *t = &net->tensors[i];
        net->scale_at[i] = n_scales;
        net->row_at[i] = n_rows;
        n_scales += t->kind == NET_MATRIX ? 1 + (size_t)t->rows * t->cols / GROUP : 1;
        n_rows += t->kind == NET_MATRIX ? t->rows : 0;
    }
    net->scales = calloc(n_scales, sizeof(*net->scales));
    net->row_sums = calloc(n_rows, sizeof(*net->row_sums));
    if (net->modes.weights != NET_W_FLOAT || net->modes.head == NET_H_INT8) {
        net->seen = calloc(net->size, sizeof(*net->seen));
        if (!net->seen) {
            return -ENOMEM;
        }
    }
    return net->scales && net->row_sums ? 0 : -ENOMEM;
}

static int make_numbers(struct net *net, unsigned n_threads)
{
    const size_t turns = (size_t)net->shape.n_ctx * net->widths.half;

    net->params = calloc(net->size, sizeof(*net->params));
    net->state = calloc(net->state_size + 1, sizeof(*net->state));
    net->thresholds = calloc(net->state_size + 1, sizeof(*net->thresholds));
    net->cos = calloc(turns, sizeof(*net->cos));
    net->sin = calloc(turns, sizeof(*net->sin));
    net->works = calloc(n_threads, sizeof(*net->works));
    if (!net->params || !net->state || !net->thresholds || !net->cos || !net->sin || !net->works) {
        return -ENOMEM;
    }
    return make_quantized(net);
}

int net_new(struct net **ret, const struct net_shape *shape, const struct net_modes *modes,
            unsigned n_threads, uint64_t seed)
{
    struct net_modes filled = *modes;

    if (n_threads < 1 || n_threads > NET_THREADS_MAX || !shape_sound(shape, &filled) ||
        !modes_sound(shape, &filled)) {
        return -EINVAL;
    }
    struct net *net = calloc(1, sizeof(*net));
    if (!net) {
        return -ENOMEM;
    }
    net->shape = *shape;
    net->modes = filled;
    net->seed = seed;
    net->loops = loops_pick();
    openblas_set_num_threads(1); /* the threads are ours, each with its own products */

    int r = list_all(net);
    if (r == 0) {
        r = make_numbers(net, n_threads);
    }
    if (r == 0) {
        r = team_new(&net->team, n_threads);
    }
    if (r < 0) {
        net_free(net);
        return r;
    }
    draw_all(net);
    turn_all(net);
    *ret = net;
    return 0;
}

void net_free(struct net *net)
{
    if (!net) {
        return;
    }
    for (unsigned i = 0; net->team && i < team_size(net->team); i++) {
        work_deinit(&net->works[i]);
    }
    tape_free(net->tape, net);
    team_free(net->team);
    free(net->works);
    free(net->sin);
    free(net->cos);
    free(net->thresholds);
    free(net->state);
    free(net->row_at);
    free(net->row_sums);
    free(net->scale_at);
    free(net->scales);
    free(net->seen);
    free(net->params);
    unlist(net);
    free(net);
}

/* ---- what others may see ---- */

const struct net_shape *net_shape(const struct net *net)
{
    return &net->shape;
}

size_t net_count(const struct net *net)
{
    return net->n_tensors;
}

const struct net_tensor *net_tensor(const struct net *net, size_t i)
{
    return &net->tensors[i];
}

const struct net_tensor *net_find(const struct net *net, const char *name)
{
    for (size_t i = 0; i < net->n_tensors; i++) {
        if (strcmp(net->tensors[i].name, name) == 0) {
            return &net->tensors[i];
        }
    }
    for (size_t i = 0; i < net->n_states; i++) {
        if (strcmp(net->states[i].name, name) == 0) {
            return &net->states[i];
        }
    }
    return NULL;
}

net_real *net_params(struct net *net)
{
    return net->params;
}

size_t net_size(const struct net *net)
{
    return net->size;
}

net_real *net_state(struct net *net)
{
    return net->state;
}

size_t net_state_size(const struct net *net)
{
    return net->state_size;
}

size_t net_state_count(const struct net *net)
{
    return net->n_states;
}

const struct net_tensor *net_state_tensor(const struct net *net, size_t i)
{
    return &net->states[i];
}
