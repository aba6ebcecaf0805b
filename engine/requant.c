/* A GGUF file written again with other formats for its matrices.
 *
 * Keys, order and names stay; what is not chosen is copied byte for byte. The file is mapped for
 * its header alone: weights are read and written a few rows at a time, so memory does not grow with
 * the model, and a file that shrinks meanwhile is an error and no signal. */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fdio.h"
#include "base/filemap.h"
#include "engine/fit/grid.h"
#include "engine/format.h"
#include "engine/gguf.h"
#include "engine/gguf_writer.h"
#include "engine/requant.h"
#include "engine/requant_made.h"
#include "engine/tensor_format.h"

#define CHUNK_WEIGHTS ((size_t)1 << 18) /* floats at a time; one row at least */
#define WEIGHT_BYTES_MAX 4u             /* of any format, F32's */

struct entry {
    char name[GGUF_NAME_BYTES_MAX + 1];
    enum format format, chosen;
    uint64_t n_cols, n_rows, offset; /* offset: in the file */
    bool vector;                     /* one dimension */
    bool made;                       /* its rows are in made_fd, at made_at */
    uint64_t made_at;
    struct requant_errors errors;
};

struct requant {
    struct filemap file;
    struct gguf gguf;
    int fd;                /* borrowed */
    struct entry *entries; /* owned: gguf.n_tensors */
    bool refine;           /* what is not made is refined, where its format has scales for that */
    const char *method;    /* static: to be written into the file; NULL: nothing */
    int made_fd;           /* owned; < 0: there is none */
};

static const struct requant_errors unknown_errors = {-1, -1, -1, -1};

/* ---- the file ---- */

static bool is_matrix(const struct entry *e)
{
    return !e->vector && e->n_rows > 1;
}

static bool is_float(enum format f)
{
    return f == FORMAT_F32 || f == FORMAT_F16 || f == FORMAT_BF16;
}

static uint64_t bytes_in(const struct entry *e, enum format f)
{
    uint64_t bytes = 0;
    const bool fits = format_tensor_bytes(f, e->n_cols, e->n_rows, &bytes);

    assert(fits); /* tensor_format() and requant_choose() have seen to it */
    (void)fits;
    return bytes;
}

/* Tensors may share bytes, but not so many that a small file unfolds into a large one. @left: bytes
 * of the file that no tensor before this one has taken. */
static int take_bytes(const struct gguf_tensor_info *t, const struct entry *e, uint64_t *left,
                      struct diag *d)
{
    const uint64_t bytes = bytes_in(e, e->format);

    if (bytes > *left) {
        diag_set(d, t->info_offset, "tensor %s: all tensors together are larger than the file",
                 e->name);
        return MODEL_MALFORMED;
    }
    *left -= bytes;
    return MODEL_OK;
}

static int read_entry(const struct requant *q, const struct tensor_spaces *spaces,
                      const struct gguf_tensor_info *t, struct entry *ret, struct diag *d)
{
    const int r = tensor_format(&q->gguf, spaces, t, &ret->format, d);

    if (r != MODEL_OK) {
        return r;
    }
    memcpy(ret->name, t->name.data, t->name.n);
    if (t->n_dims < 1 || t->n_dims > 2 || t->dims[0] == 0 || t->dims[1] == 0 ||
        strlen(ret->name) != t->name.n) {
        diag_set(d, t->info_offset, "tensor %s: wants one or two dimensions that are not 0",
                 ret->name);
        return MODEL_UNSUPPORTED;
    }
    ret->chosen = ret->format;
    ret->n_cols = t->dims[0];
    ret->n_rows = t->dims[1];
    ret->offset = t->offset;
    ret->vector = t->n_dims == 1;
    ret->errors = unknown_errors;
    return MODEL_OK;
}

