/* Reader of GGUF v3.
 *
 * One bounded cursor walks the file front to back. A count from the file is compared with the bytes
 * that are left before anything is allocated for it, so memory is proportional to the file. Arrays
 * of arrays are refused instead of being walked: nobody writes them, and refusing keeps the parser
 * free of recursion. Duplicates are found by sorting. */
#include "engine/gguf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"

#define GGUF_MAGIC 0x46554747u /* "GGUF" */
#define GGUF_VERSION 3u
#define GGUF_ALIGNMENT_DEFAULT 32u
#define GGUF_STR_BYTES_MAX ((uint64_t)1 << 31)

/* The shortest key and tensor records there can be: bound the counts by the file's size. */
#define KEY_RECORD_MIN 14u    /* u64 length, 1 byte, u32 type, 1 byte */
#define TENSOR_RECORD_MIN 25u /* u64 length, 1 byte, u32 dims, u32 type, u64 offset */

static const uint8_t value_bytes[GGUF_VALUES] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

static const char *const value_names[GGUF_VALUES] = {
    [GGUF_U8] = "u8",      [GGUF_I8] = "i8",     [GGUF_U16] = "u16", [GGUF_I16] = "i16",
    [GGUF_U32] = "u32",    [GGUF_I32] = "i32",   [GGUF_F32] = "f32", [GGUF_BOOL] = "bool",
    [GGUF_STR] = "string", [GGUF_ARR] = "array", [GGUF_U64] = "u64", [GGUF_I64] = "i64",
    [GGUF_F64] = "f64",
};

static uint64_t offset_of(const struct gguf *g, const void *at)
{
    return at ? (uint64_t)((const uint8_t *)at - g->data) : 0;
}

static int malformed(const struct gguf *g, const struct cursor *c, struct diag *d, const char *what)
{
    diag_set(d, offset_of(g, c->at), "%s", what);
    return GGUF_MALFORMED;
}

/* A GGUF string: u64 length, then the bytes. */
static struct strview read_str(struct cursor *c, uint64_t bytes_max)
{
    const uint64_t n = cursor_u64(c);

    if (n > bytes_max) {
        c->bad = true;
    }
    const uint8_t *p = cursor_take(c, n);
    return (struct strview){.data = (const char *)p, .n = p ? (size_t)n : 0};
}

static int view_cmp(struct strview a, struct strview b)
{
    const size_t n = a.n < b.n ? a.n : b.n;
    const int r = n ? memcmp(a.data, b.data, n) : 0;

    return r != 0 ? r : (a.n > b.n) - (a.n < b.n);
}

/* ---- parsing ---- */

static int skip_array(struct cursor *c, struct gguf_key *key)
{
    const uint32_t elem = cursor_u32(c);

    key->n = cursor_u64(c);
    key->data = c->at;
    if (c->bad || elem >= GGUF_VALUES || elem == GGUF_ARR) {
        return GGUF_MALFORMED;
    }
    key->elem = (enum gguf_value)elem;
    if (elem != GGUF_STR) {
        uint64_t bytes;
        if (__builtin_mul_overflow(key->n, (uint64_t)value_bytes[elem], &bytes)) {
            return GGUF_MALFORMED;
        }
        return cursor_take(c, bytes) ? GGUF_OK : GGUF_MALFORMED;
    }
    if (key->n > cursor_left(c) / 8) {
        return GGUF_MALFORMED;
    }
    for (uint64_t i = 0; i < key->n; i++) {
        (void)read_str(c, GGUF_STR_BYTES_MAX);
        if (c->bad) {
            return GGUF_MALFORMED;
        }
    }
    return GGUF_OK;
}

