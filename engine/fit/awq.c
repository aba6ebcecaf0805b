/* Activation-aware scaling: AWQ, arXiv 2306.00978.
 *
 * Columns of a matrix whose inputs are large matter more. Multiplied by s they are rounded more
 * finely, beside their neighbours of the same block, and what makes the input is divided by s, so
 * that the product stays what it was. What makes it:
 *
 *     q, k, v     the norm before the attention
 *     o           bitnet's norm before it; else the rows of v, and its bias: attention mixes them
 *                 linearly, and the heads that share a row of v share its s
 *     gate, up    the norm before the feed-forward
 *     down        bitnet's norm before it; else the rows of up, which multiply act(gate)
 *
 * Where one of the matrices that take part is kept as it is, nothing is scaled. */
#include "engine/fit/fit.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "engine/fit/scaling.h"
#include "engine/role.h"

#define SAMPLES 128u /* inputs that a scaling is judged by */
#define PRODUCTS 4u
#define V 2u
#define UP 5u

static const struct {
    enum step_part part;
    size_t first, n;
    enum role norm; /* the vector that makes the input */
    size_t rows_of; /* or the matrix whose rows do, where there is no such vector */
} products[PRODUCTS] = {{PART_QKV, 0, 3, ROLE_ATTN_NORM, 0},
                        {PART_O, 3, 1, ROLE_ATTN_SUB_NORM, V},
                        {PART_GATE_UP, 4, 2, ROLE_FFN_NORM, 0},
                        {PART_DOWN, 6, 1, ROLE_FFN_SUB_NORM, UP}};

/* The inputs of one product. */
struct inputs {
    size_t n_cols, n_seen, n_all;
    float *x; /* owned: (SAMPLES, n_cols) */
    size_t n_x;
    double *size; /* owned: (n_cols) sums of |x|, then their means */
};

struct scaled {
    struct fit *f;
    size_t layer;
    struct layer *own; /* of the stream */
    struct inputs inputs[PRODUCTS];
    float *w[STREAM_MATRICES]; /* owned: of those that are chosen */
    float *s;                  /* owned: (n_cols) of the widest product */
    struct scaling_loss loss[PRODUCTS];
    bool judged[PRODUCTS];
    double power[STREAM_MATRICES], rounded[STREAM_MATRICES]; /* before scaling */
};

/* ---- inputs ---- */

static void take(void *arg, enum step_part part, const float *x, size_t stride, size_t n_rows)
{
    struct scaled *sc = arg;

    for (size_t p = 0; p < PRODUCTS; p++) {
        struct inputs *in = &sc->inputs[p];
        for (size_t t = 0; part == products[p].part && t < n_rows; t++, in->n_seen++) {
            const float *row = x + t * stride;
            for (size_t c = 0; c < in->n_cols; c++) {
                in->size[c] += fabs((double)row[c]);
            }
            if (in->n_x < SAMPLES && in->n_seen >= in->n_x * in->n_all / SAMPLES) {
                for (size_t c = 0; c < in->n_cols; c++) {
                    in->x[in->n_x * in->n_cols + c] = row[c];
                }
                in->n_x++;
            }
        }
    }
}

static int take_inputs(struct scaled *sc)
{
    const struct stream *s = &sc->f->stream;
    size_t widest = 0;

    for (size_t p = 0; p < PRODUCTS; p++) {
        struct inputs *in = &sc->inputs[p];
        in->n_cols = stream_matrix(sc->own, products[p].first)->n_cols;
        in->n_all = s->n_windows * s->ctx;
        in->x = malloc(SAMPLES * in->n_cols * sizeof(*in->x));
        in->size = calloc(in->n_cols, sizeof(*in->size));
        if (!in->x || !in->size) {
            return -ENOMEM;
        }
        widest = in->n_cols > widest ? in->n_cols : widest;
    }
    sc->s = malloc(widest * sizeof(*sc->s));
    if (!sc->s) {
        return -ENOMEM;
    }
    stream_run(&sc->f->stream, sc->layer, take, sc, false);
    for (size_t p = 0; p < PRODUCTS; p++) {
        struct inputs *in = &sc->inputs[p];
        for (size_t c = 0; c < in->n_cols; c++) {
            in->size[c] /= (double)in->n_seen;
            if (!isfinite(in->size[c])) {
                diag_set(sc->f->diag, 0,
                         "tensor %s: what the text makes of its inputs is not finite",
                         fit_name(sc->f, fit_of(sc->f, sc->layer, products[p].first)->tensor));
                return MODEL_MALFORMED;
            }
        }
    }
    return MODEL_OK;
}

/* ---- what makes an input ---- */

