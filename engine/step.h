/* The stepper's scratch: planned once, allocated once, shared by step.c (what to run) and graph.c
 * (how a layer is computed). */
#ifndef ENGINE_STEP_H
#define ENGINE_STEP_H

#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"
#include "engine/head.h"
#include "engine/kv.h"
#include "engine/measure.h"
#include "engine/model.h"
#include "engine/product.h"

/* One token of the step. */
struct row {
    const struct seq *seq; /* borrowed for the step */
    size_t pos;
    int32_t id;
};

/* Byte offsets into the stepper's memory. `total` is what it costs and what is allocated. Buffers
 * whose lives do not meet share their place: q, k, v, att with gate, up. */
struct step_plan {
    size_t x, h;         /* (token, n_embd) */
    size_t q, k, v, att; /* (token, heads * head_dim) */
    size_t gate, up;     /* (token, n_ff) */
    size_t act_q[ACT_KINDS], act_d[ACT_KINDS], act_s[ACT_KINDS];
    size_t product_room; /* (thread, room_stride) */
    size_t cos, sin;     /* (token, n_rot / 2) */
    size_t scores;       /* (thread, KERN_QUERIES, score_stride) */
    size_t wanted;       /* (logits row, n_embd) */
    size_t logits;       /* (logits row, n_vocab) */
    size_t rows;         /* (token) struct row */
    size_t wants;        /* (logits row) struct head_want */
    size_t room;         /* (logits row, head_floats()); none without a copy of the head */
    size_t total;
    size_t score_stride; /* n_ctx and a gap */
    size_t room_stride;
    size_t act_cols;    /* widest input of a product, rounded up to 256 */
    unsigned act_kinds; /* bits: kinds that this model's matrices want */
};

/* Gets what goes into the products of a part, before they are computed: n_rows inputs, `stride`
 * floats apart. */
typedef void step_watch_fn(void *arg, enum step_part part, const float *x, size_t stride,
                           size_t n_rows);

struct stepper {
    struct engine *engine;     /* borrowed */
    const struct model *model; /* borrowed */
    struct stepper_limits limits;
    struct step_plan plan;
    uint8_t *mem; /* owned mapping */
    float *x, *h, *q, *k, *v, *att, *gate, *up, *cos, *sin, *scores, *wanted, *logits, *room;
    struct act_room act[ACT_KINDS];
    struct row *rows;
    struct head_want *wants; /* of the step that runs */
    bool best;               /* all of them are for the best logits alone */
    size_t n_rows;           /* of the step that runs */
    struct tuning tuning;
    _Atomic uint64_t *beats; /* borrowed, one more with each layer; NULL: nobody watches */

    step_watch_fn *watch; /* NULL: nobody does, as ever in serving */
    void *watch_arg;      /* borrowed */

    struct step_profile *profile;         /* borrowed; NULL: nobody measures */
    uint64_t profile_ns, profile_wait_ns; /* the clock and the pool's waiting at the last part */
};

/**
 * step_plan() - what a stepper needs
 * Return: false when a size overflows.
 */
MUST_USE bool step_plan(struct step_plan *ret, const struct model *model,
                        const struct stepper_limits *limits, unsigned n_threads);

/** graph_embed() - x and the rope tables of the rows */
void graph_embed(struct stepper *st);

/** graph_layer() - x through one layer; K and V of every row go to its sequence's blocks */
void graph_layer(struct stepper *st, size_t layer);

/** graph_head() - logits of n rows whose x the caller has gathered in `wanted` */
void graph_head(struct stepper *st, size_t n);

/** step_threads() - how many compute a step of so many tokens, as it was tuned (tune.c) */
unsigned step_threads(const struct stepper *st, size_t n_rows);

/* ---- measure.c: nothing happens in these unless somebody measures ---- */

void profile_begin(struct stepper *st);
/** profile_head() - bytes that the head's rows read in this step; 0: the head itself */
void profile_head(struct stepper *st, uint64_t bytes);
/** profile_part() - what has passed since the last call was this part */
void profile_part(struct stepper *st, enum step_part part);

#endif
