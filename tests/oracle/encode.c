/* Encoders against bytes that other programs wrote.
 *
 * Goal: what we write is, byte for byte, what the formats' own tools write for the same weights.
 * Method, three kinds of comparison:
 * - twins: files of the same weights in two formats. One is decoded, encoded in the other's format,
 * and every
 *   tensor compared whole (but for the padding behind I2_S's scale);
 * - files that the reference encoder made: each is decoded and encoded again. Decoded weights are
 * ones
 *   that the format can hold, so the same codes and scales must come back;
 * - the recorded blocks that the reference encoder made, likewise.
 * Skipped, loudly, without the data. Weights before their first rounding are not among it: for
 * those, tests/lab/test_quantize.py has the formulas a second time. */
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/format.h"
#include "engine/gguf.h"

#define SKIP 77
#define COLS_MAX 4096u
#define BYTES_MAX 8192u

struct count {
    size_t tensors, bytes, wrong; /* wrong: bytes that differ */
};

static const char *shared(void)
{
    const char *root = getenv("ONEBIT_SHARED");

    return root ? root : "";
}

/* ---- files ---- */

struct file {
    void *data; /* mapped */
    size_t size;
    struct gguf gguf;
};

static bool file_open(struct file *ret, const char *name)
{
    char path[4096];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/oracle/logits/%s.gguf", shared(), name);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return false;
    }
    ret->size = (size_t)st.st_size;
    ret->data = mmap(NULL, ret->size, PROT_READ, MAP_PRIVATE, fd, 0);
    (void)close(fd);
    return ret->data != MAP_FAILED && gguf_parse(&ret->gguf, ret->data, ret->size, NULL) == GGUF_OK;
}

static void file_close(struct file *f)
{
    gguf_deinit(&f->gguf);
    (void)munmap(f->data, f->size);
}

struct matrix {
    enum format format;
    size_t n_cols;
    uint64_t n_rows;
    const uint8_t *data;
    float scale; /* of the tensor */
};

static bool matrix_of(const struct file *f, const struct gguf_tensor_info *t, struct matrix *ret)
{
    uint64_t bytes;

    if (t->n_dims != 2 || t->dims[0] > COLS_MAX || !format_of_id(t->type, &ret->format) ||
        !format_tensor_bytes(ret->format, t->dims[0], t->dims[1], &bytes) ||
        bytes > f->size - t->offset) {
        return false;
    }
    ret->n_cols = (size_t)t->dims[0];
    ret->n_rows = t->dims[1];
    ret->data = (const uint8_t *)f->data + t->offset;
    ret->scale = format_tensor_scale(ret->format, ret->data, ret->n_cols, ret->n_rows);
    return true;
}

/* ---- comparing ---- */

/* x, a row, is encoded as the bytes of `want`. */
static void compare_row(enum format f, const float *x, float scale, size_t n, const uint8_t *want,
                        struct count *c)
{
    const size_t bytes = format_row_bytes(f, n);
    uint8_t got[COLS_MAX * 4];

    format_encode_row(f, x, scale, n, got);
    for (size_t i = 0; i < bytes; i++) {
        c->wrong += got[i] != want[i];
    }
    c->bytes += bytes;
}

static float amax_of(const struct matrix *m)
{
    float x[COLS_MAX], amax = 0;

    for (uint64_t r = 0; r < m->n_rows; r++) {
        format_decode_row(m->format, m->data + r * format_row_bytes(m->format, m->n_cols), m->scale,
                          m->n_cols, x);
        for (size_t i = 0; i < m->n_cols; i++) {
            amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
        }
    }
    return amax;
}

static void compare_matrix(const struct matrix *from, const struct matrix *to, struct count *c)
{
    const float scale = amax_of(from);
    uint8_t tail[64];
    float x[COLS_MAX];

    for (uint64_t r = 0; r < from->n_rows; r++) {
        format_decode_row(from->format,
                          from->data + r * format_row_bytes(from->format, from->n_cols),
                          from->scale, from->n_cols, x);
        compare_row(to->format, x, scale, from->n_cols,
                    to->data + r * format_row_bytes(to->format, to->n_cols), c);
    }
    format_encode_tail(to->format, scale, tail);
    if (format_info(to->format)->tail_bytes > 0) {
        c->wrong += memcmp(tail, &to->scale, sizeof(to->scale)) != 0;
    }
    c->tensors++;
}

/* Every matrix of `to` in a format that we encode, made from the matrix of that name in `from`. */
static bool check_files(const char *from_name, const char *to_name)
{
    struct file from, to;
    struct count c = {0};

    if (!file_open(&from, from_name) || !file_open(&to, to_name)) {
        printf("FAIL %s, %s: cannot be read\n", from_name, to_name);
        return false;
    }
    for (size_t i = 0; i < to.gguf.n_tensors; i++) {
        char name[GGUF_NAME_BYTES_MAX + 1] = "";
        struct matrix a, b;
        memcpy(name, to.gguf.tensors[i].name.data, to.gguf.tensors[i].name.n);
        const struct gguf_tensor_info *twin = gguf_tensor_find(&from.gguf, name);
        if (matrix_of(&to, &to.gguf.tensors[i], &b) && format_can_encode(b.format) && twin &&
            matrix_of(&from, twin, &a) && a.n_cols == b.n_cols && a.n_rows == b.n_rows) {
            compare_matrix(&a, &b, &c);
        }
    }
    const bool ok = c.wrong == 0 && c.bytes > 0;
    printf("%s %s -> %s: %zu tensors, %zu bytes, %zu wrong\n", ok ? "ok  " : "FAIL", from_name,
           to_name, c.tensors, c.bytes, c.wrong);
    file_close(&from);
    file_close(&to);
    return ok;
}

