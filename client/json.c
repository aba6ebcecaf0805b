/* json: writes JSON while it reads msgpack, with a small array of open containers instead of
 * recursion, so that hostile nesting costs nothing. */
#include "client/json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cursor.h"
#include "ipc/mp.h"

static int put_z(struct buf *out, const char *z)
{
    return buf_append(out, z, strlen(z));
}

/* The shortest of a few precisions that reads back as the same number. */
static int put_double(struct buf *out, double f)
{
    static const int precisions[] = {6, 9, 15, 17};
    char text[40];

    if (!isfinite(f)) {
        return put_z(out, "null");
    }
    for (size_t i = 0; i < ARRAY_SIZE(precisions); i++) {
        (void)snprintf(text, sizeof(text), "%.*g", precisions[i], f);
        const double back = strtod(text, NULL);
        if (back == f || (precisions[i] == 9 && (double)(float)back == f)) {
            break;
        }
    }
    for (char *c = text; *c; c++) {
        if (!strchr("0123456789+-eE.", *c)) {
            *c = '.'; /* the locale's decimal mark */
        }
    }
    return put_z(out, text);
}

/* Bytes in the UTF-8 sequence at s, 0 when there is none. */
static size_t utf8_len(struct strview s)
{
    for (size_t n = 1; n <= 4 && n <= s.n; n++) {
        if (mp_utf8_valid((struct strview){s.data, n})) {
            return n;
        }
    }
    return 0;
}

static int put_char(struct buf *out, struct strview at, size_t n)
{
    const unsigned char c = (unsigned char)at.data[0];
    const unsigned char c2 = n > 1 ? (unsigned char)at.data[1] : 0;
    char text[8];

    if (n == 0) {
        return put_z(out, "\\ufffd");
    }
    if (c == '"' || c == '\\') {
        (void)snprintf(text, sizeof(text), "\\%c", c);
    } else if (c == '\n') {
        (void)snprintf(text, sizeof(text), "\\n");
    } else if (c < 0x20 || c == 0x7f) {
        (void)snprintf(text, sizeof(text), "\\u%04x", c);
    } else if (n == 2 && c == 0xc2 && c2 < 0xa0) {
        (void)snprintf(text, sizeof(text), "\\u%04x", c2);
    } else {
        return buf_append(out, at.data, n);
    }
    return put_z(out, text);
}

static int put_string(struct buf *out, struct strview s)
{
    int r = put_z(out, "\"");

    while (r == 0 && s.n > 0) {
        const size_t n = utf8_len(s);
        r = put_char(out, s, n);
        s.data += n ? n : 1;
        s.n -= n ? n : 1;
    }
    return r == 0 ? put_z(out, "\"") : r;
}

static int put_scalar(struct buf *out, const struct mp_value *v)
{
    char text[24];

    switch (v->type) {
    case MP_BOOL:
        return put_z(out, v->b ? "true" : "false");
    case MP_INT:
        if (v->negative) {
            (void)snprintf(text, sizeof(text), "%" PRId64, (int64_t)v->u);
        } else {
            (void)snprintf(text, sizeof(text), "%" PRIu64, v->u);
        }
        return put_z(out, text);
    case MP_FLOAT:
        return put_double(out, v->f);
    case MP_STR:
    case MP_BIN:
        return put_string(out, v->str);
    default:
        return put_z(out, "null");
    }
}

struct open_value { /* an array or map whose elements are being written */
    bool map;
    uint64_t left; /* values still to come; a pair of a map counts as two */
};

/* What stands before the next value inside `in`: a comma, a colon or nothing. */
static int put_before(struct buf *out, const struct open_value *in, bool first)
{
    if (in->map && in->left % 2 == 1) {
        return put_z(out, ":");
    }
    return first ? 0 : put_z(out, ",");
}

int json_from_msgpack(struct buf *out, struct strview value)
{
    struct cursor c = cursor_of(value.data, value.n);
    struct open_value open[MP_DEPTH_MAX];
    unsigned depth = 0;
    bool first = true; /* nothing written yet in the innermost container */
    int r = 0;

    do {
        struct mp_value v;
        if (!mp_next(&c, &v)) {
            return JSON_MALFORMED;
        }
        struct open_value *in = depth ? &open[depth - 1] : NULL;
        if (in && in->map && in->left % 2 == 0 && v.type != MP_STR) {
            return JSON_MALFORMED; /* a key that JSON cannot write */
        }
        r = in ? put_before(out, in, first) : 0;
        if (in) {
            in->left--;
        }
        first = false;
        if (r == 0 && (v.type == MP_ARRAY || v.type == MP_MAP)) {
            if (depth == MP_DEPTH_MAX) {
                return JSON_MALFORMED;
            }
            const bool map = v.type == MP_MAP;
            open[depth++] = (struct open_value){map, map ? 2 * (uint64_t)v.n : v.n};
            first = true;
            r = put_z(out, map ? "{" : "[");
        } else if (r == 0) {
            r = put_scalar(out, &v);
        }
        while (r == 0 && depth > 0 && open[depth - 1].left == 0) {
            r = put_z(out, open[--depth].map ? "}" : "]");
            first = false;
        }
    } while (r == 0 && depth > 0);
    if (r == 0 && cursor_left(&c) > 0) {
        return JSON_MALFORMED;
    }
    if (r == 0) {
        r = buf_append(out, "", 1);
        out->n -= r == 0;
    }
    return r;
}