static int parse_key(struct gguf *g, struct cursor *c, struct gguf_key *key, struct diag *d)
{
    const struct cursor start = *c;

    key->name = read_str(c, GGUF_KEY_BYTES_MAX);
    if (c->bad) {
        return malformed(g, &start, d, "key name is too long or passes the end of the file");
    }
    if (key->name.n == 0) {
        return malformed(g, &start, d, "empty key name");
    }
    const uint32_t type = cursor_u32(c);
    if (c->bad || type >= GGUF_VALUES) {
        diag_set(d, offset_of(g, start.at), "key %.*s: no such value type: %" PRIu32,
                 (int)key->name.n, key->name.data, type);
        return GGUF_MALFORMED;
    }
    key->type = (enum gguf_value)type;
    key->n = 1;
    key->data = c->at;
    int r = GGUF_OK;
    if (type == GGUF_ARR) {
        r = skip_array(c, key);
    } else if (type == GGUF_STR) {
        (void)read_str(c, GGUF_STR_BYTES_MAX);
    } else {
        (void)cursor_take(c, value_bytes[type]);
    }
    key->offset = offset_of(g, key->data);
    if (r != GGUF_OK || c->bad) {
        diag_set(d, key->offset, "key %.*s: the value is broken or passes the end of the file",
                 (int)key->name.n, key->name.data);
        return GGUF_MALFORMED;
    }
    return GGUF_OK;
}

static int key_cmp(const void *a, const void *b)
{
    const struct gguf_key *const *x = a, *const *y = b;

    return view_cmp((*x)->name, (*y)->name);
}

static int refuse_duplicate_keys(const struct gguf *g, struct diag *d)
{
    const struct gguf_key **order;

    if (g->n_keys == 0) {
        return GGUF_OK;
    }
    order = malloc(g->n_keys * sizeof(*order));
    if (!order) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < g->n_keys; i++) {
        order[i] = &g->keys[i];
    }
    qsort(order, g->n_keys, sizeof(*order), key_cmp);

    int r = GGUF_OK;
    for (size_t i = 1; i < g->n_keys; i++) {
        if (key_cmp(&order[i - 1], &order[i]) == 0) {
            diag_set(d, order[i]->offset, "key %.*s appears twice", (int)order[i]->name.n,
                     order[i]->name.data);
            r = GGUF_MALFORMED;
            break;
        }
    }
    free(order);
    return r;
}

static int parse_keys(struct gguf *g, struct cursor *c, uint64_t n_keys, struct diag *d)
{
    if (n_keys > GGUF_KEYS_MAX || n_keys > cursor_left(c) / KEY_RECORD_MIN) {
        diag_set(d, 16, "%" PRIu64 " keys are more than the file can hold or than the limit of %u",
                 n_keys, GGUF_KEYS_MAX);
        return GGUF_MALFORMED;
    }
    if (n_keys > 0) {
        g->keys = calloc((size_t)n_keys, sizeof(*g->keys));
        if (!g->keys) {
            return -ENOMEM;
        }
    }
    for (; g->n_keys < n_keys; g->n_keys++) {
        const int r = parse_key(g, c, &g->keys[g->n_keys], d);
        if (r != GGUF_OK) {
            return r;
        }
    }
    g->keys_end = offset_of(g, c->at);
    return refuse_duplicate_keys(g, d);
}

static int read_alignment(struct gguf *g, struct diag *d)
{
    const int r = gguf_u32(g, "general.alignment", &g->alignment, d);

    if (r == GGUF_ABSENT) {
        g->alignment = GGUF_ALIGNMENT_DEFAULT;
        return GGUF_OK;
    }
    if (r == GGUF_WRONG_TYPE) {
        return GGUF_MALFORMED;
    }
    if (g->alignment == 0 || (g->alignment & (g->alignment - 1)) != 0) {
        diag_set(d, gguf_find(g, "general.alignment")->offset,
                 "general.alignment %" PRIu32 " is no power of two", g->alignment);
        return GGUF_MALFORMED;
    }
    return GGUF_OK;
}

