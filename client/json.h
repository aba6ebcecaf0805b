/* msgpack from the daemon, as JSON text for programs that have a JSON reader. */
#ifndef CLIENT_JSON_H
#define CLIENT_JSON_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/strview.h"

/* A byte of msgpack becomes at most 7 of JSON (a control character as \u00xx and its comma), so
 * this holds whatever fits a frame. */
#define JSON_BYTES_MAX ((size_t)8 << 20)

enum { JSON_OK = 0, JSON_MALFORMED };

/**
 * json_from_msgpack() - append the JSON text of one msgpack value, and a NUL that is not counted
 * @out: with a limit of at least JSON_BYTES_MAX; holds a partial text after a failure
 *
 * Keys that are no strings, values nested past MP_DEPTH_MAX and bytes after the value are
 * JSON_MALFORMED. Numbers that are not finite become null, bytes that are not UTF-8 become U+FFFD.
 * Control characters (C0, DEL, C1) are escaped. The locale does not matter.
 *
 * Return: JSON_OK, JSON_MALFORMED, -ENOMEM or -E2BIG.
 */
MUST_USE int json_from_msgpack(struct buf *out, struct strview value);

#endif
