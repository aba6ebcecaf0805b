/* field: reads and packs maps by tables of rows.
 *
 * A reader that is written key by key forgets a bound somewhere; here a key without bounds cannot
 * be written down. The value of a row is checked before it is stored, so a struct never holds a
 * number outside its row. */
#include "ipc/field.h"

#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ipc/mp.h"

static uint64_t offset(const struct field_in *in)
{
    return (uint64_t)(in->c.at - in->base);
}

bool field_refuse(struct field_in *in, const char *key, const char *want)
{
    diag_set(in->diag, offset(in), "%s: %s", key, want);
    return false;
}

static bool refuse_range(struct field_in *in, const struct field *f, const char *what)
{
    diag_set(in->diag, offset(in), "%s: want %s from %" PRIu64 " to %" PRIu64, f->key, what, f->min,
             f->max);
    return false;
}

static bool read_bool(struct field_in *in, const struct field *f, void *to)
{
    struct mp_value v;

    if (!mp_next(&in->c, &v) || v.type != MP_BOOL) {
        return field_refuse(in, f->key, "want true or false");
    }
    memcpy(to, &v.b, sizeof(v.b));
    return true;
}

static bool read_whole(struct field_in *in, const struct field *f, void *to)
{
    struct mp_value v;

    if (!mp_next(&in->c, &v) || v.type != MP_INT || v.negative || v.u < f->min || v.u > f->max) {
        return refuse_range(in, f, "a whole number");
    }
    const uint16_t u16 = (uint16_t)v.u;
    const uint32_t u32 = (uint32_t)v.u;
    switch (f->kind) {
    case FIELD_U16:
        assert(f->max <= UINT16_MAX);
        memcpy(to, &u16, sizeof(u16));
        break;
    case FIELD_U64:
        memcpy(to, &v.u, sizeof(v.u));
        break;
    default: /* FIELD_U32, FIELD_I32 */
        assert(f->max <= (f->kind == FIELD_I32 ? (uint64_t)INT32_MAX : UINT32_MAX));
        memcpy(to, &u32, sizeof(u32));
        break;
    }
    return true;
}

/* Bounds are held against the float that will be used, not the double that came. */
static bool read_f32(struct field_in *in, const struct field *f, void *to)
{
    struct mp_value v;

    if (mp_next(&in->c, &v) && (v.type == MP_FLOAT || v.type == MP_INT) && isfinite(v.f) &&
        fabs(v.f) <= (double)FLT_MAX) {
        const float x = (float)v.f;
        if (x >= f->lo && x <= f->hi) {
            memcpy(to, &x, sizeof(x));
            return true;
        }
    }
    diag_set(in->diag, offset(in), "%s: want a number in %s", f->key, f->range);
    return false;
}

static bool read_text(struct field_in *in, const struct field *f, struct strview *to)
{
    struct mp_value v;
    const bool ok =
        mp_next(&in->c, &v) && (v.type == MP_STR || (v.type == MP_BIN && f->kind == FIELD_BYTES));

    if (!ok || v.str.n < f->min || v.str.n > f->max) {
        return refuse_range(in, f,
                            f->kind == FIELD_BYTES ? "a string with a length in bytes"
                                                   : "UTF-8 text with a length in bytes");
    }
    *to = v.str;
    return true;
}

static bool read_word(struct field_in *in, const struct field *f, void *to)
{
    struct mp_value v;
    char all[160] = "";
    size_t at = 0;

    if (mp_next(&in->c, &v) && v.type == MP_STR) {
        for (unsigned i = (unsigned)f->min; i < f->max; i++) {
            if (strview_is(v.str, f->word(i))) {
                memcpy(to, &i, sizeof(i));
                return true;
            }
        }
    }
    for (unsigned i = (unsigned)f->min; i < f->max && at < sizeof(all); i++) {
        const int n = snprintf(all + at, sizeof(all) - at, "%s%s", at ? ", " : "", f->word(i));
        at += n > 0 ? (size_t)n : 0;
    }
    diag_set(in->diag, offset(in), "%s: want one of %s", f->key, all);
    return false;
}

static bool read_texts(struct field_in *in, const struct field *f, uint8_t *obj)
{
    struct strview *to = (struct strview *)(void *)(obj + f->at);
    struct mp_value v;

    if (!mp_next(&in->c, &v) || v.type != MP_ARRAY || v.n > f->items_max) {
        diag_set(in->diag, offset(in), "%s: want an array of at most %" PRIu32 " strings", f->key,
                 f->items_max);
        return false;
    }
    for (uint32_t i = 0; i < v.n; i++) {
        if (!read_text(in, f, &to[i])) {
            return false;
        }
    }
    const size_t n = v.n;
    memcpy(obj + f->n_at, &n, sizeof(n));
    return true;
}

static bool read_ids(struct field_in *in, const struct field *f, struct msg_ids *to)
{
    struct mp_value v;

    if (!mp_next(&in->c, &v) || v.type != MP_ARRAY || v.n < f->min || v.n > f->max) {
        return refuse_range(in, f, "an array with a number of ids");
    }
    const struct msg_ids ids = {.at = in->c, .n = v.n};
    for (uint32_t i = 0; i < ids.n; i++) {
        if (!mp_next(&in->c, &v) || v.type != MP_INT || v.negative || v.u > INT32_MAX) {
            return field_refuse(in, f->key, "want whole numbers from 0 to 2147483647");
        }
    }
    *to = ids;
    return true;
}

