/* Writing GGUF v3: keys and tensor infos are collected, then written at once; weights are encoded
 * and appended row by row, so a model of any size is written in little memory. */
#include "engine/gguf_writer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fdio.h"
#include "base/filemap.h"
#include "engine/engine.h"
#include "engine/format.h"
#include "engine/gguf.h"
#include "engine/kernels/kernels.h"

#define HEADER_BYTES_MAX ((size_t)1 << 30)
#define ALIGNMENT 32u

struct writer_tensor {
    char name[GGUF_NAME_BYTES_MAX + 1];
    enum format format;
    uint64_t n_cols, n_rows;
    bool vector;
};

struct gguf_writer {
    struct buf keys;    /* records as they stand in the file */
    struct buf names;   /* offsets (size_t) of the records in keys */
    struct buf tensors; /* struct writer_tensor */
    int fd;             /* borrowed; -1 before gguf_writer_begin() */
    uint64_t at;        /* bytes written */
    size_t tensor_i;    /* whose turn it is */
    uint64_t row;       /* rows of it that are written */
    float scale;        /* of it, for formats that have one per tensor */
    uint8_t *row_bytes; /* owned: one encoded row of the widest tensor */
};

int gguf_writer_new(struct gguf_writer **ret)
{
    struct gguf_writer *w = calloc(1, sizeof(*w));

    if (!w) {
        return -ENOMEM;
    }
    buf_init(&w->keys, HEADER_BYTES_MAX);
    buf_init(&w->names, GGUF_KEYS_MAX * sizeof(size_t));
    buf_init(&w->tensors, GGUF_TENSORS_MAX * sizeof(struct writer_tensor));
    w->fd = -1;
    w->scale = 1;
    *ret = w;
    return 0;
}

void gguf_writer_free(struct gguf_writer *w)
{
    if (!w) {
        return;
    }
    buf_deinit(&w->keys);
    buf_deinit(&w->names);
    buf_deinit(&w->tensors);
    free(w->row_bytes);
    free(w);
}

/* ---- keys ---- */

static int put_u32(struct buf *b, uint32_t v)
{
    return buf_append(b, &v, sizeof(v));
}

static int put_u64(struct buf *b, uint64_t v)
{
    return buf_append(b, &v, sizeof(v));
}

static int put_str(struct buf *b, struct strview s)
{
    const int r = put_u64(b, s.n);

    return r < 0 ? r : buf_append(b, s.data, s.n);
}

static bool has_key(const struct gguf_writer *w, struct strview key)
{
    const size_t *at = (const void *)w->names.data;

    for (size_t i = 0; i < w->names.n / sizeof(*at); i++) {
        uint64_t n;
        memcpy(&n, w->keys.data + at[i], sizeof(n));
        if (n == key.n && memcmp(w->keys.data + at[i] + sizeof(n), key.data, key.n) == 0) {
            return true;
        }
    }
    return false;
}

/* A whole record, or nothing: name, type, then the value's parts. */
static int put_record(struct gguf_writer *w, struct strview name, enum gguf_value type,
                      const void *head, size_t head_bytes, const void *data, size_t bytes)
{
    const size_t before = w->keys.n;
    int r;

    if (w->fd >= 0 || name.n == 0 || name.n > GGUF_KEY_BYTES_MAX) {
        return -EINVAL;
    }
    if ((r = put_str(&w->keys, name)) < 0 || (r = put_u32(&w->keys, type)) < 0 ||
        (r = buf_append(&w->keys, head, head_bytes)) < 0 ||
        (r = buf_append(&w->keys, data, bytes)) < 0 ||
        (r = buf_append(&w->names, &before, sizeof(before))) < 0) {
        w->keys.n = before;
        return r;
    }
    return 0;
}

static int put_key(struct gguf_writer *w, const char *key, enum gguf_value type, const void *head,
                   size_t head_bytes, const void *data, size_t bytes)
{
    const struct strview name = strview_of(key);

    return has_key(w, name) ? -EINVAL : put_record(w, name, type, head, head_bytes, data, bytes);
}

int gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    return put_key(w, key, GGUF_U32, NULL, 0, &v, sizeof(v));
}

int gguf_put_f32(struct gguf_writer *w, const char *key, float v)
{
    return put_key(w, key, GGUF_F32, NULL, 0, &v, sizeof(v));
}

int gguf_put_bool(struct gguf_writer *w, const char *key, bool v)
{
    const uint8_t byte = v;

    return put_key(w, key, GGUF_BOOL, NULL, 0, &byte, sizeof(byte));
}

int gguf_put_str(struct gguf_writer *w, const char *key, struct strview v)
{
    const uint64_t n = v.n;

    return put_key(w, key, GGUF_STR, &n, sizeof(n), v.data, v.n);
}

#define ARRAY_HEAD 12u

static void array_head(uint8_t *ret, enum gguf_value elem, uint64_t n)
{
    const uint32_t type = elem;

    memcpy(ret, &type, sizeof(type));
    memcpy(ret + sizeof(type), &n, sizeof(n));
}

