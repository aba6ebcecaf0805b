/* Matrices fitted to their inputs: the four products of a layer one after another, each with the
 * inputs that come when everything before it is quantized already.
 *
 * That is GPTQ's order (arXiv 2210.17323, section 3.3, with the parts of a layer in turn): a matrix
 * is fitted to reproduce its own float outputs on the inputs that it will really get. */
#include "engine/fit/fit.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/machine.h"

/* A product of a layer: which matrices share its input. */
static const struct {
    enum step_part part;
    size_t first, n;
} products[] = {{PART_QKV, 0, 3}, {PART_O, 3, 1}, {PART_GATE_UP, 4, 2}, {PART_DOWN, 6, 1}};

struct watching {
    struct moments *moments;
    enum step_part part;
    struct threads *threads;
};

static void watch(void *arg, enum step_part part, const float *x, size_t stride, size_t n_rows)
{
    const struct watching *w = arg;

    if (part == w->part) {
        moments_add(w->moments, w->threads, x, stride, n_rows);
    }
}

static int malformed(const struct fit *f, size_t layer, size_t i)
{
    diag_set(f->diag, 0, "tensor %s: what the text makes of its inputs is all zero or not finite",
             fit_name(f, fit_of(f, layer, i)->tensor));
    return MODEL_MALFORMED;
}

static int fit_one(struct fit *f, size_t layer, size_t i, const struct moments *m, bool factored)
{
    const struct fit_matrix *fm = fit_of(f, layer, i);
    const struct matrix *own = stream_matrix(&f->text->model->layers[layer], i);
    struct fit_job job = {.grid = fm->grid,
                          .moments = m,
                          .n_rows = own->n_rows,
                          .propagate = factored,
                          .polish = f->method != REQUANT_GPTQ};
    struct fit_loss loss;
    float *w = NULL;

    int r = fit_floats(f, own, fit_name(f, fm->tensor), &w);
    if (r == MODEL_OK) {
        job.w = w;
        job.rows = malloc(own->n_rows * format_row_bytes(fm->format, own->n_cols));
        r = job.rows ? fit_rows(f->text->engine->threads, &job, &loss) : -ENOMEM;
    }
    free(w);
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

/* H of a product's input, from the layer as it is by now. */
static int gather(struct fit *f, size_t layer, size_t product, struct moments *m,
                  bool *ret_factored)
{
    struct watching w = {
        .moments = m, .part = products[product].part, .threads = f->text->engine->threads};
    const size_t first = products[product].first;
    const size_t n = stream_matrix(&f->stream.model.layers[layer], first)->n_cols;

    const int r = moments_begin(m, n);
    if (r < 0) {
        return r;
    }
    stream_run(&f->stream, layer, watch, &w, false);
    if (!moments_close(m)) {
        return malformed(f, layer, first);
    }
    *ret_factored = f->method != REQUANT_REFINE && moments_factor(m, w.threads);
    return MODEL_OK;
}

static int fit_product(struct fit *f, size_t layer, size_t product)
{
    const size_t first = products[product].first, end = first + products[product].n;
    struct moments moments = {0};
    bool factored = false, wanted = false;
    int r = MODEL_OK;

    for (size_t i = first; i < end; i++) {
        wanted = wanted || (fit_of(f, layer, i)->chosen && fit_of(f, layer, i)->has_grid);
    }
    if (wanted) {
        r = gather(f, layer, product, &moments, &factored);
    }
    for (size_t i = first; r == MODEL_OK && i < end; i++) {
        const struct fit_matrix *fm = fit_of(f, layer, i);
        if (fm->chosen) {
            r = fm->has_grid ? fit_one(f, layer, i, &moments, factored) : round_one(f, layer, i);
        }
    }
    moments_deinit(&moments);
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