static const float **vector_of(struct layer *l, enum role role)
{
    switch (role) {
    case ROLE_ATTN_NORM:
        return &l->attn_norm;
    case ROLE_FFN_NORM:
        return &l->ffn_norm;
    case ROLE_ATTN_SUB_NORM:
        return &l->attn_sub_norm;
    case ROLE_FFN_SUB_NORM:
        return &l->ffn_sub_norm;
    default:
        return &l->v.bias;
    }
}

/* The tensor of a vector of this layer, if it is one of floats. */
static bool vector_tensor(const struct scaled *sc, enum role role, size_t *ret,
                          struct requant_tensor *ret_t)
{
    char name[ROLE_NAME_BYTES];

    role_full_name(role, sc->layer, name);
    if (!fit_tensor(sc->f->q, name, ret)) {
        return false;
    }
    requant_tensor(sc->f->q, *ret, ret_t);
    return ret_t->floats;
}

/* Can what makes the input of product p be divided? */
static bool may_divide(const struct scaled *sc, size_t p)
{
    struct requant_tensor t;
    size_t i;

    if (*vector_of(sc->own, products[p].norm)) {
        return vector_tensor(sc, products[p].norm, &i, &t);
    }
    const size_t rows_of = products[p].rows_of;
    /* What is only rounded is written from the file's weights, which are not divided. */
    return sc->w[rows_of] && fit_of(sc->f, sc->layer, rows_of)->has_grid &&
           (rows_of != V || !sc->own->v.bias || vector_tensor(sc, ROLE_V_BIAS, &i, &t));
}

/* A vector divided, in the file and in the layer, as its format holds it. */
static int divide_vector(struct scaled *sc, enum role role, const float *s, size_t n)
{
    const struct requant_errors errors = {0, -1, -1, -1};
    const float **at = vector_of(sc->own, role);
    struct fit *f = sc->f;
    struct requant_tensor t;
    enum format format;
    uint64_t place = 0;
    size_t i;

    if (!vector_tensor(sc, role, &i, &t) || !format_of_name(t.format, &format) || t.n_cols != n) {
        return -EINVAL;
    }
    float *x = malloc(n * sizeof(*x));
    uint8_t *row = malloc(n * sizeof(float));
    int r = x && row ? 0 : -ENOMEM;
    for (size_t c = 0; r == 0 && c < n; c++) {
        x[c] = (*at)[c] / s[c];
    }
    if (r == 0) {
        format_encode_row(format, x, 1, n, row);
        format_decode_row(format, row, 1, n, x);
        r = fit_append(f, row, format_row_bytes(format, n), &place);
    }
    if (r == 0) {
        requant_is_made(f->q, i, place, &errors);
        f->vectors[f->n_vectors++] = x;
        *at = x;
        x = NULL;
    }
    free(row);
    free(x);
    return r;
}

/* Divide what makes the input of product p, whose columns have been multiplied. */
static int divide(struct scaled *sc, size_t p)
{
    const struct shape *shape = &sc->f->stream.model.shape;
    const size_t n = sc->inputs[p].n_cols, hd = shape->head_dim, i = products[p].rows_of;
    const size_t group = shape->n_head / shape->n_head_kv;

    if (*vector_of(sc->own, products[p].norm)) {
        return divide_vector(sc, products[p].norm, sc->s, n);
    }
    const struct matrix *m = stream_matrix(sc->own, i);
    for (size_t row = 0; row < m->n_rows; row++) {
        const size_t c = i == V ? row / hd * group * hd + row % hd : row;
        for (size_t k = 0; k < m->n_cols; k++) {
            sc->w[i][row * m->n_cols + k] /= sc->s[c];
        }
        sc->s[row] = sc->s[c]; /* of the bias; c is never before row */
    }
    return i == V && m->bias ? divide_vector(sc, ROLE_V_BIAS, sc->s, m->n_rows) : 0;
}

/* ---- scaling ---- */

/* Heads that read the same row of v get one s for it. */
static void tie_heads(const struct shape *shape, double *size)
{
    const size_t hd = shape->head_dim, group = shape->n_head / shape->n_head_kv;

    for (size_t kv = 0; kv < shape->n_head_kv; kv++) {
        for (size_t c = 0; c < hd; c++) {
            double sum = 0;
            for (size_t h = 0; h < group; h++) {
                sum += size[(kv * group + h) * hd + c];
            }
            for (size_t h = 0; h < group; h++) {
                size[(kv * group + h) * hd + c] = sum / (double)group;
            }
        }
    }
}