static int read_entries(struct requant *q, struct diag *d)
{
    struct tensor_spaces spaces = {0};

    q->entries = calloc(q->gguf.n_tensors ? q->gguf.n_tensors : 1, sizeof(*q->entries));
    uint64_t left = q->gguf.size;
    int r = q->entries ? tensor_spaces_init(&spaces, &q->gguf) : -ENOMEM;
    for (size_t i = 0; r == MODEL_OK && i < q->gguf.n_tensors; i++) {
        const struct gguf_tensor_info *t = &q->gguf.tensors[i];
        r = read_entry(q, &spaces, t, &q->entries[i], d);
        if (r == MODEL_OK) {
            r = take_bytes(t, &q->entries[i], &left, d);
        }
    }
    tensor_spaces_deinit(&spaces);
    return r;
}

int requant_open(struct requant **ret, int fd, struct diag *ret_diag)
{
    struct requant *q = calloc(1, sizeof(*q));

    if (!q) {
        return -ENOMEM;
    }
    q->fd = fd;
    q->made_fd = -1;
    int r = filemap_open(&q->file, fd);
    if (r == 0) {
        r = gguf_parse(&q->gguf, q->file.data, q->file.size, ret_diag);
        r = r > 0 ? MODEL_MALFORMED : r;
    }
    if (r == 0) {
        r = read_entries(q, ret_diag);
    }
    if (r == MODEL_OK) {
        *ret = q;
        q = NULL;
    }
    requant_free(q);
    return r;
}

void requant_free(struct requant *q)
{
    if (q) {
        gguf_deinit(&q->gguf);
        filemap_close(&q->file);
        if (q->made_fd >= 0) {
            (void)close(q->made_fd);
        }
        free(q->entries);
        free(q);
    }
}

size_t requant_count(const struct requant *q)
{
    return q->gguf.n_tensors;
}

void requant_tensor(const struct requant *q, size_t i, struct requant_tensor *ret)
{
    const struct entry *e = &q->entries[i];

    *ret = (struct requant_tensor){
        .name = e->name,
        .format = format_info(e->format)->name,
        .chosen = format_info(e->chosen)->name,
        .n_cols = e->n_cols,
        .n_rows = e->n_rows,
        .bytes = bytes_in(e, e->format),
        .chosen_bytes = bytes_in(e, e->chosen),
        .matrix = is_matrix(e),
        .floats = is_float(e->format),
        .error = e->errors.weights,
        .rounding_error = e->errors.rounding,
        .output_error = e->errors.outputs,
        .rounding_output_error = e->errors.rounding_outputs,
    };
}

/* ---- choosing ---- */

bool requant_bytes(const struct requant *q, size_t i, const char *format, uint64_t *ret)
{
    const struct entry *e = &q->entries[i];
    enum format f;

    return format_of_name(format, &f) && format_can_encode(f) &&
           format_tensor_bytes(f, e->n_cols, e->n_rows, ret);
}

int requant_choose(struct requant *q, size_t i, const char *format, struct diag *ret_diag)
{
    struct entry *e = &q->entries[i];
    enum format f;
    uint64_t bytes;

    if (!format) {
        e->chosen = e->format;
        return MODEL_OK;
    }
    if (!is_matrix(e) || !format_of_name(format, &f) || !format_can_encode(f)) {
        return -EINVAL;
    }
    if (!is_float(e->format)) {
        diag_set(ret_diag, e->offset, "tensor %s is %s already, and quantizing twice loses twice",
                 e->name, format_info(e->format)->name);
        return MODEL_UNSUPPORTED;
    }
    if (!format_tensor_bytes(f, e->n_cols, e->n_rows, &bytes)) {
        diag_set(ret_diag, e->offset,
                 "tensor %s has rows of %llu weights, %s wants whole blocks of %u", e->name,
                 (unsigned long long)e->n_cols, format, format_info(f)->block);
        return MODEL_UNSUPPORTED;
    }
    e->chosen = f;
    return MODEL_OK;
}

/* ---- what requant_fit() has made ---- */

void requant_forget(struct requant *q)
{
    if (q->made_fd >= 0) {
        (void)close(q->made_fd);
    }
    q->made_fd = -1;
    q->refine = false;
    q->method = NULL;
    for (size_t i = 0; i < q->gguf.n_tensors; i++) {
        q->entries[i].made = false;
    }
}

