/* A list of hashes as anybody may have written it: it is refused with its line, or is in order. */
#include <stdint.h>
#include <stdlib.h>

#include "train/commands/kept_out.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct strview text = {.data = (const char *)data, .n = n};
    struct grammar_fault fault = {0};
    struct kept_out k;
    const int r = kept_out_parse(&k, text, &fault);

    if (r == GRAMMAR_SYNTAX && fault.line == 0) {
        abort();
    }
    for (size_t i = 1; r == GRAMMAR_OK && i < k.n; i++) {
        if (k.hashes[i - 1] > k.hashes[i]) {
            abort();
        }
    }
    (void)kept_out_has(&k, text.data, n);
    kept_out_deinit(&k);
    return 0;
}
