/* Fuzz target of KV blocks read back from a file that others may have written: the input is a list
 * of edits to a sound file. Where checksums stay as they were, a prompt's logits must be those of a
 * run without a file; where they are made right again, whatever the blocks now say must do no harm.
 *
 * Input: a byte (bit 0: checksums are mended), then edits: a byte (slot in bits 0-2, 7 is the
 * header; width 1, 2, 4 or 8 in bits 3-4), an offset of two bytes in units of the width, the value.
 * Little-endian. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/cursor.h"
#include "engine/kv.h"
#include "engine/kv_spill.h"
#include "tests/unit/engine/tiny.h"

#define EDITS_MAX 64u
#define N_IDS 150u
#define N_BLOCKS 4u
#define FILE_MAX ((uint64_t)16 << 20)

struct sound {
    struct model *model; /* kept until the process ends, as all of this */
    struct engine *engine;
    struct stepper *stepper;
    int32_t ids[N_IDS];
    float logits[TINY_VOCAB];
    uint8_t *file;
    size_t n, slot_bytes;
};

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void on_written(void *arg)
{
    (void)arg;
}

static void wait_ready(struct kv_pool *p)
{
    for (unsigned ms = 0; ms < 60000 && !kv_spill_ready(p->spill); ms++) {
        (void)usleep(100);
    }
}

static struct kv_pool *open_pool(const struct sound *s, int fd)
{
    struct kv_pool *p = NULL;

    must(kv_pool_new(&p, s->model, KV_F16, N_BLOCKS + 2) == 0);
    must(kv_pool_spill(p, fd, FILE_MAX, on_written, NULL) == 0);
    wait_ready(p);
    return p;
}

/* The prompt's last logits; NULL when they could not be computed. */
static const float *run(const struct sound *s, struct kv_pool *p)
{
    static const uint8_t salt[KV_SALT] = {7};
    struct step_item it = {.n_logits = 1};

    must(seq_new(&it.seq, p, N_IDS) == 0);
    do {
        (void)seq_attach(it.seq, salt, s->ids, N_IDS);
    } while (seq_on_disk(it.seq));
    it.ids = s->ids + seq_len(it.seq);
    it.n_ids = N_IDS - seq_len(it.seq);
    must(stepper_run(s->stepper, &it, 1, NULL) == STEP_OK);
    seq_free(it.seq);
    return it.logits;
}

static const struct sound *sound_file(void)
{
    static const struct tiny kind = {.arch = "qwen3", .format = "Q8_0", .head = "Q8_0"};
    const struct engine_options options = {.cpu = CPU_SCALAR, .n_threads = 1};
    const struct stepper_limits limits = {.n_tokens_max = N_IDS, .n_logits_max = 1};
    static struct sound s;

    if (s.file) {
        return &s;
    }
    const int fd = memfd_create("kv", MFD_CLOEXEC), own = dup(fd);
    must(fd >= 0 && own >= 0);
    s.model = tiny_open(&kind);
    must(engine_new(&s.engine, &options) == 0);
    must(stepper_new(&s.stepper, s.engine, s.model, &limits) == 0);
    for (unsigned i = 0; i < N_IDS; i++) {
        s.ids[i] = (int32_t)((i * i * 7 + 5) % TINY_VOCAB);
    }
    struct kv_pool *p = open_pool(&s, own);
    memcpy(s.logits, run(&s, p), sizeof(s.logits));
    for (unsigned i = 0; i < N_BLOCKS; i++) {
        wait_ready(p);
        must(kv_pool_spill_next(p));
    }
    wait_ready(p);
    s.slot_bytes = (SPILL_HEAD_BYTES + p->block_bytes + 4095) & ~(size_t)4095;
    kv_pool_free(p);
    s.file = tiny_slurp(fd, &s.n);
    must(s.n == SPILL_HEADER_BYTES + N_BLOCKS * s.slot_bytes);
    (void)close(fd);
    return &s;
}

static void edit(const struct sound *s, uint8_t *file, const uint8_t *data, size_t n)
{
    struct cursor c = cursor_of(data, n);

    for (unsigned i = 0; i < EDITS_MAX; i++) {
        const uint8_t kind = cursor_u8(&c);
        const size_t width = (size_t)1 << (kind >> 3 & 3), slot = kind & 7;
        const uint64_t unit = cursor_u16(&c);
        const uint8_t *value = cursor_take(&c, width);

        if (!value) {
            return;
        }
        const bool header = slot == 7;
        const size_t at = header ? 0 : SPILL_HEADER_BYTES + slot % N_BLOCKS * s->slot_bytes;
        const size_t bytes = header ? sizeof(struct spill_file) : s->slot_bytes;
        memcpy(file + at + unit * width % (bytes - width + 1), value, width);
    }
}

static void mend(const struct sound *s, uint8_t *file)
{
    struct spill_head h;
    struct spill_file f;

    memcpy(&f, file, sizeof(f));
    const size_t block_bytes = (size_t)kv_block_bytes(s->model, KV_F16);
    f.check = XXH3_64bits(&f, offsetof(struct spill_file, check));
    memcpy(file, &f, sizeof(f));
    for (size_t i = 0; i < N_BLOCKS; i++) {
        uint8_t *at = file + SPILL_HEADER_BYTES + i * s->slot_bytes;
        memcpy(&h, at, sizeof(h));
        const size_t from = sizeof(h.check);
        const XXH128_hash_t own = XXH3_128bits((const uint8_t *)&h + from, sizeof(h) - from);
        const XXH128_hash_t all =
            XXH3_128bits_withSeed(at + SPILL_HEAD_BYTES, block_bytes, own.low64 ^ own.high64);
        h.check[0] = all.low64;
        h.check[1] = all.high64 ^ own.high64;
        memcpy(at, &h, sizeof(h));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0) {
        return 0;
    }
    const struct sound *s = sound_file();
    uint8_t *file = malloc(s->n);
    must(file != NULL);
    memcpy(file, s->file, s->n);
    edit(s, file, data + 1, n - 1);
    const bool mended = data[0] & 1;
    if (mended) {
        mend(s, file);
    }
    struct kv_pool *p = open_pool(s, tiny_file(file, s->n));
    const float *logits = run(s, p);
    must(mended || memcmp(logits, s->logits, sizeof(s->logits)) == 0);
    kv_pool_free(p);
    free(file);
    return 0;
}