void requant_refines(struct requant *q)
{
    q->refine = true;
}

void requant_holds(struct requant *q, int fd)
{
    assert(q->made_fd < 0);
    q->made_fd = fd;
}

void requant_is_made(struct requant *q, size_t i, uint64_t at, const struct requant_errors *errors)
{
    q->entries[i].made = true;
    q->entries[i].made_at = at;
    q->entries[i].errors = *errors;
}

void requant_says(struct requant *q, const char *method)
{
    q->method = method;
}

/* ---- writing ---- */

/* One tensor on its way: buffers for a chunk of rows. */
struct flow {
    struct requant *q;
    struct gguf_writer *w;
    uint8_t *in, *out; /* owned: rows in the file's format and in the chosen one */
    float *x, *again;  /* owned: the same as floats, and as they come back */
    float *scales;     /* owned, like codes: of a row that is refined */
    int8_t *codes;
    double error, power;  /* sums of squares: of what is lost, of what there was */
    double rounded;       /* and of what rounding would have lost */
    uint64_t done, total; /* bytes read, of all tensors */
    requant_progress_fn *progress;
    void *arg;
    struct diag *diag;
};

static size_t chunk_rows(const struct entry *e)
{
    const size_t fit = CHUNK_WEIGHTS / (size_t)e->n_cols;

    return fit == 0 ? 1 : fit < e->n_rows ? fit : (size_t)e->n_rows;
}

static int flow_init(struct flow *f)
{
    size_t most = 1;

    for (size_t i = 0; i < f->q->gguf.n_tensors; i++) {
        const struct entry *e = &f->q->entries[i];
        const size_t n = chunk_rows(e) * (size_t)e->n_cols;
        most = n > most ? n : most;
        f->total += bytes_in(e, e->format);
    }
    /* A row's head (IQ2_BN) is less than what its weights are smaller than floats. */
    f->in = malloc(most * WEIGHT_BYTES_MAX);
    f->out = malloc(most * WEIGHT_BYTES_MAX);
    f->x = calloc(most, sizeof(*f->x));
    f->again = calloc(most, sizeof(*f->again));
    f->scales = malloc(most * sizeof(*f->scales));
    f->codes = malloc(most);
    return f->in && f->out && f->x && f->again && f->scales && f->codes ? 0 : -ENOMEM;
}

static void flow_deinit(struct flow *f)
{
    gguf_writer_free(f->w);
    free(f->in);
    free(f->out);
    free(f->x);
    free(f->again);
    free(f->scales);
    free(f->codes);
}

static int read_rows(struct flow *f, const struct entry *e, uint64_t row, size_t n_rows)
{
    const size_t bytes = format_row_bytes(e->format, (size_t)e->n_cols);

    return fd_read_all_at(f->q->fd, f->in, bytes * n_rows, (off_t)(e->offset + row * bytes));
}

static void advance(struct flow *f, const struct entry *e, size_t n_rows)
{
    f->done += n_rows * format_row_bytes(e->format, (size_t)e->n_cols);
    if (f->progress) {
        f->progress(f->arg, e->name, f->done, f->total);
    }
}

/* Rows as floats in f->x. A weight that is not finite would spoil its whole block. */
static int decode_rows(struct flow *f, const struct entry *e, uint64_t row, size_t n_rows)
{
    const size_t cols = (size_t)e->n_cols, bytes = format_row_bytes(e->format, cols);
    const int r = read_rows(f, e, row, n_rows);

    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < n_rows; i++) {
        format_decode_row(e->format, f->in + i * bytes, 1, cols, f->x + i * cols);
    }
    for (size_t i = 0; i < n_rows * cols; i++) {
        if (!isfinite(f->x[i])) {
            diag_set(f->diag, e->offset + row * bytes,
                     "tensor %s: weight %zu of row %llu is not finite", e->name, i % cols,
                     (unsigned long long)(row + i / cols));
            return MODEL_MALFORMED;
        }
    }
    return MODEL_OK;
}

