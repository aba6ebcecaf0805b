/* mp: msgpack from outside, read in place.
 *
 * Every length and count is held against the bytes that are there before it is believed: an array
 * of n elements needs n bytes, a map of n pairs 2n. Nesting is a small array of counters, so
 * hostile depth costs neither stack nor memory. Extension types are refused: this protocol has
 * none. */
#include "ipc/mp.h"

#include <string.h>

static bool refuse(struct cursor *c)
{
    c->bad = true;
    return false;
}

static bool take_uint(struct mp_value *v, uint64_t u)
{
    *v = (struct mp_value){.type = MP_INT, .u = u, .f = (double)u};
    return true;
}

static bool take_int(struct mp_value *v, int64_t i)
{
    *v = (struct mp_value){.type = MP_INT, .negative = i < 0, .u = (uint64_t)i, .f = (double)i};
    return true;
}

static bool take_float(struct mp_value *v, double f)
{
    *v = (struct mp_value){.type = MP_FLOAT, .f = f};
    return true;
}

static bool take_bytes(struct cursor *c, struct mp_value *v, enum mp_type type, uint32_t n)
{
    const uint8_t *p = cursor_take(c, n);

    *v = (struct mp_value){.type = type, .str = {(const char *)p, p ? n : 0}};
    return !c->bad;
}

static bool take_many(struct cursor *c, struct mp_value *v, enum mp_type type, uint32_t n)
{
    const uint64_t least = type == MP_MAP ? 2 * (uint64_t)n : n; /* bytes the elements need */

    if (least > cursor_left(c)) {
        return refuse(c);
    }
    *v = (struct mp_value){.type = type, .n = n};
    return true;
}

/* 0xc0..0xdf: the tags with a meaning of their own. */
static bool take_tagged(struct cursor *c, struct mp_value *v, uint8_t tag)
{
    switch (tag) {
    case 0xc0:
        *v = (struct mp_value){.type = MP_NIL};
        return true;
    case 0xc2:
    case 0xc3:
        *v = (struct mp_value){.type = MP_BOOL, .b = tag == 0xc3};
        return true;
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return take_bytes(c, v, MP_BIN, (uint32_t)cursor_be(c, 1u << (tag - 0xc4)));
    case 0xca: {
        const uint32_t bits = (uint32_t)cursor_be(c, 4);
        float f;
        memcpy(&f, &bits, sizeof(f));
        return take_float(v, (double)f);
    }
    case 0xcb: {
        const uint64_t bits = cursor_be(c, 8);
        double f;
        memcpy(&f, &bits, sizeof(f));
        return take_float(v, f);
    }
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return take_uint(v, cursor_be(c, 1u << (tag - 0xcc)));
    case 0xd0:
        return take_int(v, (int8_t)cursor_be(c, 1));
    case 0xd1:
        return take_int(v, (int16_t)cursor_be(c, 2));
    case 0xd2:
        return take_int(v, (int32_t)cursor_be(c, 4));
    case 0xd3:
        return take_int(v, (int64_t)cursor_be(c, 8));
    case 0xd9:
    case 0xda:
    case 0xdb:
        return take_bytes(c, v, MP_STR, (uint32_t)cursor_be(c, 1u << (tag - 0xd9)));
    case 0xdc:
    case 0xdd:
        return take_many(c, v, MP_ARRAY, (uint32_t)cursor_be(c, 2u << (tag - 0xdc)));
    case 0xde:
    case 0xdf:
        return take_many(c, v, MP_MAP, (uint32_t)cursor_be(c, 2u << (tag - 0xde)));
    default: /* 0xc1 is no msgpack; 0xc7..0xc9 and 0xd4..0xd8 are extensions */
        return refuse(c);
    }
}

bool mp_next(struct cursor *c, struct mp_value *ret)
{
    struct mp_value v;
    bool ok;
    const uint8_t tag = cursor_u8(c);

    if (c->bad) {
        return false;
    }
    if (tag < 0x80) {
        ok = take_uint(&v, tag);
    } else if (tag < 0x90) {
        ok = take_many(c, &v, MP_MAP, tag & 0x0f);
    } else if (tag < 0xa0) {
        ok = take_many(c, &v, MP_ARRAY, tag & 0x0f);
    } else if (tag < 0xc0) {
        ok = take_bytes(c, &v, MP_STR, tag & 0x1f);
    } else if (tag < 0xe0) {
        ok = take_tagged(c, &v, tag);
    } else {
        ok = take_int(&v, (int8_t)tag);
    }
    if (!ok || c->bad) { /* a number cut short reads as zero and sets `bad` */
        return false;
    }
    *ret = v;
    return true;
}

/* Step over one value; with `utf8`, strings must be valid. Each open array or map has a counter of
 * the elements it still owes. */
static bool walk(struct cursor *c, bool utf8)
{
    uint64_t owed[MP_DEPTH_MAX];
    unsigned depth = 0;

    do {
        struct mp_value v;
        if (!mp_next(c, &v)) {
            return false;
        }
        if (utf8 && v.type == MP_STR && !mp_utf8_valid(v.str)) {
            return refuse(c);
        }
        if (v.type == MP_ARRAY || v.type == MP_MAP) {
            if (depth == MP_DEPTH_MAX) {
                return refuse(c);
            }
            owed[depth++] = v.type == MP_MAP ? 2 * (uint64_t)v.n : v.n;
        } else if (depth > 0) {
            owed[depth - 1]--;
        }
        while (depth > 0 && owed[depth - 1] == 0) { /* complete: one element less for its parent */
            depth--;
            if (depth > 0) {
                owed[depth - 1]--;
            }
        }
    } while (depth > 0);
    return true;
}

bool mp_skip(struct cursor *c)
{
    return walk(c, false);
}

bool mp_valid(const uint8_t *body, size_t n)
{
    struct cursor c = cursor_of(body, n), head = c;
    struct mp_value v;

    return mp_next(&head, &v) && v.type == MP_MAP && walk(&c, true) && cursor_left(&c) == 0;
}

/* Bytes that follow the lead byte of a UTF-8 sequence, with the range of the first of them (which
 * rules out overlong forms, surrogates and what lies past U+10FFFF). False: no lead byte. */
static bool utf8_lead(uint8_t lead, unsigned *ret_more, uint8_t *ret_lo, uint8_t *ret_hi)
{
    *ret_lo = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    *ret_hi = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    *ret_more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    return lead < 0x80 || (lead >= 0xc2 && lead <= 0xf4);
}

bool mp_utf8_valid(struct strview s)
{
    const uint8_t *p = (const uint8_t *)s.data;
    size_t i = 0;

    while (i < s.n) {
        unsigned more;
        uint8_t lo, hi;
        if (!utf8_lead(p[i], &more, &lo, &hi) || more > s.n - i - 1) {
            return false;
        }
        i++;
        for (unsigned k = 0; k < more; k++, i++) {
            if (p[i] < lo || p[i] > hi) {
                return false;
            }
            lo = 0x80;
            hi = 0xbf;
        }
    }
    return true;
}
