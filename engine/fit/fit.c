/* requant_fit(): the text through the model layer by layer, each layer's matrices made on the way.
 *
 * The layers that are done have their new matrices when the text goes through them, and only the
 * layer in hand has any besides the file's own, so memory does not grow with the layers. */
#include "engine/fit/fit.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fdio.h"
#include "engine/role.h"
#include "engine/scratch_file.h"

static const char *const names[REQUANT_METHODS] = {
    [REQUANT_ROUNDING] = "rounding", [REQUANT_REFINE] = "refine", [REQUANT_PROPAGATE] = "propagate",
    [REQUANT_GPTQ] = "gptq",         [REQUANT_AWQ] = "awq",
};

const char *requant_method_name(enum requant_method m)
{
    assert(m < REQUANT_METHODS);
    return names[m];
}

bool requant_method_parse(const char *name, enum requant_method *ret)
{
    for (unsigned m = 0; m < REQUANT_METHODS; m++) {
        if (strcmp(name, names[m]) == 0) {
            *ret = (enum requant_method)m;
            return true;
        }
    }
    return false;
}

/* ---- matrices ---- */

const char *fit_name(const struct fit *f, size_t tensor)
{
    struct requant_tensor t;

    requant_tensor(f->q, tensor, &t);
    return t.name;
}

