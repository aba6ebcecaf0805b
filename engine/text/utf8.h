/* UTF-8, strictly and laxly. */
#ifndef ENGINE_TEXT_UTF8_H
#define ENGINE_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

#define UTF8_REPLACEMENT "\xef\xbf\xbd"

/**
 * utf8_check() - how a character begins that starts at p
 * @n: bytes there, at least 1
 *
 * Return: length of the well-formed character; 0 when the n bytes may still become one; -k when the
 * first k bytes (1..3) can never become one (the longest such run that begins one, or a single
 * byte).
 */
int utf8_check(const uint8_t *p, size_t n);

/** utf8_valid() - is all of it well-formed? */
bool utf8_valid(const char *p, size_t n);

/** utf8_decode() - the code point of the well-formed character at p; *ret_n its bytes */
uint32_t utf8_decode(const uint8_t *p, unsigned *ret_n);

/** utf8_encode() - 1 to 4 bytes for a code point up to U+10FFFF, surrogates too; returns how
 * many */
unsigned utf8_encode(uint32_t c, uint8_t *ret);

/**
 * utf8_lax() - the code point at p as lenient readers see it
 * @n: bytes there, at least 1
 *
 * Overlong forms and surrogates count as what their bits say; a byte that begins nothing, or would
 * pass U+10FFFF, is U+FFFD and one byte long. Return: the code point; *ret_n the bytes it took.
 */
uint32_t utf8_lax(const uint8_t *p, size_t n, unsigned *ret_n);

#endif