static bool read_value(struct field_in *in, const struct field *f, void *obj)
{
    uint8_t *to = (uint8_t *)obj + f->at;

    switch (f->kind) {
    case FIELD_BOOL:
        return read_bool(in, f, to);
    case FIELD_U16:
    case FIELD_U32:
    case FIELD_U64:
    case FIELD_I32:
        return read_whole(in, f, to);
    case FIELD_F32:
        return read_f32(in, f, to);
    case FIELD_TEXT:
    case FIELD_BYTES:
        return read_text(in, f, (struct strview *)(void *)to);
    case FIELD_WORD:
        return read_word(in, f, to);
    case FIELD_TEXTS:
        return read_texts(in, f, obj);
    case FIELD_IDS:
        return read_ids(in, f, (struct msg_ids *)(void *)to);
    case FIELD_OWN:
        return f->read(in, obj);
    }
    return false;
}

static size_t find(const struct field *rows, size_t n, struct strview key)
{
    size_t i = 0;

    while (i < n && !strview_is(key, rows[i].key)) {
        i++;
    }
    return i;
}

bool fields_read(struct field_in *in, uint32_t pairs, const struct field *rows, size_t n, void *obj,
                 uint64_t *ret_seen)
{
    static const bool yes = true;
    uint64_t seen = 0;

    assert(n <= 64);
    for (uint32_t k = 0; k < pairs; k++) {
        struct mp_value key;
        if (!mp_next(&in->c, &key) || key.type != MP_STR) {
            return field_refuse(in, "map", "want keys that are strings");
        }
        const size_t i = find(rows, n, key.str);
        if (i == n) {
            if (!mp_skip(&in->c)) {
                return field_refuse(in, "map", "want a value");
            }
            continue;
        }
        if (seen >> i & 1) {
            return field_refuse(in, rows[i].key, "given twice");
        }
        if (!read_value(in, &rows[i], obj)) {
            return false;
        }
        seen |= UINT64_C(1) << i;
        if (rows[i].has_at) {
            memcpy((uint8_t *)obj + rows[i].has_at, &yes, sizeof(yes));
        }
    }
    for (size_t i = 0; i < n; i++) {
        if ((rows[i].flags & FIELD_REQUIRED) && !(seen >> i & 1)) {
            return field_refuse(in, rows[i].key, "missing");
        }
    }
    *ret_seen = seen;
    return true;
}

/* --- packing --- */

static uint64_t whole(const struct field *f, const uint8_t *from)
{
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;

    switch (f->kind) {
    case FIELD_U16:
        memcpy(&u16, from, sizeof(u16));
        return u16;
    case FIELD_U64:
        memcpy(&u64, from, sizeof(u64));
        return u64;
    default:
        memcpy(&u32, from, sizeof(u32));
        return u32;
    }
}

static float f32(const uint8_t *from)
{
    float x;
    memcpy(&x, from, sizeof(x));
    return x;
}

static struct strview text(const uint8_t *from)
{
    struct strview s;
    memcpy(&s, from, sizeof(s));
    return s;
}

static bool present(const struct field *f, const uint8_t *obj, const struct field_extra *x)
{
    const uint8_t *from = obj + f->at;
    size_t n;

    if (f->when) {
        return f->when(obj, x);
    }
    if (f->flags & (FIELD_REQUIRED | FIELD_ALWAYS)) {
        return true;
    }
    if (f->has_at) {
        return obj[f->has_at] != 0;
    }
    switch (f->kind) {
    case FIELD_BOOL:
        return *from != 0;
    case FIELD_F32:
        return f32(from) != 0.0f;
    case FIELD_TEXT:
    case FIELD_BYTES:
        return text(from).n > 0;
    case FIELD_TEXTS:
        memcpy(&n, obj + f->n_at, sizeof(n));
        return n > 0;
    case FIELD_IDS:
        return x->n_ids > 0;
    case FIELD_OWN:
        return true;
    default:
        return whole(f, from) != 0;
    }
}

static void write_texts(struct packer *p, const struct field *f, const uint8_t *obj)
{
    size_t n;

    memcpy(&n, obj + f->n_at, sizeof(n));
    assert(n <= f->items_max);
    pack_array(p, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        pack_str(p, text(obj + f->at + i * sizeof(struct strview)));
    }
}

static void write_ids(struct packer *p, const struct field *f, const struct field_extra *x)
{
    assert(x->n_ids <= f->max);
    pack_array(p, (uint32_t)x->n_ids);
    for (size_t i = 0; i < x->n_ids && p->error == 0; i++) {
        pack_int(p, x->ids[i]);
    }
}

static void write_value(struct packer *p, const struct field *f, const uint8_t *obj,
                        const struct field_extra *x)
{
    const uint8_t *from = obj + f->at;

    switch (f->kind) {
    case FIELD_BOOL:
        pack_bool(p, *from != 0);
        break;
    case FIELD_F32:
        pack_f32(p, f32(from));
        break;
    case FIELD_TEXT:
    case FIELD_BYTES:
        pack_str(p, text(from));
        break;
    case FIELD_WORD:
        pack_z(p, f->word((unsigned)whole(f, from)));
        break;
    case FIELD_TEXTS:
        write_texts(p, f, obj);
        break;
    case FIELD_IDS:
        write_ids(p, f, x);
        break;
    case FIELD_OWN:
        f->write(p, obj, x);
        break;
    default:
        pack_uint(p, whole(f, from));
        break;
    }
}

uint32_t fields_count(const struct field *rows, size_t n, const void *obj,
                      const struct field_extra *x)
{
    uint32_t count = 0;

    for (size_t i = 0; i < n; i++) {
        count += present(&rows[i], obj, x);
    }
    return count;
}

void fields_write(struct packer *p, const struct field *rows, size_t n, const void *obj,
                  const struct field_extra *x)
{
    for (size_t i = 0; i < n; i++) {
        if (present(&rows[i], obj, x)) {
            pack_z(p, rows[i].key);
            write_value(p, &rows[i], obj, x);
        }
    }
}
