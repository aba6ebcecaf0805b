/* A text on its way through a model one layer at a time, over the engine's own graph: what goes
 * into each product of a layer, while its matrices and those before it may be other ones. */
#ifndef ENGINE_FIT_STREAM_H
#define ENGINE_FIT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/step.h"

#define STREAM_MATRICES 7u /* of a layer: q, k, v, o, gate, up, down */

struct stream {
    struct engine *engine; /* borrowed */
    struct model model;    /* a copy of the caller's, whose parts it borrows, but for `layers` */
    struct kv_pool *pool;  /* owned, like the two after it: room for one window */
    struct seq *seq;
    struct stepper *stepper;
    const int32_t *ids; /* (n_windows, ctx) borrowed */
    size_t n_windows, ctx;
    float *x; /* owned: (n_windows, ctx, n_embd) between layers */
};

/**
 * stream_open() - a text before its first layer
 * @model:   borrowed; what it shares with the stream must not change
 * @ids:     n_ids of them, cut into windows of ctx that do not overlap; what is left is not read
 * @formats: (n_layer, STREAM_MATRICES) that stream_matrix() may be given besides those there are
 * @embd:    the embedding to take in place of the model's
 *
 * Memory: the text in floats, n_ids * n_embd of them, and what a step of ctx tokens takes.
 * Return: 0 or a negative errno; stream_close() either way.
 */
MUST_USE int stream_open(struct stream *s, struct engine *engine, const struct model *model,
                         enum kv_type kv, const int32_t *ids, size_t n_ids, size_t ctx,
                         const enum format *formats, const struct matrix *embd);
void stream_close(struct stream *s);

/** stream_matrix() - one of a layer's, which the caller may set */
struct matrix *stream_matrix(struct layer *l, size_t i);

/** stream_shape() - a matrix with the fields that follow from another format; data is left alone */
struct matrix stream_shape(const struct model *model, const struct matrix *m, enum format f);

/**
 * stream_run() - all windows through one layer
 * @watch: gets the inputs of its products, window by window; may be NULL
 * @go_on: the text is behind the layer afterwards; else where it was
 */
void stream_run(struct stream *s, size_t layer, step_watch_fn *watch, void *arg, bool go_on);

/** stream_window() - the same of one window */
void stream_window(struct stream *s, size_t layer, size_t window, step_watch_fn *watch, void *arg,
                   bool go_on);

#endif
