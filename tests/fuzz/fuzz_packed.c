/* Fuzz target of packed models whose checksums are right: the input is a list of edits to a sound
 * file, after which the checksums are made right again. So nothing but the bounds themselves stands
 * between a hostile header, META or vocabulary and the step loop.
 *
 * Input: a byte that picks the file (bits 0 and 2) and whether checksums are mended (bit 1 clear),
 * then edits: a byte (section in bits 0-1, width 1, 2, 4 or 8 in bits 2-3), an offset of two bytes
 * in units of the width, the value. Little-endian. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/cursor.h"
#include "engine/image.h"
#include "tests/fuzz/use.h"
#include "tests/unit/engine/tiny.h"

#define EDITS_MAX 64u
#define FILES 3u

struct sound_file {
    uint8_t *data; /* kept until the process ends */
    size_t n;
};

/* Packed once for all inputs. */
static const struct sound_file *sound_file(unsigned i)
{
    static const struct tiny kinds[FILES] = {
        {.arch = "llama", .format = "Q1_0", .head = "Q1_0"},
        {.arch = "qwen3", .format = "Q8_0", .head = "F16", .untied = true, .scaling = "yarn"},
        {.arch = "qwen3", .format = "Q1_0", .head = "Q8_0", .inputs = "binary"},
    };
    static struct sound_file files[FILES];

    if (!files[i].data) {
        const int in = tiny_write(&kinds[i]), out = memfd_create("packed", MFD_CLOEXEC);
        if (out < 0 || model_pack(in, out, NULL, NULL) != MODEL_OK) {
            abort();
        }
        files[i].data = tiny_slurp(out, &files[i].n);
        (void)close(in);
        (void)close(out);
    }
    return &files[i];
}

/* The part of the file that an edit's section number stands for; 3 is the header. */
static void edited_part(const struct image_header *sound, unsigned part, uint64_t *ret_at,
                        uint64_t *ret_bytes)
{
    *ret_at = part < IMAGE_SECTIONS ? sound->sections[part].offset : 0;
    *ret_bytes = part < IMAGE_SECTIONS ? sound->sections[part].bytes : sizeof(*sound);
}

static void edit(uint8_t *file, const struct image_header *sound, const uint8_t *data, size_t n)
{
    struct cursor c = cursor_of(data, n);

    for (unsigned i = 0; i < EDITS_MAX; i++) {
        const uint8_t kind = cursor_u8(&c);
        const size_t width = (size_t)1 << (kind >> 2 & 3);
        const uint64_t unit = cursor_u16(&c);
        const uint8_t *value = cursor_take(&c, width);
        uint64_t at, bytes;

        if (!value) {
            return;
        }
        edited_part(sound, kind & 3, &at, &bytes);
        if (bytes >= width) {
            memcpy(file + at + unit * width % (bytes - width + 1), value, width);
        }
    }
}

/* Checksums of whatever ranges the sections now claim, as far as they lie in the file. */
static void mend(uint8_t *file, size_t n)
{
    struct image_header h;

    memcpy(&h, file, sizeof(h));
    for (unsigned i = 0; i < IMAGE_SECTIONS; i++) {
        struct image_section *s = &h.sections[i];
        if (s->offset <= n && s->bytes <= n - s->offset) {
            s->hash = XXH3_64bits(file + s->offset, (size_t)s->bytes);
        }
    }
    memcpy(file, &h, sizeof(h));
    h.hash = XXH3_64bits(file, offsetof(struct image_header, hash));
    memcpy(file + offsetof(struct image_header, hash), &h.hash, sizeof(h.hash));
}

static void open_and_use(const uint8_t *file, size_t file_n, const uint8_t *data, size_t n,
                         bool mended)
{
    const int fd = tiny_file(file, file_n);
    struct model *model = NULL;
    struct diag d = {0};
    const int r = model_open_packed(&model, fd, &d);

    if (r == MODEL_OK) {
        const enum weights_backing backing = n % 2 ? WEIGHTS_PRIVATE : WEIGHTS_SHARED;
        if (model_bring_in(model, fd, backing, &d) != model_verify(model, &d) ||
            (mended && model_verify(model, &d) != MODEL_OK)) {
            abort();
        }
        use_vocab(model_vocab(model), data, n);
        use_model(model);
    } else if (r > 0 && !d.set) {
        abort(); /* a refusal says why */
    }
    model_free(model);
    (void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0) {
        return 0;
    }
    const struct sound_file *sound = sound_file(data[0] & 4 ? 2 : data[0] & 1);
    struct image_header h;
    uint8_t *file = malloc(sound->n);

    if (!file) {
        return 0;
    }
    memcpy(file, sound->data, sound->n);
    memcpy(&h, file, sizeof(h));
    edit(file, &h, data + 1, n - 1);
    const bool mended = !(data[0] & 2);
    if (mended) {
        mend(file, sound->n);
    }
    open_and_use(file, sound->n, data, n, mended);
    free(file);
    return 0;
}