static int parse_dims(struct cursor *c, struct gguf_tensor_info *t)
{
    uint64_t product = 1;

    t->n_dims = cursor_u32(c);
    if (c->bad || t->n_dims > GGUF_DIMS_MAX) {
        return GGUF_MALFORMED;
    }
    for (uint32_t i = 0; i < GGUF_DIMS_MAX; i++) {
        t->dims[i] = i < t->n_dims ? cursor_u64(c) : 1;
        if (c->bad || t->dims[i] == 0 || __builtin_mul_overflow(product, t->dims[i], &product) ||
            product > INT64_MAX) {
            return GGUF_MALFORMED;
        }
    }
    return GGUF_OK;
}

/* Offsets stay relative to the data section until its place is known. */
static int parse_tensor(struct gguf *g, struct cursor *c, struct gguf_tensor_info *t,
                        struct diag *d)
{
    const struct cursor start = *c;

    t->info_offset = offset_of(g, start.at);
    t->name = read_str(c, GGUF_NAME_BYTES_MAX);
    if (c->bad) {
        return malformed(g, &start, d, "tensor name is too long or passes the end of the file");
    }
    if (t->name.n == 0) {
        return malformed(g, &start, d, "empty tensor name");
    }
    if (parse_dims(c, t) != GGUF_OK) {
        diag_set(d, t->info_offset, "tensor %.*s: dimensions are broken", (int)t->name.n,
                 t->name.data);
        return GGUF_MALFORMED;
    }
    t->type = cursor_u32(c);
    t->offset = cursor_u64(c);
    if (c->bad) {
        return malformed(g, &start, d, "the file ends inside a tensor info");
    }
    return GGUF_OK;
}

static int tensor_cmp(const void *a, const void *b, void *ctx)
{
    const struct gguf *g = ctx;
    const size_t *x = a, *y = b;

    return view_cmp(g->tensors[*x].name, g->tensors[*y].name);
}

static int order_tensors(struct gguf *g, struct diag *d)
{
    if (g->n_tensors == 0) {
        return GGUF_OK;
    }
    g->tensor_order = malloc(g->n_tensors * sizeof(*g->tensor_order));
    if (!g->tensor_order) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < g->n_tensors; i++) {
        g->tensor_order[i] = i;
    }
    qsort_r(g->tensor_order, g->n_tensors, sizeof(*g->tensor_order), tensor_cmp, g);
    for (size_t i = 1; i < g->n_tensors; i++) {
        if (tensor_cmp(&g->tensor_order[i - 1], &g->tensor_order[i], g) == 0) {
            const struct gguf_tensor_info *t = &g->tensors[g->tensor_order[i]];
            diag_set(d, t->info_offset, "tensor %.*s appears twice", (int)t->name.n, t->name.data);
            return GGUF_MALFORMED;
        }
    }
    return GGUF_OK;
}

static int place_tensors(struct gguf *g, struct diag *d)
{
    const uint64_t mask = (uint64_t)g->alignment - 1;
    const uint64_t data_at = (g->infos_end + mask) & ~mask; /* both far below 2^63 */

    for (size_t i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor_info *t = &g->tensors[i];
        if ((t->offset & mask) != 0) {
            diag_set(d, t->info_offset,
                     "tensor %.*s: offset %" PRIu64 " is no multiple of %" PRIu32, (int)t->name.n,
                     t->name.data, t->offset, g->alignment);
            return GGUF_MALFORMED;
        }
        if (data_at > g->size || t->offset > g->size - data_at) {
            diag_set(d, t->info_offset,
                     "tensor %.*s: offset %" PRIu64 " passes the end of the file", (int)t->name.n,
                     t->name.data, t->offset);
            return GGUF_MALFORMED;
        }
        t->offset += data_at;
    }
    return GGUF_OK;
}