/* ---- recorded blocks ---- */

static size_t unhex(const char *hex, uint8_t *out, size_t max)
{
    size_t n = 0;
    unsigned byte;

    while (n < max && sscanf(hex + 2 * n, "%2x", &byte) == 1) {
        out[n++] = (uint8_t)byte;
    }
    return n;
}

/* One row, or one tensor of rows, as recorded. */
static bool check_record(enum format f, const json_t *record, struct count *c)
{
    const json_t *values = json_object_get(record, "values"), *ne = json_object_get(record, "ne");
    const size_t n = json_array_size(values);
    const size_t cols = ne ? (size_t)json_integer_value(json_array_get(ne, 0)) : n;
    uint8_t bytes[BYTES_MAX];
    float x[COLS_MAX], scale = 0;

    if (n == 0 || n > COLS_MAX || n % cols != 0 ||
        unhex(json_string_value(json_object_get(record, "hex")), bytes, sizeof(bytes)) <
            format_row_bytes(f, cols) * (n / cols)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)json_number_value(json_array_get(values, i));
        scale = fabsf(x[i]) > scale ? fabsf(x[i]) : scale;
    }
    for (size_t r = 0; r < n / cols; r++) {
        compare_row(f, x + r * cols, scale, cols, bytes + r * format_row_bytes(f, cols), c);
    }
    return true;
}

static bool check_records(enum format f)
{
    struct count c = {0};
    char path[4096];
    json_t *record;
    size_t i;
    bool ok = true;

    (void)snprintf(path, sizeof(path), "%s/oracle/quant/%s.json", shared(), format_info(f)->name);
    json_t *file = json_load_file(path, 0, NULL);
    json_array_foreach(json_object_get(file, "blocks"), i, record)
    {
        if (strstr(json_string_value(json_object_get(record, "what")), "encoder")) {
            ok = check_record(f, record, &c) && ok;
        }
    }
    json_array_foreach(json_object_get(file, "tensors"), i, record)
    {
        ok = check_record(f, record, &c) && ok;
    }
    json_decref(file);
    ok = ok && c.bytes > 0 && c.wrong == 0;
    printf("%s recorded %s: %zu bytes, %zu wrong\n", ok ? "ok  " : "FAIL", format_info(f)->name,
           c.bytes, c.wrong);
    return ok;
}

int main(void)
{
    static const char *const files[][2] = {
        {"bitnet-f16", "bitnet-tq1_0"},
        {"bitnet-f16", "bitnet-tq2_0"},
        {"bitnet-tq1_0", "bitnet-tq2_0"},
        {"bitnet-tq2_0", "bitnet-tq1_0"},
        {"bitnet-tq2_0", "bitnet-f16"},
        {"bitnet158-f16", "bitnet158-i2_s"},
        {"bitnet158-i2_s", "bitnet158-f16"},
        {"bitnet158-i2_s-512", "bitnet158-iq2_bn"},
        {"bitnet158-iq2_bn", "bitnet158-i2_s-512"},
        {"bitnet158-i2_s-384", "bitnet158-i2_s-384"},
        {"bitnet-tq2_0-blockscale", "bitnet-tq2_0-blockscale"},
        {"bitnet-tq1_0-scale", "bitnet-tq1_0-scale"},
        {"llama-q4_0", "llama-q4_0"},
        {"llama-q8_0", "llama-q8_0"},
        {"llama-bf16", "llama-bf16"},
        {"qwen3-q1_0", "qwen3-q1_0"},
        {"qwen3-q2_0", "qwen3-q2_0"},
        {"qwen3-q2_0-tern", "qwen3-q2_0-tern"},
        {"qwen3-q8_0", "qwen3-q8_0"},
    };
    static const enum format recorded[] = {
        FORMAT_F16,  FORMAT_BF16,  FORMAT_Q8_0,  FORMAT_Q4_0, FORMAT_Q1_0,
        FORMAT_Q2_0, FORMAT_TQ1_0, FORMAT_TQ2_0, FORMAT_I2_S, FORMAT_IQ2_BN,
    };
    size_t n_failed = 0;
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s/oracle/logits", shared());
    if (access(path, R_OK) < 0) {
        printf("SKIPPED: %s is absent\n", path);
        return SKIP;
    }
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        n_failed += !check_files(files[i][0], files[i][1]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(recorded); i++) {
        n_failed += !check_records(recorded[i]);
    }
    return n_failed == 0 ? 0 : 1;
}
