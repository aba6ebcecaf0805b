/* Pre-tokenizers: how byte-level vocabularies cut text into words before merging. */
#ifndef ENGINE_TEXT_PRETOK_H
#define ENGINE_TEXT_PRETOK_H

#include <stddef.h>

#include "base/compiler.h"
#include "engine/text/vocab_view.h"

/** pretok_compile() - @ret: owned by the caller, pretok_free(); may be shared by threads.
 * Return: 0 or -ENOMEM. */
MUST_USE int pretok_compile(enum vocab_pre pre, void **ret);
void pretok_free(void *pattern);

struct pretok; /* one thread's matcher */

MUST_USE int pretok_new(struct pretok **ret, const void *pattern);
void pretok_delete(struct pretok *p);

enum { PRETOK_OK = 0, PRETOK_HARD };

/**
 * pretok_next() - where the word ends that begins at `at`
 * @text: n bytes of valid UTF-8, the whole fragment; at < n, at a character's start
 * @ret_end: > at
 * Return: PRETOK_OK; PRETOK_HARD when the matcher's limits are passed; -ENOMEM.
 */
MUST_USE int pretok_next(struct pretok *p, const char *text, size_t n, size_t at, size_t *ret_end);

#endif