static int parse_tensors(struct gguf *g, struct cursor *c, uint64_t n_tensors, struct diag *d)
{
    int r;

    if (n_tensors > GGUF_TENSORS_MAX || n_tensors > cursor_left(c) / TENSOR_RECORD_MIN) {
        diag_set(d, 8,
                 "%" PRIu64 " tensors are more than the file can hold or than the limit of %u",
                 n_tensors, GGUF_TENSORS_MAX);
        return GGUF_MALFORMED;
    }
    if (n_tensors > 0) {
        g->tensors = calloc((size_t)n_tensors, sizeof(*g->tensors));
        if (!g->tensors) {
            return -ENOMEM;
        }
    }
    for (; g->n_tensors < n_tensors; g->n_tensors++) {
        r = parse_tensor(g, c, &g->tensors[g->n_tensors], d);
        if (r != GGUF_OK) {
            return r;
        }
    }
    g->infos_end = offset_of(g, c->at);
    r = order_tensors(g, d);
    if (r == GGUF_OK) {
        r = place_tensors(g, d);
    }
    return r;
}

int gguf_parse(struct gguf *ret, const void *data, size_t size, struct diag *ret_diag)
{
    struct gguf g = {.data = data, .size = size};
    struct cursor c = cursor_of(data, size);

    const uint32_t magic = cursor_u32(&c);
    if (c.bad || magic != GGUF_MAGIC) {
        diag_set(ret_diag, 0, "not a GGUF file");
        return GGUF_MALFORMED;
    }
    const uint32_t version = cursor_u32(&c);
    if (!c.bad && version != GGUF_VERSION) {
        diag_set(ret_diag, 4, "GGUF version %" PRIu32 "; this reads version %u", version,
                 GGUF_VERSION);
        return GGUF_MALFORMED;
    }
    const uint64_t n_tensors = cursor_u64(&c);
    const uint64_t n_keys = cursor_u64(&c);
    if (c.bad) {
        diag_set(ret_diag, size, "the file ends inside its header");
        return GGUF_MALFORMED;
    }

    int r = parse_keys(&g, &c, n_keys, ret_diag);
    if (r == GGUF_OK) {
        r = read_alignment(&g, ret_diag);
    }
    if (r == GGUF_OK) {
        r = parse_tensors(&g, &c, n_tensors, ret_diag);
    }
    if (r != GGUF_OK) {
        gguf_deinit(&g);
        return r;
    }
    *ret = g;
    return GGUF_OK;
}

void gguf_deinit(struct gguf *g)
{
    free(g->keys);
    free(g->tensors);
    free(g->tensor_order);
    *g = (struct gguf){0};
}

/* ---- finding ---- */

const struct gguf_key *gguf_find(const struct gguf *g, const char *name)
{
    const struct strview want = strview_of(name);

    for (size_t i = 0; i < g->n_keys; i++) {
        if (strview_eq(g->keys[i].name, want)) {
            return &g->keys[i];
        }
    }
    return NULL;
}

