#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/text/utf8.h"
#include "tests/fuzz/use.h"

#define TEXT_MAX 512u

static void check_valid(struct strview text)
{
    if (!utf8_valid(text.data, text.n)) {
        abort(); /* what clients get is text */
    }
}

static void stream(const struct vocab *v, const int32_t *ids, size_t n)
{
    static const char *const stops[] = {"ab", "\n\n"};
    const struct strview views[] = {strview_of(stops[0]), strview_of(stops[1])};
    struct textout *t = NULL;
    struct strview text;

    if (textout_new(&t, v, views, 2) != 0) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const bool stop = textout_feed(t, ids[i], &text);
        check_valid(text);
        if (stop) {
            break;
        }
    }
    textout_finish(t, &text);
    check_valid(text);
    textout_free(t);
}

static void use_text(const struct vocab *v, const char *text, size_t n, unsigned flags)
{
    int32_t ids[4 * TEXT_MAX];
    char *back = NULL;
    size_t n_ids = 0, n_back = 0;

    if (vocab_tokenize(v, text, n, flags, ids, 4 * TEXT_MAX, &n_ids) != TOKENIZE_OK) {
        return;
    }
    for (size_t i = 0; i < n_ids; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= vocab_size(v)) {
            abort(); /* an id that would index the embeddings out of bounds */
        }
        (void)vocab_is_end(v, ids[i]);
    }
    if (vocab_detokenize(v, ids, n_ids, &back, &n_back) == 0) {
        free(back);
    }
    stream(v, ids, n_ids);
}

void use_vocab(const struct vocab *v, const uint8_t *data, size_t n)
{
    const size_t n_text = n < TEXT_MAX ? n : TEXT_MAX;
    const char *text = (const char *)data + n - n_text;

    use_text(v, text, n_text, TOKENIZE_SPECIAL | TOKENIZE_ADD_SPECIAL);
    use_text(v, text, n_text, 0);
}
