/* Pre-tokenizers: how byte-level vocabularies cut text into words before merging. */
#ifndef ENGINE_TEXT_PRETOK_H
#define ENGINE_TEXT_PRETOK_H

#include <stddef.h>

#include "base/compiler.h"
#include "engine/text/vocab_view.h"

struct pretok_code; /* the compiled patterns of one pre-tokenizer; immutable, shared by threads */

/** pretok_compile() - @ret: owned by the caller, pretok_free(). Return: 0 or -ENOMEM. */
MUST_USE int pretok_compile(enum vocab_pre pre, struct pretok_code **ret);
void pretok_free(struct pretok_code *code);

struct pretok; /* one thread's matcher */

/** pretok_new() - @code: borrowed for the matcher's life. Return: 0 or -ENOMEM. */
MUST_USE int pretok_new(struct pretok **ret, const struct pretok_code *code);
void pretok_delete(struct pretok *p);

enum { PRETOK_OK = 0, PRETOK_HARD };

/** pretok_begin() - a new text to cut: n bytes of valid UTF-8, borrowed until the last word of
 * it */
void pretok_begin(struct pretok *p, const char *text, size_t n);

/**
 * pretok_next() - the next word: it begins where the last one ended, at 0 first
 * @ret_end: where it ends, at a character's border; always past its beginning
 *
 * To be called while the last end is below n. Words of one text take time linear in it together.
 * Return: PRETOK_OK; PRETOK_HARD when the matcher's limits are passed; -ENOMEM.
 */
MUST_USE int pretok_next(struct pretok *p, size_t *ret_end);

#endif
