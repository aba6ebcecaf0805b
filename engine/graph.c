/* One layer of every family, as its paper writes it; engine/arch.h has the table of differences:
 *
 *     h = rms(x) * attn_norm
 *     q, k, v = Wq h, Wk h, Wv h                      [qwen2: + bias]
 *     o = attention(q, k, v)                          [qwen3: q and k normed per head]
 *     [bitnet: o = rms(o) * attn_sub_norm]
 *     x = x + Wo o                                    [minicpm: + residual_scale * Wo o]
 *     h = rms(x) * ffn_norm
 *     u = act(Wgate h) * (Wup h)                      act: SiLU, in bitnet-b1.58 squared ReLU
 *     [bitnet: u = rms(u) * ffn_sub_norm]
 *     x = x + Wdown u                                 [minicpm: as above]
 *
 * A token's numbers depend on that token's own history alone: every float operation runs inside one
 * row, in the order of engine/NUMERICS.md, and threads only choose who computes which row. */
#include <string.h>

#include "engine/attention.h"
#include "engine/mathf.h"
#include "engine/rows.h"
#include "engine/step.h"

/* The activation function's work: rows, or where there are few, pieces of them. */
#define FF_ITEMS 4u   /* items for each thread, at least */
#define FF_BLOCK 256u /* columns of a piece come in such blocks, which are those of activations */
#define FF_RUN 1024u  /* columns that are quantized right after the function */

struct layer_ctx {
    struct stepper *st;
    const struct layer *l;
    size_t layer_i;
};

/* ---- the embedding ---- */

static void fill_row(void *ctx, size_t row, unsigned thread_i)
{
    struct stepper *st = ctx;
    const struct model *m = st->model;
    const struct shape *s = &m->shape;
    const size_t half = s->n_rot / 2;
    float *cosines = st->cos + row * half, *sines = st->sin + row * half;
    float *x = st->x + row * s->n_embd;

    for (size_t i = 0; i < half; i++) {
        math_sincos((double)st->rows[row].pos * m->inv_freq[i], &sines[i], &cosines[i]);
        sines[i] *= s->rope_scale;
        cosines[i] *= s->rope_scale;
    }
    format_unpack_row(m->embd.format, m->embd.data, (size_t)st->rows[row].id, s->n_embd, x);
    for (size_t i = 0; i < s->n_embd; i++) {
        x[i] *= s->embd_scale;
    }
}

void graph_embed(struct stepper *st)
{
    rows_share(st, fill_row, st, st->n_rows, st->n_rows * st->model->shape.n_embd < ALONE_FLOATS);
    profile_part(st, PART_EMBED);
}

/* ---- what a layer does row by row ---- */

/* h = norm(x), quantized for what follows. */
struct norm_ctx {
    struct stepper *st;
    const float *w;
    struct wanted wanted;
    bool add_h; /* first x += h, the result of the product before */
};

static void norm_row(void *ctx, size_t row, unsigned thread_i)
{
    const struct norm_ctx *nc = ctx;
    struct stepper *st = nc->st;
    const struct shape *s = &st->model->shape;
    const size_t n = s->n_embd;
    float *x = st->x + row * n, *h = st->h + row * n;

    if (nc->add_h) {
        st->engine->kernels.add_scaled(x, h, s->residual_scale, x, n);
    }
    rms_norm(&st->engine->kernels, x, nc->w, n, s->eps, h);
    rows_quantize(st, h, row, 0, n, nc->wanted);
}

static void norm_rows(struct stepper *st, const float *w, struct wanted wanted, bool add_h)
{
    struct norm_ctx nc = {.st = st, .w = w, .wanted = wanted, .add_h = add_h};

    rows_share(st, norm_row, &nc, st->n_rows, st->n_rows * st->model->shape.n_embd < ALONE_FLOATS);
    profile_part(st, PART_NORM);
}

/* The attention's result, ready for the product o. */
static void finish_attention(void *ctx, size_t row, unsigned thread_i)
{
    const struct layer_ctx *lc = ctx;
    struct stepper *st = lc->st;
    const struct shape *s = &st->model->shape;
    const size_t n = (size_t)s->n_head * s->head_dim;
    float *att = st->att + row * n;

    if (lc->l->attn_sub_norm) {
        rms_norm(&st->engine->kernels, att, lc->l->attn_sub_norm, n, s->eps, att);
    }
    const struct wanted wanted = {act_wanted(&lc->l->o), lc->l->o_threshold};
    rows_quantize(st, att, row, 0, n, wanted);
}

static struct wanted wanted_by_down(const struct layer *l)
{
    return (struct wanted){act_wanted(&l->down), l->down_threshold};
}

/* Must the product down wait for whole rows of its input: to norm them, or to find their one
 * scale? */
