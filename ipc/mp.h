/* Reading msgpack from outside: a bounded cursor that allocates nothing. msgpack-c's unpacker
 * allocates what a length claims; this one checks every length against the bytes that are there. */
#ifndef IPC_MP_H
#define IPC_MP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/cursor.h"
#include "base/strview.h"

#define MP_DEPTH_MAX 8u /* nesting of arrays and maps in one frame; ours use 4 */

enum mp_type { MP_NIL, MP_BOOL, MP_INT, MP_FLOAT, MP_STR, MP_BIN, MP_ARRAY, MP_MAP };

/* One value: a scalar, or the head of an array or map whose elements follow. */
struct mp_value {
    enum mp_type type;
    bool b;
    bool negative;      /* MP_INT: u holds the two's complement of a negative number */
    uint64_t u;         /* MP_INT */
    double f;           /* MP_FLOAT; for MP_INT the same number, rounded */
    struct strview str; /* MP_STR, MP_BIN: borrowed */
    uint32_t n; /* MP_ARRAY elements, MP_MAP pairs; never more than the bytes left can hold */
};

/** mp_next() - read one value's head; false (and c->bad) when the bytes are no msgpack */
MUST_USE bool mp_next(struct cursor *c, struct mp_value *ret);

/** mp_skip() - step over one whole value, nested at most MP_DEPTH_MAX; no recursion */
MUST_USE bool mp_skip(struct cursor *c);

/** mp_valid() - is body exactly one msgpack map, well formed to the last byte, strings valid UTF-8,
 * depth within MP_DEPTH_MAX? */
bool mp_valid(const uint8_t *body, size_t n);

/** mp_utf8_valid() - well-formed UTF-8: no overlong form, no surrogate, nothing past U+10FFFF */
bool mp_utf8_valid(struct strview s);

#endif
