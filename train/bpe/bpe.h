/* Byte-level BPE: which neighbours become tokens (arXiv 1508.07909, over bytes as GPT-2 does).
 *
 * Tokens 0 to 255 are the bytes. Then, again and again, the pair of neighbouring tokens that occurs
 * most often in the corpus becomes one more; of equally frequent ones that with the lowest left id,
 * then the lowest right one. A pair whose text is a token already never does: so every text is one
 * token, and a word is cut as the last merge left it by any tokenizer that merges by rank. */
#ifndef TRAIN_BPE_BPE_H
#define TRAIN_BPE_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/strview.h"

struct corpus;
struct bpe; /* opaque */

#define BPE_BYTES 256u
#define BPE_TOKENS_MAX 1048576u

struct bpe_options {
    uint32_t n_tokens;  /* BPE_BYTES..BPE_TOKENS_MAX, bytes included: at most so many */
    uint64_t count_min; /* a rarer pair does not become one; at least 1 */
    bool apart;         /* no merge begins with a space: a word has the same tokens wherever it
                          * stands */
};

/** bpe_train() - @corpus: borrowed until bpe_free(). 0; -EINVAL: options; -ENOMEM */
MUST_USE int bpe_train(struct bpe **ret, const struct corpus *corpus,
                       const struct bpe_options *options);
void bpe_free(struct bpe *b);

/** bpe_tokens() - how many there are: fewer than asked for where the corpus has no more pairs */
uint32_t bpe_tokens(const struct bpe *b);
/** bpe_text() - the bytes of a token, borrowed */
struct strview bpe_text(const struct bpe *b, uint32_t id);

/** bpe_merge() - of a token from BPE_BYTES on, the two that it was made of; those that came first
 * have the lower rank */
struct bpe_pair {
    uint32_t left, right;
};
struct bpe_pair bpe_merge(const struct bpe *b, uint32_t id);

/** bpe_word() - how the corpus's i-th word was cut in the end: ids, borrowed; @ret_n of them. For
 * tests, which hold it to the engine's tokenizer. */
const uint32_t *bpe_word(const struct bpe *b, size_t i, size_t *ret_n);

#endif