static int put_array(struct gguf_writer *w, const char *key, enum gguf_value elem, uint64_t n,
                     const void *data, size_t bytes)
{
    uint8_t head[ARRAY_HEAD];

    array_head(head, elem, n);
    return put_key(w, key, GGUF_ARR, head, sizeof(head), data, bytes);
}

int gguf_put_str_array(struct gguf_writer *w, const char *key, const struct strview *v, size_t n)
{
    struct buf strings;
    int r = 0;

    buf_init(&strings, HEADER_BYTES_MAX);
    for (size_t i = 0; i < n && r == 0; i++) {
        r = put_str(&strings, v[i]);
    }
    if (r == 0) {
        r = put_array(w, key, GGUF_STR, n, strings.data, strings.n);
    }
    buf_deinit(&strings);
    return r;
}

int gguf_put_i32_array(struct gguf_writer *w, const char *key, const int32_t *v, size_t n)
{
    return put_array(w, key, GGUF_I32, n, v, n * sizeof(*v));
}

int gguf_put_f32_array(struct gguf_writer *w, const char *key, const float *v, size_t n)
{
    return put_array(w, key, GGUF_F32, n, v, n * sizeof(*v));
}

/* Bytes of a checked value, after an array's head. */
static size_t value_bytes(const struct gguf_key *key)
{
    static const uint8_t size[GGUF_VALUES] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
    };
    const enum gguf_value type = key->type == GGUF_ARR ? key->elem : key->type;
    struct strview s;

    if (type != GGUF_STR) {
        return size[type] * (size_t)key->n;
    }
    struct gguf_str_iter it = gguf_strings(key);
    while (gguf_str_next(&it, &s)) {
    }
    return (size_t)(it.at - key->data);
}

int gguf_put_copy(struct gguf_writer *w, const struct gguf_key *key)
{
    uint8_t head[ARRAY_HEAD];

    array_head(head, key->elem, key->n);
    return put_record(w, key->name, key->type, head, key->type == GGUF_ARR ? sizeof(head) : 0,
                      key->data, value_bytes(key));
}

int gguf_put_from(struct gguf_writer *w, int fd, const char *prefix, struct diag *ret_diag)
{
    struct filemap file = {0};
    struct gguf g = {0};
    int r = filemap_open(&file, fd);

    if (r == 0) {
        r = gguf_parse(&g, file.data, file.size, ret_diag);
        r = r > 0 ? MODEL_MALFORMED : r;
    }
    for (size_t i = 0; r == 0 && i < g.n_keys; i++) {
        if (strview_starts(g.keys[i].name, prefix)) {
            r = has_key(w, g.keys[i].name) ? -EINVAL : gguf_put_copy(w, &g.keys[i]);
        }
    }
    gguf_deinit(&g);
    filemap_close(&file);
    return r;
}

/* ---- tensors ---- */

static size_t n_tensors(const struct gguf_writer *w)
{
    return w->tensors.n / sizeof(struct writer_tensor);
}

static const struct writer_tensor *tensor_at(const struct gguf_writer *w, size_t i)
{
    return (const struct writer_tensor *)(const void *)w->tensors.data + i;
}

bool gguf_writable(size_t i, struct gguf_writable *ret)
{
    if (i >= FORMATS) {
        return false;
    }
    const struct format_info *info = format_info((enum format)i);
    *ret = (struct gguf_writable){
        .name = info->name, .block = info->block, .encodes = format_can_encode((enum format)i)};
    return true;
}

int gguf_put_tensor(struct gguf_writer *w, const char *name, const char *format, uint64_t n_cols,
                    uint64_t n_rows, bool vector)
{
    struct writer_tensor t = {.n_cols = n_cols, .n_rows = n_rows, .vector = vector};
    uint64_t bytes;

    if (w->fd >= 0 || strlen(name) == 0 || strlen(name) > GGUF_NAME_BYTES_MAX ||
        !format_of_name(format, &t.format) || n_cols == 0 || n_cols > KERN_COLS_MAX ||
        n_rows == 0 || n_cols % format_info(t.format)->block != 0 || (vector && n_rows != 1) ||
        !format_tensor_bytes(t.format, n_cols, n_rows, &bytes) || bytes > INT64_MAX / 2) {
        return -EINVAL;
    }
    for (size_t i = 0; i < n_tensors(w); i++) {
        if (strcmp(tensor_at(w, i)->name, name) == 0) {
            return -EINVAL;
        }
    }
    memcpy(t.name, name, strlen(name));
    return buf_append(&w->tensors, &t, sizeof(t));
}

static uint64_t bytes_of(const struct writer_tensor *t)
{
    return format_row_bytes(t->format, (size_t)t->n_cols) * t->n_rows +
           format_info(t->format)->tail_bytes;
}

static uint64_t align(uint64_t n)
{
    return (n + ALIGNMENT - 1) & ~(uint64_t)(ALIGNMENT - 1);
}

/* ---- writing ---- */