static bool down_wants_rows(const struct layer *l)
{
    const unsigned kinds = act_wanted(&l->down);

    return l->ffn_sub_norm || (kinds & (1u << ACT_32 | 1u << ACT_256 | 1u << ACT_WIDE_32)) != kinds;
}

/* What follows the products gate and up: gate = act(gate) * up, then whatever the product down
 * wants of its input. */
struct ff_ctx {
    struct stepper *st;
    const struct layer *l;
    bool wants_rows;
    size_t pieces; /* items of a row */
    size_t cols;   /* of a piece; the last one may have fewer */
};

static void finish_activation(void *ctx, size_t row, unsigned thread_i)
{
    const struct ff_ctx *fc = ctx;
    struct stepper *st = fc->st;
    const struct shape *s = &st->model->shape;
    float *gate = st->gate + row * s->n_ff;

    if (fc->l->ffn_sub_norm) {
        rms_norm(&st->engine->kernels, gate, fc->l->ffn_sub_norm, s->n_ff, s->eps, gate);
    }
    rows_quantize(st, gate, row, 0, s->n_ff, wanted_by_down(fc->l));
}

/* A piece of a row, in runs that a first-level cache holds. Items are handed out from the last one
 * down; memory is walked upwards here, as prefetchers expect it. */
static void activate(void *ctx, size_t item, unsigned thread_i)
{
    struct ff_ctx *fc = ctx;
    struct stepper *st = fc->st;
    const size_t n = st->model->shape.n_ff, at = st->n_rows * fc->pieces - 1 - item;
    const size_t row = at / fc->pieces, begin = at % fc->pieces * fc->cols;
    const size_t end = n - begin < fc->cols ? n : begin + fc->cols;
    const struct kernels *k = &st->engine->kernels;
    gate_mul_fn *const gate_mul =
        st->model->shape.activation == ACTIVATION_RELU2 ? k->relu2_mul : k->silu_mul;
    float *gate = st->gate + row * n;

    for (size_t first = begin; first < end; first += FF_RUN) {
        const size_t n_cols = end - first < FF_RUN ? end - first : FF_RUN;
        gate_mul(gate + first, st->up + row * n + first, n_cols);
        if (!fc->wants_rows) {
            rows_quantize(st, gate, row, first, n_cols, wanted_by_down(fc->l));
        }
    }
    if (fc->wants_rows && fc->pieces == 1) {
        finish_activation(fc, row, thread_i);
    }
}

static void activate_rows(struct stepper *st, const struct layer *l)
{
    const size_t n = st->model->shape.n_ff, n_floats = st->n_rows * n;
    const size_t n_threads = threads_used(st->engine->threads);
    const bool wants_rows = down_wants_rows(l);
    const size_t wanted = (wants_rows ? 1 : FF_ITEMS) * n_threads;
    const size_t per_row = st->n_rows < wanted ? (FF_ITEMS * n_threads - 1) / st->n_rows + 1 : 1;
    const size_t blocks = (n + FF_BLOCK - 1) / FF_BLOCK;
    const size_t cols = (blocks + per_row - 1) / per_row * FF_BLOCK;
    struct ff_ctx fc = {
        .st = st, .l = l, .wants_rows = wants_rows, .pieces = (n + cols - 1) / cols, .cols = cols};

    rows_share(st, activate, &fc, st->n_rows * fc.pieces, n_floats < ALONE_FLOATS / 4);
    if (wants_rows && fc.pieces > 1) {
        rows_share(st, finish_activation, &fc, st->n_rows, n_floats < ALONE_FLOATS);
    }
    profile_part(st, PART_ACTIVATION);
}

/* ---- a layer ---- */

static void show_input(const struct stepper *st, enum step_part part, const struct input *in)
{
    if (st->watch) {
        st->watch(st->watch_arg, part, in->x, in->stride, st->n_rows);
    }
}

static void attention_half(struct layer_ctx *lc)
{
    struct stepper *st = lc->st;
    const struct layer *l = lc->l;
    const struct shape *s = &st->model->shape;
    const size_t n_embd = s->n_embd, n_q = (size_t)s->n_head * s->head_dim;
    const size_t n_kv = (size_t)s->n_head_kv * s->head_dim;
    const struct product qkv[] = {{&l->q, st->q, n_q}, {&l->k, st->k, n_kv}, {&l->v, st->v, n_kv}};
    const struct product o = {&l->o, st->h, n_embd};

    const struct wanted wanted = {act_wanted(&l->q) | act_wanted(&l->k) | act_wanted(&l->v),
                                  l->attn_threshold};
    norm_rows(st, l->attn_norm, wanted, lc->layer_i > 0);
    const struct input h = rows_input(st, st->h, n_embd);
    rows_expect(l->q_norm, s->head_dim);
    rows_expect(l->k_norm, s->head_dim);
    show_input(st, PART_QKV, &h);
    products_run(st->engine, &h, st->n_rows, qkv, ARRAY_SIZE(qkv));
    profile_part(st, PART_QKV);
    rows_expect(l->attn_sub_norm, n_q);
    attention_run(st, l, lc->layer_i);
    rows_share(st, finish_attention, lc, st->n_rows, st->n_rows * n_embd < ALONE_FLOATS);
    profile_part(st, PART_NORM);
    const struct input att = rows_input(st, st->att, n_q);
    rows_expect(l->ffn_norm, n_embd);
    show_input(st, PART_O, &att);
    products_run(st->engine, &att, st->n_rows, &o, 1);
    profile_part(st, PART_O);
}

