#include "tests/fuzz/mp_differential.h"

#include <stdbool.h>
#include <string.h>

#include <msgpack.h>

#include "ipc/mp.h"

#define COUNT_MAX 65536u /* elements that msgpack-c may allocate for on a claim alone */

/* The elements that an array or map of this head claims to own; 0 with *ret_head false for other
 * heads. Unlike mp_next() this believes any count, as msgpack-c does. */
static uint64_t claimed(struct cursor *c, bool *ret_head)
{
    const uint8_t tag = *c->at;
    const bool is_map = tag < 0x90 || tag == 0xde || tag == 0xdf;
    uint64_t n;

    *ret_head = (tag >= 0x80 && tag < 0xa0) || (tag >= 0xdc && tag <= 0xdf);
    if (!*ret_head) {
        return 0;
    }
    (void)cursor_u8(c);
    n = tag < 0xa0 ? tag & 0x0f : cursor_be(c, tag & 1 ? 4 : 2);
    return is_map ? 2 * n : n;
}

/* We refused it. May msgpack-c be asked, too? Not where a limit of ours alone speaks, nor where it
 * would allocate for a count that nothing stands behind. */
static bool is_comparable_refusal(const uint8_t *data, size_t n)
{
    struct cursor c = cursor_of(data, n);
    uint64_t owed[MP_DEPTH_MAX];
    unsigned depth = 0;
    struct mp_value v;

    while (cursor_left(&c) > 0) {
        const uint8_t tag = *c.at;
        bool head;
        const uint64_t elements = claimed(&c, &head);
        if ((tag >= 0xc7 && tag <= 0xc9) || (tag >= 0xd4 && tag <= 0xd8)) {
            return false; /* extensions: msgpack-c reads them */
        }
        if (head && (depth == MP_DEPTH_MAX || elements > 2 * COUNT_MAX)) {
            return false;
        }
        if (head) {
            owed[depth++] = elements;
        } else if (!mp_next(&c, &v)) {
            return true; /* cut short, or no msgpack: nobody reads on from here */
        } else if (depth > 0) {
            owed[depth - 1]--;
        }
        while (depth > 0 && owed[depth - 1] == 0) {
            depth--;
            if (depth > 0) {
                owed[depth - 1]--;
            }
        }
    }
    return true;
}

static bool same_bytes(struct strview s, const char *p, uint32_t n)
{
    return s.n == n && (n == 0 || memcmp(s.data, p, n) == 0);
}

/* As bits: a NaN equals itself, and -0.0 is not 0.0. */
static bool same_float(double a, double b)
{
    return memcmp(&a, &b, sizeof(a)) == 0 || (a != a && b != b);
}

/* NOLINTNEXTLINE(misc-no-recursion): the depth was bounded by mp_skip() */
static bool same(struct cursor *c, const msgpack_object *o)
{
    struct mp_value v;

    if (!mp_next(c, &v)) {
        return false;
    }
    switch (o->type) {
    case MSGPACK_OBJECT_NIL:
        return v.type == MP_NIL;
    case MSGPACK_OBJECT_BOOLEAN:
        return v.type == MP_BOOL && v.b == o->via.boolean;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        return v.type == MP_INT && !v.negative && v.u == o->via.u64 &&
               same_float(v.f, (double)o->via.u64);
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return v.type == MP_INT && v.negative && v.u == (uint64_t)o->via.i64 &&
               same_float(v.f, (double)o->via.i64);
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return v.type == MP_FLOAT && same_float(v.f, o->via.f64);
    case MSGPACK_OBJECT_STR:
        return v.type == MP_STR && same_bytes(v.str, o->via.str.ptr, o->via.str.size);
    case MSGPACK_OBJECT_BIN:
        return v.type == MP_BIN && same_bytes(v.str, o->via.bin.ptr, o->via.bin.size);
    case MSGPACK_OBJECT_ARRAY:
        if (v.type != MP_ARRAY || v.n != o->via.array.size) {
            return false;
        }
        for (uint32_t i = 0; i < v.n; i++) {
            if (!same(c, &o->via.array.ptr[i])) {
                return false;
            }
        }
        return true;
    case MSGPACK_OBJECT_MAP:
        if (v.type != MP_MAP || v.n != o->via.map.size) {
            return false;
        }
        for (uint32_t i = 0; i < v.n; i++) {
            if (!same(c, &o->via.map.ptr[i].key) || !same(c, &o->via.map.ptr[i].val)) {
                return false;
            }
        }
        return true;
    case MSGPACK_OBJECT_EXT:
        break;
    }
    return false;
}

enum mp_verdict mp_differential(const uint8_t *data, size_t n)
{
    struct cursor c = cursor_of(data, n), again = c;
    msgpack_unpacked theirs;
    size_t off = 0;
    enum mp_verdict verdict;

    const bool ours = mp_skip(&c);
    if (!ours && !is_comparable_refusal(data, n)) {
        return MP_NOT_COMPARED;
    }
    msgpack_unpacked_init(&theirs);
    const msgpack_unpack_return r = msgpack_unpack_next(&theirs, (const char *)data, n, &off);
    const bool they = r == MSGPACK_UNPACK_SUCCESS || r == MSGPACK_UNPACK_EXTRA_BYTES;
    if (ours != they) {
        verdict = MP_DIFFERENT;
    } else if (!ours) {
        verdict = MP_BOTH_REFUSED;
    } else if (off != (size_t)(c.at - data) || !same(&again, &theirs.data)) {
        verdict = MP_DIFFERENT;
    } else {
        verdict = MP_BOTH_READ;
    }
    msgpack_unpacked_destroy(&theirs);
    return verdict;
}
