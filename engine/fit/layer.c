/* Matrices fitted to their inputs: the four products of a layer one after another, each with the
 * inputs that come when everything before it is quantized already.
 *
 * That is GPTQ's order (arXiv 2210.17323, section 3.3, with the parts of a layer in turn): a matrix
 * is fitted to reproduce its own float outputs on the inputs that it will really get. With
 * `propagate` it is fitted to the outputs of the float model instead, which had better inputs, so
 * that it mends what it can of what was lost before it; the float model runs beside for that. */
#include "engine/fit/fit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fit/target.h"
#include "engine/machine.h"

/* A product of a layer: which matrices share its input. */
static const struct {
    enum step_part part;
    size_t first, n;
} products[] = {{PART_QKV, 0, 3}, {PART_O, 3, 1}, {PART_GATE_UP, 4, 2}, {PART_DOWN, 6, 1}};

/* The moments of a product's input. */
struct gathered {
    struct moments moments;
    bool factored;
    struct target target; /* only with `propagate` */
    float *held;          /* owned, likewise: (ctx, n) the float model's inputs in one window */
};

struct watching {
    struct gathered *to;
    enum step_part part;
    struct threads *threads;
};

/* Inputs of the float model. */
static void hold(void *arg, enum step_part part, const float *x, size_t stride, size_t n_rows)
{
    const struct watching *w = arg;
    const size_t n = w->to->moments.n;

    for (size_t t = 0; part == w->part && t < n_rows; t++) {
        memcpy(w->to->held + t * n, x + t * stride, n * sizeof(*x));
    }
}

static void watch(void *arg, enum step_part part, const float *x, size_t stride, size_t n_rows)
{
    const struct watching *w = arg;

    if (part == w->part) {
        moments_add(&w->to->moments, w->threads, x, stride, n_rows);
        if (w->to->held) {
            target_add(&w->to->target, w->threads, w->to->held, x, stride, n_rows);
        }
    }
}

static int malformed(const struct fit *f, size_t layer, size_t i)
{
    diag_set(f->diag, 0, "tensor %s: what the text makes of its inputs is all zero or not finite",
             fit_name(f, fit_of(f, layer, i)->tensor));
    return MODEL_MALFORMED;
}

/* What to aim at on the inputs that there are; *ret stays NULL where that is the matrix itself. */
static int find_aim(const struct fit *f, const struct gathered *in, const float *w, size_t n_rows,
                    float **ret)
{
    if (!in->held || !in->factored) {
        return 0;
    }
    *ret = malloc(n_rows * in->moments.n * sizeof(**ret));
    return *ret ? target_move(&in->target, &in->moments, f->text->engine->threads, w, n_rows, *ret)
                : -ENOMEM;
}

static int fit_one(struct fit *f, size_t layer, size_t i, const struct gathered *in)
{
    const struct fit_matrix *fm = fit_of(f, layer, i);
    const struct matrix *own = stream_matrix(&f->text->model->layers[layer], i);
    struct fit_job job = {.grid = fm->grid,
                          .moments = &in->moments,
                          .n_rows = own->n_rows,
                          .propagate = in->factored,
                          .polish = f->method != REQUANT_GPTQ};
    struct fit_loss loss;
    float *w = NULL, *aim = NULL;

    int r = fit_floats(f, own, fit_name(f, fm->tensor), &w);
    if (r == MODEL_OK) {
        r = find_aim(f, in, w, own->n_rows, &aim);
    }
    if (r == MODEL_OK) {
        job.w = w;
        job.aim = aim;
        job.rows = malloc(own->n_rows * format_row_bytes(fm->format, own->n_cols));
        r = job.rows ? fit_rows(f->text->engine->threads, &job, &loss) : -ENOMEM;
    }
    free(w);
    free(aim);
    if (r == MODEL_OK) {
        r = fit_make(f, layer, i, job.rows, &loss);
    }
    free(job.rows);
    return r;
}

/* A matrix whose format has no scale for each block: rounded here as it will be when the file is
 * written. */
static int round_one(struct fit *f, size_t layer, size_t i)
{
    const struct fit_matrix *fm = fit_of(f, layer, i);
    const struct matrix *own = stream_matrix(&f->text->model->layers[layer], i);
    uint8_t *rows = NULL;
    float *w = NULL, scale = 1;

    int r = fit_floats(f, own, fit_name(f, fm->tensor), &w);
    if (r == MODEL_OK) {
        r = fit_round(w, own->n_rows, own->n_cols, fm->format, &rows, &scale);
    }
    if (r == MODEL_OK) {
        r = fit_use(f, layer, i, rows, scale);
    }
    free(rows);
    free(w);
    return r;
}

static int gather_begin(const struct fit *f, size_t n, struct gathered *in)
{
    int r = moments_begin(&in->moments, n);

    if (r == 0 && f->method == REQUANT_PROPAGATE) {
        r = target_begin(&in->target, n);
        in->held = malloc(f->stream.ctx * n * sizeof(*in->held));
        r = in->held ? r : -ENOMEM;
    }
    return r;
}

static void gather_end(struct gathered *in)
{
    moments_deinit(&in->moments);
    target_deinit(&in->target);
    free(in->held);
}

/* The input of a product, from the layer as it is by now. */
static int gather(struct fit *f, size_t layer, size_t product, struct gathered *in)
{
    struct watching w = {
        .to = in, .part = products[product].part, .threads = f->text->engine->threads};
    const size_t first = products[product].first;
    const size_t n = stream_matrix(&f->stream.model.layers[layer], first)->n_cols;

    const int r = gather_begin(f, n, in);
    if (r < 0) {
        return r;
    }
    for (size_t window = 0; window < f->stream.n_windows; window++) {
        if (in->held) {
            stream_window(&f->truth, layer, window, hold, &w, false);
        }
        stream_window(&f->stream, layer, window, watch, &w, false);
    }
    if (!moments_close(&in->moments)) {
        return malformed(f, layer, first);
    }
    in->factored = f->method != REQUANT_REFINE && moments_factor(&in->moments, w.threads);
    return MODEL_OK;
}

static int fit_product(struct fit *f, size_t layer, size_t product)
{
    const size_t first = products[product].first, end = first + products[product].n;
    struct gathered in = {0};
    bool wanted = false;
    int r = MODEL_OK;

    for (size_t i = first; i < end; i++) {
        wanted = wanted || (fit_of(f, layer, i)->chosen && fit_of(f, layer, i)->has_grid);
    }
    if (wanted) {
        r = gather(f, layer, product, &in);
    }
    for (size_t i = first; r == MODEL_OK && i < end; i++) {
        const struct fit_matrix *fm = fit_of(f, layer, i);
        if (fm->chosen) {
            r = fm->has_grid ? fit_one(f, layer, i, &in) : round_one(f, layer, i);
        }
    }
    gather_end(&in);
    return r;
}

int fit_layer_inputs(struct fit *f, size_t layer)
{
    int r = MODEL_OK;

    for (size_t i = 0; r == MODEL_OK && i < ARRAY_SIZE(products); i++) {
        r = fit_product(f, layer, i);
    }
    return r;
}
