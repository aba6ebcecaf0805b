/* Fuzz target of vocabularies: bytes that begin like a GGUF are parsed, packed and opened; others
 * are taken for a packed vocabulary, as a damaged cache file would give. What opens is put to work:
 * text to ids and back, whole and streaming. The text is the tail of the input itself.
 *
 * An input that begins with a T is text alone: its second byte picks a pre-tokenizer that cuts the
 * rest, and the rest is brought into normalization form C. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/gguf.h"
#include "engine/text/nfc.h"
#include "engine/text/pretok.h"
#include "engine/text/utf8.h"
#include "engine/text/vocab.h"
#include "tests/fuzz/use.h"

#define PACKED_MAX ((size_t)1 << 26)
#define TEXT_MAX ((size_t)1 << 14)

static void open_and_use(const uint8_t *packed, size_t n_packed, const uint8_t *data, size_t n)
{
    struct vocab *v = NULL;
    struct diag d = {0};

    if (vocab_open_view(&v, packed, n_packed, &d) == MODEL_OK) {
        use_vocab(v, data, n);
    }
    vocab_free(v);
}

/* Words cover the text and end at characters' borders. */
static void cut(enum vocab_pre pre, const char *text, size_t n)
{
    static struct pretok_code *codes[PRE_COUNT]; /* kept until the process ends */
    struct pretok *p = NULL;

    if ((!codes[pre] && pretok_compile(pre, &codes[pre]) != 0) || pretok_new(&p, codes[pre]) != 0) {
        return;
    }
    pretok_begin(p, text, n);
    for (size_t at = 0, end = 0; at < n; at = end) {
        if (pretok_next(p, &end) != PRETOK_OK) {
            break;
        }
        if (end <= at || end > n || (end < n && ((uint8_t)text[end] & 0xc0) == 0x80)) {
            abort();
        }
    }
    pretok_delete(p);
}

/* What is normalized stays so, is as valid as before, and no longer than the standard allows. */
static void normalize(const char *text, size_t n)
{
    struct buf first, second;
    struct strview once, twice;

    buf_init(&first, 3 * n);
    buf_init(&second, 3 * n);
    const int r = nfc_normalize(&first, text, n, &once);
    if (r == NFC_OK) {
        if (once.n > 3 * n || utf8_valid(text, n) != utf8_valid(once.data, once.n) ||
            nfc_normalize(&second, once.data, once.n, &twice) != NFC_OK ||
            twice.data != once.data) {
            abort();
        }
    } else if (r == -E2BIG) {
        abort();
    }
    buf_deinit(&first);
    buf_deinit(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gguf g;
    struct buf packed;
    struct diag d = {0};

    if (n > 1 && data[0] == 'T') {
        const char *text = (const char *)data + 2;
        const size_t n_text = n - 2 < TEXT_MAX ? n - 2 : TEXT_MAX;
        if (utf8_valid(text, n_text)) {
            cut((enum vocab_pre)(PRE_NONE + 1 + data[1] % (PRE_COUNT - 1)), text, n_text);
        }
        normalize(text, n_text);
        return 0;
    }
    if (n < 4 || memcmp(data, "GGUF", 4) != 0) {
        uint8_t *copy = malloc(n + 1); /* aligned, as a mapped section is */
        if (copy) {
            if (n > 0) {
                memcpy(copy, data, n);
            }
            open_and_use(copy, n, data, n);
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
        use_vocab(v, data, n);
        vocab_free(v);
    }
    buf_deinit(&packed);
    gguf_deinit(&g);
    return 0;
}