bool fit_tensor(const struct requant *q, const char *name, size_t *ret)
{
    for (size_t i = 0; i < requant_count(q); i++) {
        struct requant_tensor t;
        requant_tensor(q, i, &t);
        if (strcmp(t.name, name) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

int fit_floats(const struct fit *f, const struct matrix *m, const char *name, float **ret)
{
    const size_t n = m->n_cols;
    float *w = malloc(m->n_rows * n * sizeof(*w));

    if (!w) {
        return -ENOMEM;
    }
    for (size_t row = 0; row < m->n_rows; row++) {
        format_unpack_row(m->format, m->data, row, n, w + row * n);
        for (size_t i = 0; i < n; i++) {
            if (!isfinite(w[row * n + i])) {
                diag_set(f->diag, 0, "tensor %s: weight %zu of row %zu is not finite", name, i,
                         row);
                free(w);
                return MODEL_MALFORMED;
            }
        }
    }
    *ret = w;
    return MODEL_OK;
}

int fit_round(const float *w, size_t n_rows, size_t n_cols, enum format format, uint8_t **ret,
              float *ret_scale)
{
    const size_t bytes = format_row_bytes(format, n_cols);
    uint8_t *rows = malloc(n_rows * bytes);
    float scale = 1;

    if (!rows) {
        return -ENOMEM;
    }
    if (format == FORMAT_I2_S) {
        scale = 0;
        for (size_t i = 0; i < n_rows * n_cols; i++) {
            scale = fabsf(w[i]) > scale ? fabsf(w[i]) : scale;
        }
    }
    for (size_t row = 0; row < n_rows; row++) {
        format_encode_row(format, w + row * n_cols, scale, n_cols, rows + row * bytes);
    }
    *ret = rows;
    *ret_scale = scale;
    return 0;
}

uint8_t *fit_pack(enum format f, const uint8_t *rows, float scale, size_t n_rows, size_t n_cols)
{
    const size_t row_bytes = format_row_bytes(f, n_cols);
    const bool panels = format_info(f)->panel != PANEL_NONE;
    const size_t n_panels = (n_rows + PANEL_ROWS - 1) / PANEL_ROWS;
    const size_t panel_bytes = panels ? format_panel_bytes(f, n_cols) : 0;
    const size_t bytes = panels ? n_panels * panel_bytes : n_rows * row_bytes;
    uint8_t *ret = aligned_alloc(64, (bytes + 63) & ~(size_t)63);

    if (!ret) {
        return NULL;
    }
    if (!panels) {
        memcpy(ret, rows, bytes);
    }
    for (size_t p = 0; panels && p < n_panels; p++) {
        const size_t first = p * PANEL_ROWS, left = n_rows - first;
        format_pack_panel(f, rows + first * row_bytes, scale, left < PANEL_ROWS ? left : PANEL_ROWS,
                          n_cols, ret + p * panel_bytes);
    }
    return ret;
}

int fit_use(struct fit *f, size_t layer, size_t i, const uint8_t *rows, float scale)
{
    struct matrix *m = stream_matrix(&f->stream.model.layers[layer], i);
    const enum format format = fit_of(f, layer, i)->format;

    free(f->packed[i]);
    f->packed[i] = fit_pack(format, rows, scale, m->n_rows, m->n_cols);
    if (!f->packed[i]) {
        return -ENOMEM;
    }
    *m = stream_shape(&f->stream.model, m, format);
    m->data = f->packed[i];
    f->done += (uint64_t)m->n_rows * m->n_cols;
    if (f->progress) {
        f->progress(f->arg, fit_name(f, fit_of(f, layer, i)->tensor), f->done, f->total);
    }
    return 0;
}

int fit_append(struct fit *f, const void *data, size_t n, uint64_t *ret_at)
{
    const int r = fd_write_all_at(f->fd, data, n, (off_t)f->at);

    *ret_at = f->at;
    f->at += n;
    return r;
}

/* Not of the sums themselves: what is left of a mean may be less than its rounding. */
static double relative(double part, double whole)
{
    return whole > 0 ? sqrt(part > 0 ? part / whole : 0) : whole < 0 ? -1 : 0;
}

int fit_make(struct fit *f, size_t layer, size_t i, const uint8_t *rows,
             const struct fit_loss *loss)
{
    const struct fit_matrix *fm = fit_of(f, layer, i);
    const struct matrix *m = stream_matrix(&f->stream.model.layers[layer], i);
    const struct requant_errors errors = {.weights = relative(loss->lost, loss->power),
                                          .rounding = relative(loss->rounded, loss->power),
                                          .outputs = relative(loss->out_lost, loss->out_power),
                                          .rounding_outputs =
                                              relative(loss->out_rounded, loss->out_power)};
    uint64_t at = 0;

    if (!isfinite(loss->lost)) {
        diag_set(f->diag, 0, "tensor %s: its weights pass what a scale of %s can hold",
                 fit_name(f, fm->tensor), format_info(fm->format)->name);
        return MODEL_UNSUPPORTED;
    }
    int r = fit_append(f, rows, m->n_rows * format_row_bytes(fm->format, m->n_cols), &at);
    if (r == 0) {
        requant_is_made(f->q, fm->tensor, at, &errors);
        r = fit_use(f, layer, i, rows, 1);
    }
    return r;
}

/* ---- what is to be done ---- */

static int find_matrix(struct fit *f, size_t layer, size_t i)
{
    static const enum role roles[STREAM_MATRICES] = {ROLE_Q,    ROLE_K,  ROLE_V,   ROLE_O,
                                                     ROLE_GATE, ROLE_UP, ROLE_DOWN};
    const struct matrix *m = stream_matrix(&f->text->model->layers[layer], i);
    struct fit_matrix *fm = fit_of(f, layer, i);
    struct requant_tensor t;
    char name[ROLE_NAME_BYTES];

    role_full_name(roles[i], layer, name);
    if (!fit_tensor(f->q, name, &fm->tensor)) {
        return -EINVAL;
    }
    requant_tensor(f->q, fm->tensor, &t);
    if (t.n_cols != m->n_cols || t.n_rows != m->n_rows ||
        strcmp(t.format, format_info(m->format)->name) != 0 ||
        !format_of_name(t.chosen, &fm->format)) {
        return -EINVAL;
    }
    fm->chosen = strcmp(t.chosen, t.format) != 0;
    fm->has_grid = grid_of(fm->format, &fm->grid);
    if (fm->chosen && fm->has_grid && t.n_cols > REQUANT_COLS_MAX) {
        diag_set(f->diag, 0, "tensor %s has %llu columns; a text can be fitted to at most %u", name,
                 (unsigned long long)t.n_cols, REQUANT_COLS_MAX);
        return MODEL_TOO_BIG;
    }
    f->total += fm->chosen ? t.n_cols * t.n_rows : 0;
    return MODEL_OK;
}

static int find_matrices(struct fit *f)
{
    const size_t n = f->text->model->shape.n_layer * (size_t)STREAM_MATRICES;
    int r = MODEL_OK;

    f->matrices = calloc(n, sizeof(*f->matrices));
    if (!f->matrices) {
        return -ENOMEM;
    }
    for (size_t i = 0; r == MODEL_OK && i < n; i++) {
        r = find_matrix(f, i / STREAM_MATRICES, i % STREAM_MATRICES);
    }
    return r;
}

/* Does the method say what all matrices of the layers are? */
static bool is_all(const struct requant *q)
{
    bool any = false;

    for (size_t i = 0; i < requant_count(q); i++) {
        struct requant_tensor t;
        enum format format;
        struct grid grid;
        requant_tensor(q, i, &t);
        if (!t.matrix || strncmp(t.name, "blk.", 4) != 0) {
            continue;
        }
        if (!t.floats) {
            return false; /* made another time */
        }
        any = any || (strcmp(t.chosen, t.format) != 0 && format_of_name(t.chosen, &format) &&
                      grid_of(format, &grid));
    }
    return any;
}

/* ---- the text's way ---- */

/* The embedding as it will be written; @ret_data: owned by the caller, NULL for the model's own. */
static int embedding(const struct fit *f, struct matrix *ret, uint8_t **ret_data)
{
    const struct matrix *own = &f->text->model->embd;
    struct requant_tensor t;
    enum format format;
    struct grid grid;
    uint8_t *rows = NULL;
    float *w = NULL, scale = 1;
    size_t i;

    *ret = *own;
    if (!fit_tensor(f->q, role_name(ROLE_EMBD), &i)) {
        return -EINVAL;
    }
    requant_tensor(f->q, i, &t);
    if (strcmp(t.chosen, t.format) == 0) {
        return MODEL_OK;
    }
    if (!format_of_name(t.chosen, &format) || t.n_cols != own->n_cols || t.n_rows != own->n_rows) {
        return -EINVAL;
    }
    const bool refine = f->method != REQUANT_AWQ && grid_of(format, &grid);
    const size_t bytes = format_row_bytes(format, own->n_cols);
    int r = fit_floats(f, own, t.name, &w);
    if (r == MODEL_OK) {
        r = fit_round(w, own->n_rows, own->n_cols, format, &rows, &scale);
    }
    float *scales = refine ? malloc(own->n_cols * sizeof(*scales)) : NULL;
    int8_t *codes = refine ? malloc(own->n_cols) : NULL;
    r = r == MODEL_OK && refine && (!scales || !codes) ? -ENOMEM : r;
    for (size_t row = 0; r == MODEL_OK && refine && row < own->n_rows; row++) {
        float *x = w + row * own->n_cols;
        grid_refine_row(&grid, x, NULL, own->n_cols, scales, codes);
        grid_store(&grid, scales, codes, own->n_cols, x, rows + row * bytes);
    }
    if (r == MODEL_OK) {
        *ret_data = fit_pack(format, rows, scale, own->n_rows, own->n_cols);
        r = *ret_data ? MODEL_OK : -ENOMEM;
        *ret = stream_shape(f->text->model, own, format);
        ret->data = *ret_data;
    }
    free(codes);
    free(scales);
    free(rows);
    free(w);
    return r;
}

static void let_go(struct fit *f)
{
    for (size_t i = 0; i < STREAM_MATRICES; i++) {
        free(f->packed[i]);
        f->packed[i] = NULL;
    }
    while (f->n_vectors > 0) {
        free(f->vectors[--f->n_vectors]);
    }
}

static int fit_layers(struct fit *f)
{
    const size_t n = f->text->model->shape.n_layer;
    int r = MODEL_OK;

    for (size_t layer = 0; r == MODEL_OK && layer < n; layer++) {
        r = (f->method == REQUANT_AWQ ? fit_layer_scaled : fit_layer_inputs)(f, layer);
        if (r == MODEL_OK && layer + 1 < n) {
            stream_run(&f->stream, layer, NULL, NULL, true);
            if (f->method == REQUANT_PROPAGATE) {
                stream_run(&f->truth, layer, NULL, NULL, true);
            }
        }
        f->stream.model.layers[layer] = f->text->model->layers[layer];
        let_go(f);
    }
    return r;
}

static int run(struct fit *f)
{
    const struct requant_text *t = f->text;
    const size_t n = t->model->shape.n_layer * (size_t)STREAM_MATRICES;
    enum format *formats = malloc(n * sizeof(*formats));
    struct matrix embd;
    uint8_t *embd_data = NULL;

    int r = formats ? embedding(f, &embd, &embd_data) : -ENOMEM;
    for (size_t i = 0; r == MODEL_OK && i < n; i++) {
        formats[i] = f->matrices[i].format;
    }
    if (r == MODEL_OK) {
        r = stream_open(&f->stream, t->engine, t->model, t->kv, t->ids, t->n_ids, t->ctx, formats,
                        &embd);
    }
    if (r == MODEL_OK && f->method == REQUANT_PROPAGATE) {
        r = stream_open(&f->truth, t->engine, t->model, t->kv, t->ids, t->n_ids, t->ctx, formats,
                        &t->model->embd);
    }
    if (r == MODEL_OK) {
        r = fit_layers(f);
    }
    stream_close(&f->truth);
    stream_close(&f->stream);
    free(embd_data);
    free(formats);
    return r;
}

static uint64_t bytes_to_come(const struct requant *q)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < requant_count(q); i++) {
        struct requant_tensor t;
        requant_tensor(q, i, &t);
        bytes += t.chosen_bytes;
    }
    return bytes;
}

static bool text_fits(const struct requant_text *t)
{
    bool fits = t->ctx >= 1 && t->ctx <= t->model->shape.n_ctx && t->n_ids >= t->ctx;

    for (size_t i = 0; fits && i < t->n_ids; i++) {
        fits = t->ids[i] >= 0 && (uint32_t)t->ids[i] < t->model->shape.n_vocab;
    }
    return fits;
}

int requant_fit(struct requant *q, enum requant_method method, const struct requant_text *text,
                requant_progress_fn *progress, void *arg, struct diag *ret_diag)
{
    struct fit f = {
        .q = q, .text = text, .method = method, .progress = progress, .arg = arg, .diag = ret_diag};

    requant_forget(q);
    if (method == REQUANT_ROUNDING) {
        return MODEL_OK;
    }
    if (method == REQUANT_REFINE && !text) {
        requant_refines(q);
        requant_says(q, is_all(q) ? names[method] : NULL);
        return MODEL_OK;
    }
    if (!text || !text_fits(text)) {
        return -EINVAL;
    }
    const enum input_form inputs = (enum input_form)text->model->shape.inputs;
    if (inputs != INPUTS_FORMAT) { /* these are not what the text's pass through the layers has */
        diag_set(ret_diag, 0, "key onebit.activations: fitting to %s inputs is unsupported",
                 inputs_name(inputs));
        return MODEL_UNSUPPORTED;
    }
    int r = find_matrices(&f);
    if (r == MODEL_OK) {
        r = f.fd = scratch_file(bytes_to_come(q));
        if (r >= 0) {
            requant_holds(q, f.fd);
            r = run(&f);
        }
    }
    if (r == MODEL_OK) {
        if (method != REQUANT_AWQ) {
            requant_refines(q);
        }
        requant_says(q, is_all(q) ? names[method] : NULL);
    } else {
        requant_forget(q);
    }
    free(f.matrices);
    return r;
}
