/* corpus: a table from words to counts, by open addressing. */
#include "train/bpe/corpus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fnv.h"
#include "engine/engine.h"

#define TEXT_BYTES_MAX ((size_t)1 << 30)
#define SLOTS_FIRST 4096u

struct word {
    uint32_t at, n; /* of the text */
    uint64_t count, hash;
};

struct corpus {
    struct words *cutter; /* owned */
    struct buf text;      /* all words, one behind the other */
    struct buf words;     /* struct word, in the order in which they came */
    uint32_t *slots;      /* (n_slots, a power of two) owned: index + 1, 0 for a free one */
    size_t n_slots;
};

int corpus_new(struct corpus **ret, const char *pre)
{
    struct corpus *c = calloc(1, sizeof(*c));

    if (!c) {
        return -ENOMEM;
    }
    buf_init(&c->text, TEXT_BYTES_MAX);
    buf_init(&c->words, CORPUS_WORDS_MAX * sizeof(struct word));
    c->n_slots = SLOTS_FIRST;
    c->slots = calloc(c->n_slots, sizeof(*c->slots));
    int r = c->slots ? words_new(&c->cutter, strview_of(pre)) : -ENOMEM;
    if (r == 0) {
        *ret = c;
        c = NULL;
    }
    corpus_free(c);
    return r;
}

void corpus_free(struct corpus *c)
{
    if (!c) {
        return;
    }
    words_free(c->cutter);
    buf_deinit(&c->text);
    buf_deinit(&c->words);
    free(c->slots);
    free(c);
}

static struct word *word_at(const struct corpus *c, size_t i)
{
    return (struct word *)(void *)c->words.data + i;
}

size_t corpus_words(const struct corpus *c)
{
    return c->words.n / sizeof(struct word);
}

struct corpus_word corpus_word(const struct corpus *c, size_t i)
{
    const struct word *w = word_at(c, i);

    return (struct corpus_word){.text = {.data = (const char *)c->text.data + w->at, .n = w->n},
                                .count = w->count};
}

/* The slot of a word, or the free one where it would be. */
static size_t slot_of(const struct corpus *c, const char *text, size_t n, uint64_t hash)
{
    size_t at = (size_t)(hash ^ hash >> 32) & (c->n_slots - 1);

    for (; c->slots[at] != 0; at = (at + 1) & (c->n_slots - 1)) {
        const struct word *w = word_at(c, c->slots[at] - 1);
        if (w->hash == hash && w->n == n && memcmp(c->text.data + w->at, text, n) == 0) {
            break;
        }
    }
    return at;
}

static int grow(struct corpus *c)
{
    uint32_t *old = c->slots;
    uint32_t *slots = calloc(c->n_slots * 2, sizeof(*slots));

    if (!slots) {
        return -ENOMEM;
    }
    c->slots = slots;
    c->n_slots *= 2;
    for (size_t i = 0; i < corpus_words(c); i++) {
        const struct word *w = word_at(c, i);
        slots[slot_of(c, (const char *)c->text.data + w->at, w->n, w->hash)] = (uint32_t)i + 1;
    }
    free(old);
    return 0;
}

static int count_word(void *arg, const char *text, size_t n)
{
    struct corpus *c = arg;
    const uint64_t hash = fnv_add(FNV_START, text, n);

    if (n > CORPUS_WORD_BYTES_MAX) {
        return 0;
    }
    if (corpus_words(c) * 2 >= c->n_slots) {
        const int r = grow(c);
        if (r < 0) {
            return r;
        }
    }
    const size_t slot = slot_of(c, text, n, hash);
    if (c->slots[slot] != 0) {
        word_at(c, c->slots[slot] - 1)->count++;
        return 0;
    }
    const struct word w = {.at = (uint32_t)c->text.n, .n = (uint32_t)n, .count = 1, .hash = hash};
    int r = buf_append(&c->text, text, n);
    if (r == 0) {
        r = buf_append(&c->words, &w, sizeof(w));
    }
    if (r == 0) {
        c->slots[slot] = (uint32_t)corpus_words(c);
    }
    return r;
}

int corpus_add(struct corpus *c, struct strview text)
{
    const int r = words_cut(c->cutter, text.n ? text.data : "", text.n, count_word, c);

    if (r == -E2BIG) {
        return CORPUS_FULL;
    }
    return r > 0 ? CORPUS_HARD : r;
}