static int scale_product(struct scaled *sc, size_t p)
{
    const size_t first = products[p].first;
    struct inputs *in = &sc->inputs[p];
    struct scaling search = {.engine = sc->f->text->engine,
                             .n_matrices = products[p].n,
                             .n_cols = in->n_cols,
                             .x = in->x,
                             .n_x = in->n_x,
                             .size = in->size};

    for (size_t i = 0; i < products[p].n; i++) {
        const struct fit_matrix *fm = fit_of(sc->f, sc->layer, first + i);
        if (!sc->w[first + i] || !fm->has_grid) {
            return MODEL_OK;
        }
        search.matrices[i] =
            (struct scaling_matrix){.w = sc->w[first + i],
                                    .n_rows = stream_matrix(sc->own, first + i)->n_rows,
                                    .format = fm->format};
    }
    if (!may_divide(sc, p)) {
        return MODEL_OK;
    }
    if (products[p].part == PART_O) {
        tie_heads(&sc->f->stream.model.shape, in->size);
    }
    int r = scaling_search(&search, sc->s, &sc->loss[p]);
    if (r < 0) {
        return r;
    }
    sc->judged[p] = true;
    for (size_t i = first; i < first + products[p].n; i++) {
        const size_t n = stream_matrix(sc->own, i)->n_rows * in->n_cols;
        for (size_t k = 0; k < n; k++) {
            sc->w[i][k] *= sc->s[k % in->n_cols];
        }
    }
    return sc->loss[p].scaled < sc->loss[p].plain ? divide(sc, p) : MODEL_OK;
}

/* ---- rounding ---- */

/* Sums of squares: of the weights, and of what rounding takes from them. */
static int weigh(const struct fit_matrix *fm, const float *w, const struct matrix *m,
                 double *ret_power, double *ret_lost, uint8_t **ret_rows, float *ret_scale)
{
    const size_t n = m->n_cols, bytes = format_row_bytes(fm->format, n);
    float *again = malloc(n * sizeof(*again));

    *ret_power = *ret_lost = 0;
    int r = again ? fit_round(w, m->n_rows, n, fm->format, ret_rows, ret_scale) : -ENOMEM;
    for (size_t row = 0; r == 0 && row < m->n_rows; row++) {
        format_decode_row(fm->format, *ret_rows + row * bytes, *ret_scale, n, again);
        for (size_t c = 0; c < n; c++) {
            const double x = w[row * n + c], e = (double)again[c] - x;
            *ret_power += x * x;
            *ret_lost += e * e;
        }
    }
    free(again);
    return r;
}

static int read_matrices(struct scaled *sc)
{
    int r = MODEL_OK;

    for (size_t i = 0; r == MODEL_OK && i < STREAM_MATRICES; i++) {
        const struct fit_matrix *fm = fit_of(sc->f, sc->layer, i);
        const struct matrix *m = stream_matrix(sc->own, i);
        uint8_t *rows = NULL;
        float scale;
        if (!fm->chosen) {
            continue;
        }
        r = fit_floats(sc->f, m, fit_name(sc->f, fm->tensor), &sc->w[i]);
        if (r == MODEL_OK) {
            r = weigh(fm, sc->w[i], m, &sc->power[i], &sc->rounded[i], &rows, &scale);
        }
        free(rows);
    }
    return r;
}

static int make_one(struct scaled *sc, size_t p, size_t i)
{
    const struct fit_matrix *fm = fit_of(sc->f, sc->layer, i);
    const struct matrix *m = stream_matrix(sc->own, i);
    struct fit_loss loss = {0};
    uint8_t *rows = NULL;
    float scale = 1;

    int r = weigh(fm, sc->w[i], m, &loss.power, &loss.lost, &rows, &scale);
    if (r == 0 && !fm->has_grid) {
        r = fit_use(sc->f, sc->layer, i, rows, scale);
    } else if (r == 0) {
        /* Each is said of the weights that it was done to. */
        loss.rounded = sc->power[i] > 0 ? sc->rounded[i] / sc->power[i] * loss.power : 0;
        loss.out_power = sc->judged[p] ? sc->loss[p].power : -1;
        loss.out_lost = sc->loss[p].scaled;
        loss.out_rounded = sc->loss[p].plain;
        r = fit_make(sc->f, sc->layer, i, rows, &loss);
    }
    free(rows);
    return r;
}

int fit_layer_scaled(struct fit *f, size_t layer)
{
    struct scaled sc = {.f = f, .layer = layer, .own = &f->stream.model.layers[layer]};

    int r = read_matrices(&sc);
    if (r == MODEL_OK) {
        r = take_inputs(&sc);
    }
    for (size_t p = 0; r == MODEL_OK && p < PRODUCTS; p++) {
        r = scale_product(&sc, p);
    }
    for (size_t p = 0; r == MODEL_OK && p < PRODUCTS; p++) {
        for (size_t i = products[p].first; i < products[p].first + products[p].n; i++) {
            if (r == MODEL_OK && sc.w[i]) {
                r = make_one(&sc, p, i);
            }
        }
    }
    for (size_t p = 0; p < PRODUCTS; p++) {
        free(sc.inputs[p].x);
        free(sc.inputs[p].size);
    }
    for (size_t i = 0; i < STREAM_MATRICES; i++) {
        free(sc.w[i]);
    }
    free(sc.s);
    return r;
}
