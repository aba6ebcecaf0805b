/* How a text is cut into words before anything is merged: what a tokenizer's training counts, and
 * the same cut that vocab_tokenize() makes. */
#ifndef ENGINE_WORDS_H
#define ENGINE_WORDS_H

#include <stddef.h>

#include "base/compiler.h"
#include "base/strview.h"

struct words; /* opaque: one pre-tokenizer at work; belongs to one thread at a time */

enum { WORDS_OK = 0, WORDS_HARD, WORDS_NOT_UTF8 };

/** words_new() - @pre: as GGUF files name a pre-tokenizer, "qwen2"; -EINVAL: none is called so, or
 * -ENOMEM. Free with words_free(). */
MUST_USE int words_new(struct words **ret, struct strview pre);
void words_free(struct words *w);

/** Takes a word: n >= 1 bytes, borrowed for the call. What it returns other than 0 ends the cut. */
typedef int words_fn(void *arg, const char *word, size_t n);

/**
 * words_cut() - the words of a text, in order
 * @text: n bytes of UTF-8 without control tokens; brought into normalization form C where the
 *        pre-tokenizer's vocabularies are made so
 *
 * Return: WORDS_OK; WORDS_HARD: the pattern matcher's limit was passed, or one character has 512
 * bytes of marks; WORDS_NOT_UTF8; what @take returned; -ENOMEM; -E2BIG past 1 GiB.
 */
MUST_USE int words_cut(struct words *w, const char *text, size_t n, words_fn *take, void *arg);

#endif
