/* tokenize: text to ids.
 *
 * First the text is cut at the tokens that stand for themselves (control tokens, when the caller
 * wants them, and user-defined ones always), the longest at each place. What lies between is
 * brought into normalization form C, where the vocabulary was made with it, and goes to its own
 * method: byte-level pair merging inside the words of the pre-tokenizer, or merging by score over
 * the whole run. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/text/merge.h"
#include "engine/text/nfc.h"
#include "engine/text/pretok.h"
#include "engine/text/utf8.h"
#include "engine/text/vocab_view.h"

struct tokenizer {
    const struct vocab *v; /* borrowed */
    unsigned flags;
    struct merger merger;
    struct pretok *pretok; /* owned; NULL for SentencePiece */
    struct buf normal;     /* the fragment in normalization form C, where it has another */
    struct buf text;       /* the fragment as it is merged: repaired, or with space marks */
    struct buf subject;    /* the same with surrogates replaced, as the pattern may see it */
    int32_t *ids;          /* borrowed */
    size_t n, max;
    bool after_special; /* nothing, or a special token, comes before the next fragment */
};

static int put(struct tokenizer *t, int32_t id)
{
    if (t->n == t->max) {
        return TOKENIZE_FULL;
    }
    t->ids[t->n++] = id;
    return TOKENIZE_OK;
}

/* ---- byte-level ---- */

/* Ids for what merging left: symbols that are no token become their bytes. */
static int put_symbols(struct tokenizer *t, const char *text)
{
    const struct merger *m = &t->merger;
    int r = TOKENIZE_OK;

    for (int32_t i = m->n_symbols > 0 ? 0 : -1; r == TOKENIZE_OK && i >= 0;
         i = m->symbols[i].next) {
        const struct symbol *s = &m->symbols[i];
        if (s->id >= 0) {
            r = put(t, s->id);
            continue;
        }
        for (uint32_t k = 0; r == TOKENIZE_OK && k < s->n; k++) {
            const int32_t byte = t->v->h->byte_ids[(uint8_t)text[s->at + k]];
            const int32_t id = byte >= 0 ? byte : t->v->h->unk;
            r = id >= 0 ? put(t, id) : TOKENIZE_OK;
        }
    }
    return r;
}

static int put_word(struct tokenizer *t, const char *word, size_t n)
{
    if (t->v->h->flags & VOCAB_WHOLE_WORDS || n == 1) {
        const int32_t id = vocab_find(t->v, word, n);
        if (id >= 0) {
            return put(t, id);
        }
    }
    int r = merger_begin(&t->merger, n);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < n; i++) {
        merger_add(&t->merger, (uint32_t)i, 1, t->v->h->byte_ids[(uint8_t)word[i]]);
    }
    r = merger_run(&t->merger, t->v, word);
    return r < 0 ? r : put_symbols(t, word);
}

/* Reads text laxly: t->text gets the bytes of what was read, t->subject the same for the pattern,
 * which must not see a surrogate. Both have the same lengths, character by character. */
static int repair(struct tokenizer *t, const char *text, size_t n)
{
    const uint8_t *p = (const uint8_t *)text;
    int r = 0;

    t->text.n = 0;
    t->subject.n = 0;
    for (size_t i = 0; r == 0 && i < n;) {
        uint8_t bytes[4];
        unsigned took;
        const uint32_t c = utf8_lax(p + i, n - i, &took);
        const unsigned k = utf8_encode(c, bytes);
        i += took;
        r = buf_append(&t->text, bytes, k);
        if (r == 0) {
            r = buf_append(&t->subject,
                           c - 0xd800u < 0x800u ? (const void *)UTF8_REPLACEMENT : bytes, k);
        }
    }
    return r;
}

static int put_bytelevel(struct tokenizer *t, const char *text, size_t n)
{
    int r = TOKENIZE_OK;

    if (t->v->h->flags & VOCAB_NFC) {
        struct strview normal;
        r = nfc_normalize(&t->normal, text, n, &normal);
        if (r != NFC_OK) {
            return r == NFC_HARD ? TOKENIZE_HARD : r;
        }
        text = normal.data;
        n = normal.n;
    }
    const char *subject = text;
    if (!utf8_valid(text, n)) {
        r = repair(t, text, n);
        if (r < 0) {
            return r;
        }
        text = (const char *)t->text.data;
        subject = (const char *)t->subject.data;
        n = t->text.n;
    }
    pretok_begin(t->pretok, subject, n);
    for (size_t at = 0, end = 0; r == TOKENIZE_OK && at < n; at = end) {
        r = pretok_next(t->pretok, &end);
        if (r == PRETOK_HARD) {
            return TOKENIZE_HARD;
        }
        if (r == PRETOK_OK) {
            r = put_word(t, text + at, end - at);
        }
    }
    return r;
}

/* ---- SentencePiece ---- */

static int mark_spaces(struct tokenizer *t, const char *text, size_t n)
{
    static const char mark[] = "\xe2\x96\x81";
    int r = 0;

    t->text.n = 0;
    if (t->v->h->flags & VOCAB_SPACE_PREFIX && t->after_special) {
        r = buf_append(&t->text, mark, 3);
    }
    for (size_t i = 0; r == 0 && i < n;) {
        const char *space = memchr(text + i, ' ', n - i);
        const size_t run = space ? (size_t)(space - text) - i : n - i;
        r = buf_append(&t->text, text + i, run);
        if (r == 0 && space) {
            r = buf_append(&t->text, mark, 3);
        }
        i += run + (space != NULL);
    }
    return r;
}

