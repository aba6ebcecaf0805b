#include "engine/tensor_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/gguf.h"

#define READINGS_MAX 4u

/* Formats that others write under a number of ours. */
static const struct {
    uint32_t id;
    const char *name;
    uint32_t block, block_bytes;
} others[] = {
    {42, "STQ1_0", 256, 42},  /* Tencent's Sherry files */
    {142, "IQ2_TN", 256, 66}, /* ik_llama.cpp, withdrawn */
};

/* One way to read a tensor. */
struct reading {
    const char *name;
    enum format format; /* FORMATS: one that this engine does not run */
    uint64_t bytes;
};

struct readings {
    struct reading list[READINGS_MAX];
    size_t n;
    char names[64]; /* of all with this number, whether or not the dimensions suit them; "": none */
};

/* ---- spaces ---- */

static int compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

int tensor_spaces_init(struct tensor_spaces *ret, const struct gguf *g)
{
    ret->n = g->n_tensors;
    ret->offsets = calloc(ret->n ? ret->n : 1, sizeof(*ret->offsets));
    if (!ret->offsets) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < ret->n; i++) {
        ret->offsets[i] = g->tensors[i].offset;
    }
    qsort(ret->offsets, ret->n, sizeof(*ret->offsets), compare);
    return 0;
}

void tensor_spaces_deinit(struct tensor_spaces *s)
{
    free(s->offsets);
    s->offsets = NULL;
}

/* Bytes from a tensor's beginning to the next greater offset, or to the end of the file. */
static uint64_t space_of(const struct gguf *g, const struct tensor_spaces *s,
                         const struct gguf_tensor_info *t, bool *ret_last)
{
    size_t low = 0, high = s->n;

    while (low < high) { /* the first offset beyond the tensor's own */
        const size_t mid = low + (high - low) / 2;
        if (s->offsets[mid] > t->offset) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    *ret_last = low == s->n;
    return (*ret_last ? g->size : s->offsets[low]) - t->offset;
}

/* ---- readings ---- */

static uint64_t rows_of(const struct gguf_tensor_info *t)
{
    return t->dims[1] * t->dims[2] * t->dims[3]; /* their product was checked */
}

static void add_reading(struct readings *r, const char *name, enum format f, uint64_t bytes)
{
    if (r->n < READINGS_MAX) {
        r->list[r->n++] = (struct reading){.name = name, .format = f, .bytes = bytes};
    }
}

static void add_name(struct readings *r, const char *name)
{
    const size_t at = strlen(r->names);

    (void)snprintf(r->names + at, sizeof(r->names) - at, "%s%s", at ? " or " : "", name);
}

static void find_readings(const struct gguf_tensor_info *t, struct readings *ret)
{
    uint64_t bytes;

    *ret = (struct readings){0};
    for (unsigned f = 0; f < FORMATS; f++) {
        const struct format_info *info = format_info((enum format)f);
        if (info->id != t->type) {
            continue;
        }
        add_name(ret, info->name);
        if (format_tensor_bytes((enum format)f, t->dims[0], rows_of(t), &bytes)) {
            add_reading(ret, info->name, (enum format)f, bytes);
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        if (others[i].id != t->type) {
            continue;
        }
        add_name(ret, others[i].name);
        if (t->dims[0] % others[i].block == 0 && t->dims[0] <= KERN_COLS_MAX &&
            !__builtin_mul_overflow(t->dims[0] / others[i].block * others[i].block_bytes,
                                    rows_of(t), &bytes)) {
            add_reading(ret, others[i].name, FORMATS, bytes);
        }
    }
}

static bool fits(const struct reading *r, const struct gguf *g, uint64_t space, bool last,
                 bool only)
{
    const uint64_t mask = (uint64_t)g->alignment - 1;

    if (r->bytes > space) {
        return false;
    }
    if (last) { /* the padding after the last tensor may be missing */
        return only || space - r->bytes <= (-r->bytes & mask);
    }
    return space - r->bytes == (-r->bytes & mask);
}

/* "Q2_0 (288 bytes) or Q2_0_g128 (272 bytes)" */
static void list_readings(const struct readings *r, char *ret, size_t n)
{
    size_t at = 0;

    ret[0] = '\0';
    for (size_t i = 0; i < r->n && at < n; i++) {
        at += (size_t)snprintf(ret + at, n - at, "%s%s (%" PRIu64 " bytes)", i ? " or " : "",
                               r->list[i].name, r->list[i].bytes);
    }
}

static int refuse_many(const struct gguf_tensor_info *t, const struct readings *fitting,
                       struct diag *d)
{
    char names[160];

    list_readings(fitting, names, sizeof(names));
    diag_set(d, t->info_offset,
             "tensor %.*s: type %" PRIu32 " could be %s, and nothing tells which", (int)t->name.n,
             t->name.data, t->type, names);
    return MODEL_MALFORMED;
}

static int refuse_none(const struct gguf_tensor_info *t, const struct readings *r, uint64_t space,
                       struct diag *d)
{
    char names[160];

    list_readings(r, names, sizeof(names));
    diag_set(d, t->info_offset,
             "tensor %.*s: type %" PRIu32 " is %s, and the file has %" PRIu64 " bytes for it",
             (int)t->name.n, t->name.data, t->type, names, space);
    return MODEL_MALFORMED;
}

static int refuse_number(const struct gguf_tensor_info *t, const struct readings *r, struct diag *d)
{
    const char *foreign = format_foreign_name(t->type);

    if (r->names[0] != '\0') {
        diag_set(d, t->info_offset, "tensor %.*s: rows of %" PRIu64 " are no whole %s blocks",
                 (int)t->name.n, t->name.data, t->dims[0], r->names);
        return MODEL_MALFORMED;
    }
    if (foreign) {
        diag_set(d, t->info_offset, "tensor %.*s: format %s is unsupported", (int)t->name.n,
                 t->name.data, foreign);
        return MODEL_UNSUPPORTED;
    }
    diag_set(d, t->info_offset, "tensor %.*s: no such format: %" PRIu32, (int)t->name.n,
             t->name.data, t->type);
    return MODEL_MALFORMED;
}

int tensor_format(const struct gguf *g, const struct tensor_spaces *spaces,
                  const struct gguf_tensor_info *t, enum format *ret, struct diag *ret_diag)
{
    struct readings r, fitting = {0};
    bool last;

    find_readings(t, &r);
    if (r.n == 0) {
        return refuse_number(t, &r, ret_diag);
    }
    const uint64_t space = space_of(g, spaces, t, &last);
    for (size_t i = 0; i < r.n; i++) {
        if (fits(&r.list[i], g, space, last, r.n == 1)) {
            fitting.list[fitting.n++] = r.list[i];
        }
    }
    if (fitting.n > 1) {
        return refuse_many(t, &fitting, ret_diag);
    }
    if (fitting.n == 0 && r.n == 1 && r.list[0].bytes > g->size - t->offset) {
        diag_set(ret_diag, t->offset, "tensor %.*s passes the end of the file", (int)t->name.n,
                 t->name.data);
        return MODEL_MALFORMED;
    }
    if (fitting.n == 0) {
        return refuse_none(t, &r, space, ret_diag);
    }
    const struct reading *found = &fitting.list[0];
    if (found->format == FORMATS) {
        diag_set(ret_diag, t->info_offset, "tensor %.*s: format %s is unsupported", (int)t->name.n,
                 t->name.data, found->name);
        return MODEL_UNSUPPORTED;
    }
    *ret = found->format;
    return MODEL_OK;
}
