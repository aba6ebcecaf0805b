/* Fuzz target of vocabularies: bytes that begin like a GGUF are parsed, packed and opened; others are
 * taken for a packed vocabulary, as a damaged cache file would give. What opens is put to work: text
 * to ids and back, whole and streaming. The text is the tail of the input itself. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/gguf.h"
#include "engine/text/vocab.h"

#define TEXT_MAX 512u
#define PACKED_MAX ((size_t)1 << 26)

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
        if (textout_feed(t, ids[i], &text)) {
            break;
        }
    }
    textout_finish(t, &text);
    textout_free(t);
}

static void work(const struct vocab *v, const uint8_t *data, size_t n)
{
    const size_t n_text = n < TEXT_MAX ? n : TEXT_MAX;
    int32_t ids[4 * TEXT_MAX];
    char *back = NULL;
    size_t n_ids = 0, n_back = 0;
    const int r =
        vocab_tokenize(v, (const char *)data + n - n_text, n_text,
                       TOKENIZE_SPECIAL | TOKENIZE_ADD_SPECIAL, ids, 4 * TEXT_MAX, &n_ids);

    if (r != TOKENIZE_OK) {
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

static void open_and_work(const uint8_t *packed, size_t n_packed, const uint8_t *data, size_t n)
{
    struct vocab *v = NULL;
    struct diag d = {0};

    if (vocab_open_view(&v, packed, n_packed, &d) == MODEL_OK) {
        work(v, data, n);
    }
    vocab_free(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gguf g;
    struct buf packed;
    struct diag d = {0};

    if (n < 4 || memcmp(data, "GGUF", 4) != 0) {
        uint8_t *copy = malloc(n + 1); /* aligned, as a mapped section is */
        if (copy) {
            if (n > 0) {
                memcpy(copy, data, n);
            }
            open_and_work(copy, n, data, n);
        }
        free(copy);
        return 0;
    }
    if (gguf_parse(&g, data, n, &d) != GGUF_OK) {
        return 0;
    }
    buf_init(&packed, PACKED_MAX);
    if (vocab_pack(&g, &packed, &d) == MODEL_OK) {
        struct vocab *v = NULL;
        if (vocab_open_view(&v, packed.data, packed.n, &d) != MODEL_OK) {
            abort(); /* what we packed we must be able to read */
        }
        work(v, data, n);
        vocab_free(v);
    }
    buf_deinit(&packed);
    gguf_deinit(&g);
    return 0;
}