static int put_bytes(struct gguf_writer *w, const void *data, size_t n)
{
    const int r = fd_write_all(w->fd, data, n);

    w->at += r == 0 ? n : 0; /* one that failed is not gone on with */
    return r;
}

static int write_padding(struct gguf_writer *w)
{
    static const uint8_t zeros[ALIGNMENT];

    return put_bytes(w, zeros, (size_t)(align(w->at) - w->at));
}

static int put_infos(const struct gguf_writer *w, struct buf *out, size_t *ret_widest)
{
    uint64_t offset = 0;

    for (size_t i = 0; i < n_tensors(w); i++) {
        const struct writer_tensor *t = tensor_at(w, i);
        const size_t row = format_row_bytes(t->format, (size_t)t->n_cols);
        int r;

        if ((r = put_str(out, strview_of(t->name))) < 0 ||
            (r = put_u32(out, t->vector ? 1 : 2)) < 0 || (r = put_u64(out, t->n_cols)) < 0 ||
            (r = t->vector ? 0 : put_u64(out, t->n_rows)) < 0 ||
            (r = put_u32(out, format_info(t->format)->id)) < 0 || (r = put_u64(out, offset)) < 0) {
            return r;
        }
        if (__builtin_add_overflow(offset, align(bytes_of(t)), &offset) || offset > INT64_MAX) {
            return -EINVAL;
        }
        *ret_widest = row > *ret_widest ? row : *ret_widest;
    }
    return 0;
}

int gguf_writer_begin(struct gguf_writer *w, int fd)
{
    struct buf head;
    size_t widest = 1;
    int r;

    if (w->fd >= 0) {
        return -EINVAL;
    }
    buf_init(&head, HEADER_BYTES_MAX);
    if ((r = buf_append(&head, "GGUF", 4)) < 0 || (r = put_u32(&head, 3)) < 0 ||
        (r = put_u64(&head, n_tensors(w))) < 0 ||
        (r = put_u64(&head, w->names.n / sizeof(size_t))) < 0 ||
        (r = buf_append(&head, w->keys.data, w->keys.n)) < 0 ||
        (r = put_infos(w, &head, &widest)) < 0) {
        goto out;
    }
    w->row_bytes = malloc(widest);
    if (!w->row_bytes) {
        r = -ENOMEM;
        goto out;
    }
    w->fd = fd;
    r = put_bytes(w, head.data, head.n);
    if (r == 0) {
        r = write_padding(w);
    }
out:
    buf_deinit(&head);
    return r;
}

/* The tensor whose turn it is, if n_rows more rows of it are still to come. */
static const struct writer_tensor *tensor_due(const struct gguf_writer *w, uint64_t n_rows)
{
    if (w->fd < 0 || w->tensor_i >= n_tensors(w)) {
        return NULL;
    }
    const struct writer_tensor *t = tensor_at(w, w->tensor_i);
    return n_rows <= t->n_rows - w->row ? t : NULL;
}

static int rows_done(struct gguf_writer *w, const struct writer_tensor *t, uint64_t n_rows)
{
    w->row += n_rows;
    if (w->row == t->n_rows) {
        uint8_t tail[64];
        const size_t n_tail = format_info(t->format)->tail_bytes;
        assert(n_tail <= sizeof(tail));
        format_encode_tail(t->format, w->scale, tail);
        w->row = 0;
        w->scale = 1;
        w->tensor_i++;
        const int r = put_bytes(w, tail, n_tail);
        return r < 0 ? r : write_padding(w);
    }
    return 0;
}

int gguf_writer_scale(struct gguf_writer *w, float scale)
{
    const struct writer_tensor *t = tensor_due(w, 0);

    if (!t || w->row != 0) {
        return -EINVAL;
    }
    w->scale = scale;
    return 0;
}

int gguf_writer_rows(struct gguf_writer *w, const float *x, uint64_t n_rows)
{
    const struct writer_tensor *t = tensor_due(w, n_rows);

    if (!t || !format_can_encode(t->format)) {
        return -EINVAL;
    }
    const size_t row_bytes = format_row_bytes(t->format, (size_t)t->n_cols);
    for (uint64_t i = 0; i < n_rows; i++) {
        format_encode_row(t->format, x + i * t->n_cols, w->scale, (size_t)t->n_cols, w->row_bytes);
        const int r = put_bytes(w, w->row_bytes, row_bytes);
        if (r < 0) {
            return r;
        }
    }
    return rows_done(w, t, n_rows);
}

int gguf_writer_raw(struct gguf_writer *w, const void *rows, uint64_t n_rows)
{
    const struct writer_tensor *t = tensor_due(w, n_rows);

    if (!t) {
        return -EINVAL;
    }
    const int r =
        put_bytes(w, rows, (size_t)(format_row_bytes(t->format, (size_t)t->n_cols) * n_rows));
    return r < 0 ? r : rows_done(w, t, n_rows);
}

int gguf_writer_end(struct gguf_writer *w)
{
    if (w->fd < 0 || w->tensor_i != n_tensors(w)) {
        return -EINVAL;
    }
    return fsync(w->fd) < 0 ? -errno : 0;
}
