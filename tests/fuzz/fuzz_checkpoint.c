/* Fuzz target: checkpoints of a training, as anybody may have left them. What is taken lies within
 * the file and has a recipe within its bounds. The first byte says whether the rest gets a sound
 * checksum, so that what is inside is reached. */
#undef NDEBUG
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "train/loop/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void put_sum(uint8_t *file, size_t n)
{
    uint64_t h = 0;

    for (size_t i = 0; i + 8 < n; i += 8) {
        uint64_t word;
        memcpy(&word, file + i, sizeof(word));
        h ^= word;
        h = (h << 29 | h >> 35) * UINT64_C(0x9e3779b97f4a7c15);
    }
    memcpy(file + n - 8, &h, sizeof(h));
}

static void check_run(const uint8_t *file, size_t n, const void *run, size_t bytes)
{
    const uint8_t *p = run;

    assert(p >= file && bytes <= n && p <= file + n - bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0) {
        return 0;
    }
    const size_t n_file = n - 1;
    uint8_t *file = aligned_alloc(8, (n_file + 15) / 8 * 8);
    struct diag diag = {0};
    struct checkpoint c;

    assert(file);
    memcpy(file, data + 1, n_file);
    if (data[0] & 1 && n_file >= 8 && n_file % 8 == 0) {
        put_sum(file, n_file);
    }
    const int r = checkpoint_parse(&c, file, n_file, &diag);
    if (r == CHECKPOINT_OK) {
        assert(recipe_check(&c.recipe, NULL));
        check_run(file, n_file, c.vocabulary, c.n_vocabulary);
        check_run(file, n_file, c.params, 3 * c.n_params * sizeof(float));
        check_run(file, n_file, c.state, c.n_state * sizeof(float));
    } else {
        assert((r == CHECKPOINT_MALFORMED || r == CHECKPOINT_UNSUPPORTED) && diag.set);
    }
    free(file);
    return 0;
}
