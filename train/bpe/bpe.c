/* bpe: every different word is a run of tokens. When a pair becomes a token, only the words that
 * have it are gone through, and the counts of their pairs are put right: so the work is that of the
 * words that change, not of the corpus. */
#include "train/bpe/bpe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fnv.h"
#include "train/bpe/corpus.h"
#include "train/bpe/pairs.h"

#define TEXT_BYTES_MAX ((size_t)1 << 30)

struct token {
    uint32_t at, n; /* of the text */
    struct bpe_pair of;
};

struct bpe {
    const struct corpus *corpus; /* borrowed */
    struct bpe_options options;
    struct token *tokens; /* (n_tokens) owned: room for options.n_tokens */
    uint32_t n_tokens;
    struct buf text; /* of all tokens */
    uint32_t *slots; /* (n_slots) owned: from text to token, index + 1 */
    size_t n_slots;
    uint32_t *symbols; /* owned: of all words, each where its bytes would be */
    size_t *word_at;   /* (corpus_words() + 1) owned */
    uint32_t *word_n;  /* (corpus_words()) owned: symbols that are left */
    struct pairs pairs;
};

void bpe_free(struct bpe *b)
{
    if (!b) {
        return;
    }
    free(b->tokens);
    buf_deinit(&b->text);
    free(b->slots);
    free(b->symbols);
    free(b->word_at);
    free(b->word_n);
    pairs_deinit(&b->pairs);
    free(b);
}

/* ---- tokens ---- */

uint32_t bpe_tokens(const struct bpe *b)
{
    return b->n_tokens;
}

struct strview bpe_text(const struct bpe *b, uint32_t id)
{
    return (struct strview){.data = (const char *)b->text.data + b->tokens[id].at,
                            .n = b->tokens[id].n};
}

struct bpe_pair bpe_merge(const struct bpe *b, uint32_t id)
{
    return b->tokens[id].of;
}

static size_t slot_of(const struct bpe *b, const void *text, size_t n)
{
    const uint64_t hash = fnv_add(FNV_START, text, n);
    size_t at = (size_t)(hash ^ hash >> 32) & (b->n_slots - 1);

    for (; b->slots[at] != 0; at = (at + 1) & (b->n_slots - 1)) {
        const struct strview s = bpe_text(b, b->slots[at] - 1);
        if (s.n == n && memcmp(s.data, text, n) == 0) {
            break;
        }
    }
    return at;
}

enum { ADDED = 0, THERE };

/* One more token; THERE: its text is one already. */
static int add_token(struct bpe *b, struct bpe_pair of, const void *text, size_t n)
{
    const size_t slot = slot_of(b, text, n);

    if (b->slots[slot] != 0) {
        return THERE;
    }
    const size_t at = b->text.n;
    const int r = buf_append(&b->text, text, n);
    if (r < 0) {
        return -ENOMEM;
    }
    b->tokens[b->n_tokens++] = (struct token){.at = (uint32_t)at, .n = (uint32_t)n, .of = of};
    b->slots[slot] = b->n_tokens;
    return ADDED;
}

static int add_merged(struct bpe *b, struct bpe_pair of)
{
    char text[2 * CORPUS_WORD_BYTES_MAX];
    const struct strview left = bpe_text(b, of.left), right = bpe_text(b, of.right);

    memcpy(text, left.data, left.n); /* both lie in one word, which bounds them */
    memcpy(text + left.n, right.data, right.n);
    return add_token(b, of, text, left.n + right.n);
}

/* ---- words ---- */

const uint32_t *bpe_word(const struct bpe *b, size_t i, size_t *ret_n)
{
    *ret_n = b->word_n[i];
    return b->symbols + b->word_at[i];
}

static bool may_merge(const struct bpe *b, const struct pair *p)
{
    return !b->options.apart || bpe_text(b, p->left).data[0] != ' ';
}

/* Pairs that are there from @from on are new: they are offered now that their counts are whole. */
static int offer(struct bpe *b, size_t from)
{
    int r = 0;

    for (size_t i = from; r == 0 && i < b->pairs.n; i++) {
        if (may_merge(b, &b->pairs.at[i])) {
            r = pairs_offer(&b->pairs, (uint32_t)i);
        }
    }
    return r;
}

/* The word's pairs count so much more; of those new since @from it is noted that it has them. */
static int count_pairs(struct bpe *b, uint32_t word, int64_t by, size_t from)
{
    const uint32_t *s = b->symbols + b->word_at[word];
    int r = 0;

    for (uint32_t k = 1; r == 0 && k < b->word_n[word]; k++) {
        uint32_t i = 0;
        bool fresh;
        r = pairs_find(&b->pairs, s[k - 1], s[k], &i, &fresh);
        if (r == 0) {
            b->pairs.at[i].count += by;
            if (by > 0 && i >= from) {
                r = pairs_note(&b->pairs, i, word);
            }
        }
    }
    return r;
}

