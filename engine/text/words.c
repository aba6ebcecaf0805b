/* words: the first half of tokenizing, alone. */
#include "engine/words.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/text/merge.h"
#include "engine/text/nfc.h"
#include "engine/text/packer.h"
#include "engine/text/pretok.h"
#include "engine/text/utf8.h"

struct words {
    struct pretok_code *code; /* owned */
    struct pretok *pretok;    /* owned */
    struct buf normal;        /* the text in normalization form C, where it has another */
    bool nfc;
};

int words_new(struct words **ret, struct strview pre)
{
    enum vocab_pre which;
    uint32_t flags;

    if (!packer_pre_find(pre, &which, &flags)) {
        return -EINVAL;
    }
    struct words *w = calloc(1, sizeof(*w));
    if (!w) {
        return -ENOMEM;
    }
    buf_init(&w->normal, MERGE_BYTES_MAX);
    w->nfc = flags & VOCAB_NFC;
    int r = pretok_compile(which, &w->code);
    if (r == 0) {
        r = pretok_new(&w->pretok, w->code);
    }
    if (r == 0) {
        *ret = w;
        w = NULL;
    }
    words_free(w);
    return r;
}

void words_free(struct words *w)
{
    if (!w) {
        return;
    }
    pretok_delete(w->pretok);
    pretok_free(w->code);
    buf_deinit(&w->normal);
    free(w);
}

int words_cut(struct words *w, const char *text, size_t n, words_fn *take, void *arg)
{
    struct strview s = {.data = text, .n = n};
    int r = WORDS_OK;

    if (n > MERGE_BYTES_MAX) {
        return -E2BIG;
    }
    if (!utf8_valid(text, n)) {
        return WORDS_NOT_UTF8;
    }
    if (w->nfc) {
        r = nfc_normalize(&w->normal, text, n, &s);
        if (r != NFC_OK) {
            return r == NFC_HARD ? WORDS_HARD : r;
        }
    }
    pretok_begin(w->pretok, s.data, s.n);
    for (size_t at = 0, end = 0; r == 0 && at < s.n; at = end) {
        r = pretok_next(w->pretok, &end);
        if (r == PRETOK_HARD) {
            return WORDS_HARD;
        }
        if (r == PRETOK_OK) {
            r = take(arg, s.data + at, end - at);
        }
    }
    return r;
}