/* I2_S has one scale for all rows, so they are read once before. */
static int tensor_scale(struct flow *f, const struct entry *e, float *ret)
{
    const size_t step = chunk_rows(e);
    float amax = 0;

    for (uint64_t row = 0; row < e->n_rows;) {
        const size_t k = e->n_rows - row < step ? (size_t)(e->n_rows - row) : step;
        const int r = decode_rows(f, e, row, k);
        if (r != MODEL_OK) {
            return r;
        }
        for (size_t i = 0; i < k * e->n_cols; i++) {
            amax = fabsf(f->x[i]) > amax ? fabsf(f->x[i]) : amax;
        }
        row += k;
    }
    *ret = amax;
    return MODEL_OK;
}

/* One row encoded, and what it lost. */
static double round_row(struct flow *f, const struct entry *e, size_t i, float scale)
{
    const size_t cols = (size_t)e->n_cols, bytes = format_row_bytes(e->chosen, cols);
    const float *x = f->x + i * cols;
    double sum = 0;

    format_encode_row(e->chosen, x, scale, cols, f->out + i * bytes);
    format_decode_row(e->chosen, f->out + i * bytes, scale, cols, f->again);
    for (size_t k = 0; k < cols; k++) {
        const double lost = (double)f->again[k] - (double)x[k];
        sum += lost * lost;
    }
    return sum;
}

/* The same refined, in its place. */
static double refine_row(struct flow *f, const struct entry *e, const struct grid *g, size_t i)
{
    const size_t cols = (size_t)e->n_cols, bytes = format_row_bytes(e->chosen, cols);
    const float *x = f->x + i * cols;
    double sum = 0;

    grid_refine_row(g, x, NULL, cols, f->scales, f->codes);
    grid_store(g, f->scales, f->codes, cols, f->again, f->out + i * bytes);
    for (size_t k = 0; k < cols; k++) {
        const double d = f->scales[k / g->block], lost = d * f->codes[k] - (double)x[k];
        sum += lost * lost;
    }
    return sum;
}

static int encode_rows(struct flow *f, const struct entry *e, size_t n_rows, float scale)
{
    struct grid grid;
    const bool refine = f->q->refine && grid_of(e->chosen, &grid);

    for (size_t i = 0; i < n_rows; i++) {
        const double rounded = round_row(f, e, i, scale);
        f->rounded += rounded;
        f->error += refine ? refine_row(f, e, &grid, i) : rounded;
    }
    for (size_t i = 0; i < n_rows * e->n_cols; i++) {
        f->power += (double)f->x[i] * (double)f->x[i];
    }
    if (!isfinite(f->error)) {
        diag_set(f->diag, e->offset, "tensor %s: its weights pass what a scale of %s can hold",
                 e->name, format_info(e->chosen)->name);
        return MODEL_UNSUPPORTED;
    }
    return gguf_writer_raw(f->w, f->out, n_rows);
}

static int write_encoded(struct flow *f, struct entry *e)
{
    const size_t step = chunk_rows(e);
    float scale = 1;
    int r = MODEL_OK;

    f->error = f->power = f->rounded = 0;
    if (e->chosen == FORMAT_I2_S) {
        r = tensor_scale(f, e, &scale);
        if (r == MODEL_OK) {
            r = gguf_writer_scale(f->w, scale);
        }
    }
    for (uint64_t row = 0; r == MODEL_OK && row < e->n_rows;) {
        const size_t k = e->n_rows - row < step ? (size_t)(e->n_rows - row) : step;
        r = decode_rows(f, e, row, k);
        if (r == MODEL_OK) {
            r = encode_rows(f, e, k, scale);
        }
        advance(f, e, k);
        row += k;
    }
    e->errors = unknown_errors;
    e->errors.weights = f->power > 0 ? sqrt(f->error / f->power) : 0;
    e->errors.rounding = f->power > 0 ? sqrt(f->rounded / f->power) : 0;
    return r;
}

