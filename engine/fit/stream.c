/* A layer needs the text as the layer before left it, and the keys and values of its own, which it
 * writes itself. So one window's cache and scratch are enough, whatever the text's length. */
#include "engine/fit/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/arch.h"
#include "engine/kv.h"
#include "engine/product.h"

struct matrix *stream_matrix(struct layer *l, size_t i)
{
    struct matrix *const all[STREAM_MATRICES] = {&l->q,    &l->k,  &l->v,   &l->o,
                                                 &l->gate, &l->up, &l->down};

    return all[i];
}

struct matrix stream_shape(const struct model *model, const struct matrix *m, enum format f)
{
    const struct format_info *info = format_info(f);
    struct matrix ret = *m;

    ret.format = f;
    ret.panel_bytes = 0;
    if (info->panel != PANEL_NONE) {
        const bool bitlinear = arch_info((enum arch)model->shape.arch)->bitlinear;
        ret.panel_bytes = format_panel_bytes(f, m->n_cols);
        ret.act = act_kind_of(info->panel, bitlinear && info->two_bit);
    }
    return ret;
}

/* Scratch for the layers as they are, and as they will be. */
static int open_stepper(struct stream *s, const struct model *model, const enum format *formats)
{
    const struct stepper_limits limits = {.n_tokens_max = s->ctx, .n_logits_max = 1};
    const size_t n = model->shape.n_layer;

    for (size_t i = 0; i < n * STREAM_MATRICES; i++) {
        struct matrix *m =
            stream_matrix(&s->model.layers[i / STREAM_MATRICES], i % STREAM_MATRICES);
        *m = stream_shape(model, m, formats[i]);
    }
    const int r = stepper_new(&s->stepper, s->engine, &s->model, &limits);
    memcpy(s->model.layers, model->layers, n * sizeof(*model->layers));
    return r;
}

static void begin_window(struct stream *s, size_t window)
{
    struct stepper *st = s->stepper;

    st->n_rows = s->ctx;
    for (size_t i = 0; i < s->ctx; i++) {
        st->rows[i] = (struct row){.seq = s->seq, .pos = i, .id = s->ids[window * s->ctx + i]};
    }
    graph_embed(st);
}

int stream_open(struct stream *s, struct engine *engine, const struct model *model, enum kv_type kv,
                const int32_t *ids, size_t n_ids, size_t ctx, const enum format *formats,
                const struct matrix *embd)
{
    const size_t n_embd = model->shape.n_embd, n_layer = model->shape.n_layer;

    *s = (struct stream){
        .engine = engine, .model = *model, .ids = ids, .n_windows = n_ids / ctx, .ctx = ctx};
    s->model.layers = malloc(n_layer * sizeof(*s->model.layers));
    s->x = malloc(s->n_windows * ctx * n_embd * sizeof(*s->x));
    if (!s->model.layers || !s->x) {
        return -ENOMEM;
    }
    memcpy(s->model.layers, model->layers, n_layer * sizeof(*model->layers));
    s->model.embd = *embd;
    int r = kv_pool_new(&s->pool, &s->model, kv, (ctx + KV_BLOCK - 1) / KV_BLOCK);
    if (r == 0) {
        r = seq_new(&s->seq, s->pool, ctx);
    }
    if (r == 0) {
        r = seq_reserve(s->seq, ctx) ? open_stepper(s, model, formats) : -ENOMEM;
    }
    for (size_t w = 0; r == 0 && w < s->n_windows; w++) {
        begin_window(s, w);
        memcpy(s->x + w * ctx * n_embd, s->stepper->x, ctx * n_embd * sizeof(*s->x));
    }
    return r;
}

void stream_close(struct stream *s)
{
    stepper_free(s->stepper);
    seq_free(s->seq);
    kv_pool_free(s->pool);
    free(s->model.layers);
    free(s->x);
    *s = (struct stream){0};
}

void stream_window(struct stream *s, size_t layer, size_t window, step_watch_fn *watch, void *arg,
                   bool go_on)
{
    const struct shape *shape = &s->model.shape;
    const size_t n = s->ctx * shape->n_embd;
    struct stepper *st = s->stepper;
    float *x = s->x + window * n;

    begin_window(s, window);
    memcpy(st->x, x, n * sizeof(*x));
    memset(st->h, 0, n * sizeof(*x)); /* what the layer before has still to add: nothing */
    st->watch = watch;
    st->watch_arg = arg;
    graph_layer(st, layer);
    st->watch = NULL;
    if (go_on) {
        st->engine->kernels.add_scaled(st->x, st->h, shape->residual_scale, x, n);
    }
}

void stream_run(struct stream *s, size_t layer, step_watch_fn *watch, void *arg, bool go_on)
{
    for (size_t w = 0; w < s->n_windows; w++) {
        stream_window(s, layer, w, watch, arg, go_on);
    }
}