const struct gguf_tensor_info *gguf_tensor_find(const struct gguf *g, const char *name)
{
    const struct strview want = strview_of(name);
    size_t lo = 0, hi = g->n_tensors;

    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const struct gguf_tensor_info *t = &g->tensors[g->tensor_order[mid]];
        const int r = view_cmp(t->name, want);
        if (r == 0) {
            return t;
        }
        if (r < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return NULL;
}

uint64_t gguf_key_offset(const struct gguf *g, const char *name)
{
    const struct gguf_key *key = gguf_find(g, name);

    return key ? key->offset : g->keys_end;
}

/* ---- typed reads ---- */

static int wrong_type(const struct gguf_key *key, const char *want, struct diag *d)
{
    diag_set(d, key->offset, "key %.*s: want %s, the file has %s%s%s", (int)key->name.n,
             key->name.data, want, value_names[key->type], key->type == GGUF_ARR ? " of " : "",
             key->type == GGUF_ARR ? value_names[key->elem] : "");
    return GGUF_WRONG_TYPE;
}

/* The value's bits, sign-extended for the signed types. Only for scalars of at most 8 bytes. */
static uint64_t scalar_bits(const struct gguf_key *key)
{
    const unsigned n = value_bytes[key->type];
    struct cursor c = cursor_of(key->data, n);
    uint64_t v = cursor_le(&c, n);

    if ((key->type == GGUF_I8 || key->type == GGUF_I16 || key->type == GGUF_I32) &&
        (v >> (8 * n - 1)) != 0) {
        v |= ~UINT64_C(0) << (8 * n);
    }
    return v;
}

int gguf_u32(const struct gguf *g, const char *name, uint32_t *ret, struct diag *d)
{
    const struct gguf_key *key = gguf_find(g, name);

    if (!key) {
        return GGUF_ABSENT;
    }
    switch (key->type) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_U16:
    case GGUF_I16:
    case GGUF_U32:
    case GGUF_I32:
    case GGUF_U64:
    case GGUF_I64:
        break;
    default:
        return wrong_type(key, "a non-negative integer", d);
    }
    const uint64_t v = scalar_bits(key); /* negative values are huge here */
    if (v > UINT32_MAX) {
        diag_set(d, key->offset, "key %s: the number is negative or too large", name);
        return GGUF_WRONG_TYPE;
    }
    *ret = (uint32_t)v;
    return GGUF_FOUND;
}

int gguf_f32(const struct gguf *g, const char *name, float *ret, struct diag *d)
{
    const struct gguf_key *key = gguf_find(g, name);

    if (!key) {
        return GGUF_ABSENT;
    }
    if (key->type == GGUF_F32) {
        const uint32_t bits = (uint32_t)scalar_bits(key);
        memcpy(ret, &bits, sizeof(bits));
        return GGUF_FOUND;
    }
    if (key->type == GGUF_F64) {
        const uint64_t bits = scalar_bits(key);
        double v;
        memcpy(&v, &bits, sizeof(v));
        *ret = (float)v;
        return GGUF_FOUND;
    }
    return wrong_type(key, "a float", d);
}

int gguf_bool(const struct gguf *g, const char *name, bool *ret, struct diag *d)
{
    const struct gguf_key *key = gguf_find(g, name);

    if (!key) {
        return GGUF_ABSENT;
    }
    if (key->type != GGUF_BOOL) {
        return wrong_type(key, "a bool", d);
    }
    *ret = key->data[0] != 0;
    return GGUF_FOUND;
}

int gguf_str(const struct gguf *g, const char *name, struct strview *ret, struct diag *d)
{
    const struct gguf_key *key = gguf_find(g, name);

    if (!key) {
        return GGUF_ABSENT;
    }
    if (key->type != GGUF_STR) {
        return wrong_type(key, "a string", d);
    }
    struct gguf_str_iter it = {.at = key->data, .left = 1};
    (void)gguf_str_next(&it, ret);
    return GGUF_FOUND;
}

int gguf_array(const struct gguf *g, const char *name, enum gguf_value elem,
               const struct gguf_key **ret, struct diag *d)
{
    const struct gguf_key *key = gguf_find(g, name);

    if (!key) {
        return GGUF_ABSENT;
    }
    if (key->type != GGUF_ARR || key->elem != elem) {
        char want[32] = "an array of ";
        strncat(want, value_names[elem], sizeof(want) - strlen(want) - 1);
        return wrong_type(key, want, d);
    }
    *ret = key;
    return GGUF_FOUND;
}

struct gguf_str_iter gguf_strings(const struct gguf_key *key)
{
    return (struct gguf_str_iter){.at = key->data, .left = key->n};
}

bool gguf_str_next(struct gguf_str_iter *it, struct strview *ret)
{
    if (it->left == 0) {
        return false;
    }
    struct cursor c = cursor_of(it->at, 8);
    const uint64_t n = cursor_u64(&c); /* gguf_parse() has checked it against the file */
    *ret = (struct strview){.data = (const char *)it->at + 8, .n = (size_t)n};
    it->at += 8 + n;
    it->left--;
    return true;
}
