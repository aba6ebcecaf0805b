/* The words of a corpus and how often each occurs: all that merging has to know of it. */
#ifndef TRAIN_BPE_CORPUS_H
#define TRAIN_BPE_CORPUS_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/strview.h"

#define CORPUS_WORDS_MAX (UINT32_C(1) << 22) /* different ones */
#define CORPUS_WORD_BYTES_MAX 256u /* longer ones are no words that occur again: not counted */

struct corpus; /* opaque */

struct corpus_word {
    struct strview text; /* borrowed from the corpus until it grows */
    uint64_t count;
};

/** corpus_new() - empty. @pre: the pre-tokenizer, "qwen2". 0, -EINVAL: no such, -ENOMEM */
MUST_USE int corpus_new(struct corpus **ret, const char *pre);
void corpus_free(struct corpus *c);

enum { CORPUS_OK = 0, CORPUS_HARD, CORPUS_FULL };

/**
 * corpus_add() - count the words of a text that a tokenizer will see between control tokens
 *
 * Return: CORPUS_OK; CORPUS_HARD: the pre-tokenizer cannot cut it, or it is no UTF-8; CORPUS_FULL:
 * more than CORPUS_WORDS_MAX words; a negative errno.
 */
MUST_USE int corpus_add(struct corpus *c, struct strview text);

/** corpus_words(), corpus_word() - those there are, in the order in which they came up first */
size_t corpus_words(const struct corpus *c);
struct corpus_word corpus_word(const struct corpus *c, size_t i);

#endif