static void feed_forward_half(struct layer_ctx *lc)
{
    struct stepper *st = lc->st;
    const struct layer *l = lc->l;
    const struct model *m = st->model;
    const size_t n_embd = m->shape.n_embd, n_ff = m->shape.n_ff;
    const struct product gate_up[] = {{&l->gate, st->gate, n_ff}, {&l->up, st->up, n_ff}};
    const struct product down = {&l->down, st->h, n_embd};

    const struct wanted wanted = {act_wanted(&l->gate) | act_wanted(&l->up), l->ffn_threshold};
    norm_rows(st, l->ffn_norm, wanted, true);
    const struct input h = rows_input(st, st->h, n_embd);
    rows_expect(l->ffn_sub_norm, n_ff);
    show_input(st, PART_GATE_UP, &h);
    products_run(st->engine, &h, st->n_rows, gate_up, ARRAY_SIZE(gate_up));
    profile_part(st, PART_GATE_UP);
    activate_rows(st, l);
    const struct input act = rows_input(st, st->gate, n_ff);
    rows_expect(lc->layer_i + 1 < m->shape.n_layer ? l[1].attn_norm : m->output_norm, n_embd);
    show_input(st, PART_DOWN, &act);
    products_run(st->engine, &act, st->n_rows, &down, 1);
    profile_part(st, PART_DOWN);
}

void graph_layer(struct stepper *st, size_t layer)
{
    struct layer_ctx lc = {.st = st, .l = &st->model->layers[layer], .layer_i = layer};

    attention_half(&lc);
    feed_forward_half(&lc);
}

/* ---- the head ---- */

static void finish_row(void *ctx, size_t row, unsigned thread_i)
{
    struct stepper *st = ctx;
    const struct model *m = st->model;
    const size_t n = m->shape.n_embd;
    float *x = st->wanted + row * n;

    rms_norm(&st->engine->kernels, x, m->output_norm, n, m->shape.eps, x);
    rows_quantize(st, x, row, 0, n, (struct wanted){.kinds = act_wanted(&m->head)});
    if (st->best) {
        rows_quantize(st, x, row, 0, n, (struct wanted){.kinds = act_wanted(&m->head_low.rows)});
        const struct input in = rows_input(st, x, n);
        const struct act_q8 *act = &in.act[m->head_low.rows.act];
        head_measure(x, act->q + row * act->q_stride, act->d + row * act->d_stride, n,
                     &st->wants[row]);
    }
}

/* Is the head's copy enough for all rows? One row that wants all logits costs what all rows would:
 * the head is read anyway. */
static bool all_want_best(const struct stepper *st, size_t n)
{
    bool best = st->model->head_low.rows.data != NULL;

    for (size_t row = 0; best && row < n; row++) {
        best = st->wants[row].n_best > 0;
    }
    return best;
}

static bool all_may(const struct stepper *st, size_t n)
{
    const struct model *m = st->model;
    bool may = true;

    for (size_t row = 0; may && row < n; row++) {
        may = head_may(&m->head_low, &m->head, &st->wants[row]);
    }
    return may;
}

void graph_head(struct stepper *st, size_t n)
{
    const struct model *m = st->model;
    const size_t n_embd = m->shape.n_embd;
    const struct product head = {&m->head, st->logits, m->shape.n_vocab};

    st->best = all_want_best(st, n);
    rows_share(st, finish_row, st, n, n * n_embd < ALONE_FLOATS);
    profile_part(st, PART_NORM);
    const struct input in = rows_input(st, st->wanted, n_embd);
    if (st->best && all_may(st, n)) {
        const struct head_job job = {.engine = st->engine,
                                     .head = &m->head,
                                     .low = &m->head_low,
                                     .in = &in,
                                     .want = st->wants,
                                     .n = n,
                                     .logits = st->logits,
                                     .room = st->room};
        profile_head(st, head_best(&job));
    } else {
        products_run(st->engine, &in, n, &head, 1);
        profile_head(st, 0);
    }
    profile_part(st, PART_HEAD);
}