static int write_made(struct flow *f, const struct entry *e)
{
    const size_t step = chunk_rows(e), bytes = format_row_bytes(e->chosen, (size_t)e->n_cols);
    int r = 0;

    for (uint64_t row = 0; r == 0 && row < e->n_rows;) {
        const size_t k = e->n_rows - row < step ? (size_t)(e->n_rows - row) : step;
        r = fd_read_all_at(f->q->made_fd, f->out, bytes * k, (off_t)(e->made_at + row * bytes));
        if (r == 0) {
            r = gguf_writer_raw(f->w, f->out, k);
        }
        advance(f, e, k);
        row += k;
    }
    return r;
}

static int write_copied(struct flow *f, struct entry *e)
{
    const size_t step = chunk_rows(e);
    int r = 0;

    if (format_info(e->format)->tail_bytes > 0) {
        float scale = 0;
        r = fd_read_all_at(f->q->fd, &scale, sizeof(scale),
                           e->offset + e->n_rows * format_row_bytes(e->format, (size_t)e->n_cols));
        if (r == 0) {
            r = gguf_writer_scale(f->w, scale);
        }
    }
    for (uint64_t row = 0; r == 0 && row < e->n_rows;) {
        const size_t k = e->n_rows - row < step ? (size_t)(e->n_rows - row) : step;
        r = read_rows(f, e, row, k);
        if (r == 0) {
            r = gguf_writer_raw(f->w, f->in, k);
        }
        advance(f, e, k);
        row += k;
    }
    e->errors = unknown_errors;
    e->errors.weights = 0;
    return r;
}

/* The alignment is the writer's own; a file type is one number for a mixture and means another
 * format to each program, while every tensor says its own. */
static bool is_dropped(struct strview key, bool encodes)
{
    static const char *const dropped[] = {"general.alignment", "general.file_type"};

    if (encodes && strview_is(key, REQUANT_METHOD_KEY)) {
        return true; /* that was another time */
    }

    for (size_t i = 0; i < ARRAY_SIZE(dropped); i++) {
        if (key.n == strlen(dropped[i]) && memcmp(key.data, dropped[i], key.n) == 0) {
            return true;
        }
    }
    return false;
}

static bool encodes_any(const struct requant *q)
{
    for (size_t i = 0; i < q->gguf.n_tensors; i++) {
        if (q->entries[i].chosen != q->entries[i].format) {
            return true;
        }
    }
    return false;
}

static int put_header(struct flow *f)
{
    const struct gguf *g = &f->q->gguf;
    const bool encodes = encodes_any(f->q);
    int r = 0;

    for (size_t i = 0; r == 0 && i < g->n_keys; i++) {
        r = is_dropped(g->keys[i].name, encodes || f->q->method) ? 0
                                                                 : gguf_put_copy(f->w, &g->keys[i]);
    }
    if (r == 0 && !gguf_find(g, "general.quantization_version")) {
        r = gguf_put_u32(f->w, "general.quantization_version", 2);
    }
    if (r == 0 && f->q->method) {
        r = gguf_put_str(f->w, REQUANT_METHOD_KEY, strview_of(f->q->method));
    }
    for (size_t i = 0; r == 0 && i < g->n_tensors; i++) {
        const struct entry *e = &f->q->entries[i];
        r = gguf_put_tensor(f->w, e->name, format_info(e->chosen)->name, e->n_cols, e->n_rows,
                            e->vector);
    }
    return r;
}

int requant_write(struct requant *q, int fd, requant_progress_fn *progress, void *arg,
                  struct diag *ret_diag)
{
    struct flow f = {.q = q, .progress = progress, .arg = arg, .diag = ret_diag};
    int r = flow_init(&f);

    if (r == 0) {
        r = gguf_writer_new(&f.w);
    }
    if (r == 0) {
        r = put_header(&f);
    }
    if (r == 0) {
        r = gguf_writer_begin(f.w, fd);
    }
    for (size_t i = 0; r == MODEL_OK && i < q->gguf.n_tensors; i++) {
        struct entry *e = &q->entries[i];
        r = e->made                  ? write_made(&f, e)
            : e->chosen == e->format ? write_copied(&f, e)
                                     : write_encoded(&f, e);
    }
    if (r == MODEL_OK) {
        r = gguf_writer_end(f.w);
    }
    flow_deinit(&f);
    return r;
}
