/* Fuzz target of vocabularies: bytes that begin like a GGUF are parsed, packed and opened; others are
 * taken for a packed vocabulary, as a damaged cache file would give. What opens is put to work: text
 * to ids and back, whole and streaming. The text is the tail of the input itself. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/gguf.h"
#include "engine/text/vocab.h"
#include "tests/fuzz/use.h"

#define PACKED_MAX ((size_t)1 << 26)

static void open_and_use(const uint8_t *packed, size_t n_packed, const uint8_t *data, size_t n)
{
    struct vocab *v = NULL;
    struct diag d = {0};

    if (vocab_open_view(&v, packed, n_packed, &d) == MODEL_OK) {
        use_vocab(v, data, n);
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