/* Characters are cut by their first byte alone, so that broken ones stay together as bytes. */
static int put_spm(struct tokenizer *t, const char *raw, size_t n_raw)
{
    static const uint8_t lengths[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
    int r = mark_spaces(t, raw, n_raw);

    if (r < 0) {
        return r;
    }
    const char *text = (const char *)t->text.data;
    const size_t n = t->text.n;
    r = merger_begin(&t->merger, n);
    for (size_t at = 0; r == 0 && at < n;) {
        size_t len = lengths[(uint8_t)text[at] >> 4];
        if (len > n - at) {
            len = n - at;
        }
        merger_add(&t->merger, (uint32_t)at, (uint32_t)len, vocab_find(t->v, text + at, len));
        at += len;
    }
    if (r == 0) {
        r = merger_run(&t->merger, t->v, text);
    }
    return r < 0 ? r : put_symbols(t, text);
}

/* ---- special tokens ---- */

static bool may_begin(const uint64_t set[4], char c)
{
    const uint8_t b = (uint8_t)c;

    return set[b / 64] >> b % 64 & 1;
}

/* In specials[lo..hi), which agree in the first `depth` bytes: the first whose next byte is >=
 * b. */
static uint32_t lower(const struct vocab *v, uint32_t lo, uint32_t hi, size_t depth, unsigned b)
{
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        const struct strview s = vocab_text(v, v->specials[mid]);
        if (s.n <= depth || (uint8_t)s.data[depth] < b) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* The longest special token that begins at p, or -1. The sorted list is narrowed byte by byte. */
static int32_t special_at(const struct tokenizer *t, const char *p, size_t n, size_t *ret_n)
{
    const struct vocab *v = t->v;
    uint32_t lo = 0, hi = v->h->n_specials;
    int32_t best = -1;

    for (size_t depth = 0; depth < n && lo < hi; depth++) {
        const unsigned b = (uint8_t)p[depth];
        lo = lower(v, lo, hi, depth, b);
        hi = lower(v, lo, hi, depth, b + 1);
        for (uint32_t i = lo; i < hi; i++) {
            const uint32_t id = v->specials[i];
            if (vocab_text(v, id).n != depth + 1) {
                break; /* those that end here come first */
            }
            if (t->flags & TOKENIZE_SPECIAL || v->types[id] == TOKEN_USER) {
                best = (int32_t)id;
                *ret_n = depth + 1;
                break;
            }
        }
    }
    return best;
}

static int put_fragment(struct tokenizer *t, const char *text, size_t n)
{
    if (n == 0) {
        return TOKENIZE_OK;
    }
    const int r = t->v->h->kind == VOCAB_BPE ? put_bytelevel(t, text, n) : put_spm(t, text, n);
    t->after_special = false;
    return r;
}

static int put_text(struct tokenizer *t, const char *text, size_t n)
{
    const uint64_t *first = t->flags & TOKENIZE_SPECIAL ? t->v->special_first : t->v->user_first;
    size_t from = 0;
    int r = TOKENIZE_OK;

    for (size_t at = 0; r == TOKENIZE_OK && at < n;) {
        size_t len = 0;
        const int32_t id = may_begin(first, text[at]) ? special_at(t, text + at, n - at, &len) : -1;
        if (id < 0) {
            at++;
            continue;
        }
        r = put_fragment(t, text + from, at - from);
        if (r == TOKENIZE_OK) {
            r = put(t, id);
        }
        t->after_special = true;
        at += len;
        from = at;
    }
    return r != TOKENIZE_OK ? r : put_fragment(t, text + from, n - from);
}

int vocab_tokenize(const struct vocab *vocab, const char *text, size_t n, unsigned flags,
                   int32_t *ids, size_t ids_max, size_t *ret_n)
{
    const struct vocab_header *h = vocab->h;
    const bool add = flags & TOKENIZE_ADD_SPECIAL;
    struct tokenizer t = {
        .v = vocab, .flags = flags, .ids = ids, .max = ids_max, .after_special = true};
    int r = TOKENIZE_OK;

    if (n > MERGE_BYTES_MAX / 3) { /* a byte may become three */
        return -E2BIG;
    }
    buf_init(&t.normal, MERGE_BYTES_MAX);
    buf_init(&t.text, MERGE_BYTES_MAX + 3);
    buf_init(&t.subject, MERGE_BYTES_MAX + 3);
    if (vocab->pretok) {
        r = pretok_new(&t.pretok, vocab->pretok);
    }
    if (r == TOKENIZE_OK && add && vocab_adds_bos(vocab)) {
        r = put(&t, h->bos);
    }
    if (r == TOKENIZE_OK) {
        r = put_text(&t, text, n);
    }
    if (r == TOKENIZE_OK && add && h->flags & VOCAB_ADD_EOS && h->eos >= 0) {
        r = put(&t, h->eos);
    }
    merger_deinit(&t.merger);
    buf_deinit(&t.normal);
    buf_deinit(&t.text);
    buf_deinit(&t.subject);
    pretok_delete(t.pretok);
    if (r == TOKENIZE_OK) {
        *ret_n = t.n;
    }
    return r;
}