static void replace(struct bpe *b, uint32_t word, struct bpe_pair of, uint32_t id)
{
    uint32_t *s = b->symbols + b->word_at[word];
    const uint32_t n = b->word_n[word];
    uint32_t to = 0;

    for (uint32_t k = 0; k < n; k++) {
        const bool here = k + 1 < n && s[k] == of.left && s[k + 1] == of.right;
        s[to++] = here ? id : s[k];
        k += here;
    }
    b->word_n[word] = to;
}

static int merge(struct bpe *b, uint32_t pair_i, uint32_t id)
{
    struct pair *p = &b->pairs.at[pair_i];
    const struct bpe_pair of = {.left = p->left, .right = p->right};
    uint32_t *words = p->words;
    const size_t n_words = p->n_words, from = b->pairs.n;
    int r = 0;

    p->words = NULL; /* ours now: the table may move */
    p->n_words = p->words_room = 0;
    for (size_t i = 0; r == 0 && i < n_words; i++) {
        const int64_t count = (int64_t)corpus_word(b->corpus, words[i]).count;
        r = count_pairs(b, words[i], -count, from);
        if (r == 0) {
            replace(b, words[i], of, id);
            r = count_pairs(b, words[i], count, from);
        }
    }
    free(words);
    return r == 0 ? offer(b, from) : r;
}

/* ---- all of it ---- */

static int place_words(struct bpe *b)
{
    const size_t n = corpus_words(b->corpus);
    size_t total = 0;

    b->word_at = calloc(n + 1, sizeof(*b->word_at));
    b->word_n = calloc(n + 1, sizeof(*b->word_n));
    if (!b->word_at || !b->word_n) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        b->word_at[i] = total;
        b->word_n[i] = (uint32_t)corpus_word(b->corpus, i).text.n;
        total += b->word_n[i];
    }
    b->symbols = calloc(total + 1, sizeof(*b->symbols));
    if (!b->symbols) {
        return -ENOMEM;
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct strview s = corpus_word(b->corpus, i).text;
        for (size_t k = 0; k < s.n; k++) {
            b->symbols[b->word_at[i] + k] = (uint8_t)s.data[k];
        }
        r = count_pairs(b, (uint32_t)i, (int64_t)corpus_word(b->corpus, i).count, 0);
    }
    return r == 0 ? offer(b, 0) : r;
}

static int init(struct bpe *b)
{
    b->n_slots = 1024;
    while (b->n_slots < (size_t)b->options.n_tokens * 2) {
        b->n_slots *= 2;
    }
    buf_init(&b->text, TEXT_BYTES_MAX);
    b->tokens = calloc(b->options.n_tokens, sizeof(*b->tokens));
    b->slots = calloc(b->n_slots, sizeof(*b->slots));
    if (!b->tokens || !b->slots) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < BPE_BYTES; i++) {
        const char c = (char)(uint8_t)i;
        const int r = add_token(b, (struct bpe_pair){0}, &c, 1);
        if (r < 0) {
            return r;
        }
    }
    return place_words(b);
}

static int learn(struct bpe *b)
{
    uint32_t i;

    while (b->n_tokens < b->options.n_tokens &&
           pairs_best(&b->pairs, (int64_t)b->options.count_min, &i)) {
        const struct pair *p = &b->pairs.at[i];
        int r = add_merged(b, (struct bpe_pair){.left = p->left, .right = p->right});
        if (r == THERE) {
            b->pairs.at[i].barred = true;
            continue;
        }
        if (r == ADDED) {
            r = merge(b, i, b->n_tokens - 1);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int bpe_train(struct bpe **ret, const struct corpus *corpus, const struct bpe_options *options)
{
    if (options->n_tokens < BPE_BYTES || options->n_tokens > BPE_TOKENS_MAX ||
        options->count_min < 1 || options->count_min > INT64_MAX) {
        return -EINVAL;
    }
    struct bpe *b = calloc(1, sizeof(*b));
    if (!b) {
        return -ENOMEM;
    }
    b->corpus = corpus;
    b->options = *options;
    int r = init(b);
    if (r == 0) {
        r = learn(b);
    }
    pairs_deinit(&b->pairs);
    if (r == 0) {
        *ret = b;
        b = NULL;
    }
    bpe_free(b);
    return r;
}
