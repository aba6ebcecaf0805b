/* The packed image on its way to disk.
 *
 * Weights are transposed and written a panel at a time, so the memory this takes does not grow with
 * the model. Each section is hashed as it passes, and the header with the hashes comes last, after
 * everything else is on disk. Then all of it is read back once and compared with the hashes. */
#include "engine/image_write.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/buf.h"
#include "base/fdio.h"
#include "engine/format.h"
#include "engine/gguf.h"
#include "engine/head.h"
#include "engine/image.h"
#include "engine/kernels/kernels.h"

#define WRITE_CHUNK ((size_t)1 << 20)

/* Bytes on their way to a file, hashed as they pass. */
struct sink {
    int fd;             /* borrowed */
    uint64_t at;        /* file offset */
    XXH3_state_t *hash; /* owned */
};

static int sink_write(struct sink *s, const void *data, size_t n)
{
    if (n == 0) {
        return 0;
    }
    (void)XXH3_64bits_update(s->hash, data, n);
    const int r = fd_write_all_at(s->fd, data, n, (off_t)s->at);
    s->at += r == 0 ? n : 0; /* one that failed is not gone on with */
    return r;
}

static int sink_pad(struct sink *s)
{
    static const uint8_t zeros[IMAGE_ALIGN];

    return sink_write(s, zeros, (size_t)(-s->at & (IMAGE_ALIGN - 1)));
}

/* Begin a section: align without hashing, then hash anew. */
static int sink_begin(struct sink *s, struct image_section *sec)
{
    const int r = sink_pad(s);

    (void)XXH3_64bits_reset(s->hash);
    sec->offset = s->at;
    return r;
}

static void sink_end(const struct sink *s, struct image_section *sec)
{
    sec->bytes = s->at - sec->offset;
    sec->hash = XXH3_64bits_digest(s->hash);
}

static int write_plain(struct sink *s, const uint8_t *data, uint64_t n)
{
    while (n > 0) {
        const size_t chunk = n < WRITE_CHUNK ? (size_t)n : WRITE_CHUNK;
        const int r = sink_write(s, data, chunk);
        if (r < 0) {
            return r;
        }
        data += chunk;
        n -= chunk;
    }
    return 0;
}

static int write_vector(struct sink *s, enum format f, const uint8_t *data, size_t n)
{
    float *x = malloc(n * sizeof(*x));

    if (!x) {
        return -ENOMEM;
    }
    format_decode_row(f, data, format_tensor_scale(f, data, n, 1), n, x);
    const int r = sink_write(s, x, n * sizeof(*x));
    free(x);
    return r;
}

static int write_panels(struct sink *s, const struct image_source *source, const uint8_t *data)
{
    const enum format f = source->format;
    const size_t n_cols = (size_t)source->info->dims[0];
    const uint64_t n_rows = source->info->dims[1];
    const size_t bytes = format_panel_bytes(f, n_cols), row_bytes = format_row_bytes(f, n_cols);
    const float scale = format_tensor_scale(f, data, n_cols, n_rows);
    uint8_t *panel = malloc(bytes);
    int r = 0;

    if (!panel) {
        return -ENOMEM;
    }
    for (uint64_t row = 0; row < n_rows && r == 0; row += PANEL_ROWS) {
        const uint64_t left = n_rows - row;
        format_pack_panel(f, data + row * row_bytes, scale,
                          left < PANEL_ROWS ? (size_t)left : PANEL_ROWS, n_cols, panel);
        if (source->signs) {
            format_panel_for_signs(panel, n_cols);
        }
        r = sink_write(s, panel, bytes);
    }
    free(panel);
    return r;
}

static int write_weights(const struct image_parts *p, struct sink *s)
{
    for (size_t i = 0; i < p->n_tensors; i++) {
        const struct gguf_tensor_info *t = p->source[i].info;
        const enum format f = p->source[i].format;
        int r;

        if (!t) {
            continue;
        }
        const uint8_t *data = p->data + t->offset;
        if (role_is_vector(image_role(i))) {
            r = write_vector(s, f, data, (size_t)t->dims[0]);
        } else if (format_info(f)->panel == PANEL_NONE) {
            r = write_plain(s, data, p->tensors[i].bytes);
        } else {
            r = write_panels(s, &p->source[i], data);
        }
        if (r == 0) {
            r = sink_pad(s);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* ---- the head's copy ---- */

/* A panel's rows as floats. */
static void decode_rows(enum format f, const uint8_t *data, size_t n_rows, size_t n_cols, float *x)
{
    for (size_t row = 0; row < n_rows; row++) {
        format_decode_row(f, data + row * format_row_bytes(f, n_cols), 1, n_cols, x + row * n_cols);
    }
}

/* All panels, then what stands beside them, which is small enough to be kept until then. */
static int write_head_low(const struct image_parts *p, struct sink *s)
{
    const struct image_source *own =
        &p->source[p->source[ROLE_OUTPUT].info ? ROLE_OUTPUT : ROLE_EMBD];
    const size_t n_cols = (size_t)own->info->dims[0],
                 row_bytes = format_row_bytes(own->format, n_cols);
    const uint64_t n_rows = own->info->dims[1];
    const size_t panel_bytes = format_panel_bytes(HEAD_LOW_FORMAT, n_cols);
    const size_t bounds_bytes =
        (size_t)(p->head_low->copy.bytes - head_low_bounds_at(n_cols, n_rows));
    uint8_t *panel = malloc(panel_bytes);
    float *x = malloc(PANEL_ROWS * n_cols * sizeof(*x)), *bounds = malloc(bounds_bytes);
    int r = panel && x && bounds ? 0 : -ENOMEM;

    for (uint64_t row = 0; r == 0 && row < n_rows; row += PANEL_ROWS) {
        const size_t n = n_rows - row < PANEL_ROWS ? (size_t)(n_rows - row) : PANEL_ROWS;
        decode_rows(own->format, p->data + own->info->offset + row * row_bytes, n, n_cols, x);
        head_pack_panel(x, n, n_cols, p->head_low->copy.scale, panel, bounds + row * HEAD_BOUNDS);
        r = sink_write(s, panel, panel_bytes);
    }
    if (r == 0) {
        r = write_plain(s, (const uint8_t *)bounds, bounds_bytes);
    }
    free(bounds);
    free(x);
    free(panel);
    return r;
}

/* ---- read back ---- */

static int read_all_at(int fd, uint8_t *to, size_t n, uint64_t offset)
{
    for (size_t done = 0; done < n;) {
        const ssize_t got = pread(fd, to + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno != EINTR) {
            return -errno;
        }
        if (got == 0) {
            return -EIO;
        }
        done += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

static int check_section(int fd, const struct image_section *sec, XXH3_state_t *hash,
                         uint8_t *chunk)
{
    (void)XXH3_64bits_reset(hash);
    for (uint64_t at = 0; at < sec->bytes;) {
        const uint64_t left = sec->bytes - at;
        const size_t n = left < WRITE_CHUNK ? (size_t)left : WRITE_CHUNK;
        const int r = read_all_at(fd, chunk, n, sec->offset + at);
        if (r < 0) {
            return r;
        }
        (void)XXH3_64bits_update(hash, chunk, n);
        at += n;
    }
    return XXH3_64bits_digest(hash) == sec->hash ? 0 : -EIO;
}

/* Is on the other side of the file system what was hashed on this one? */
static int check_written(int fd, const struct image_header *want)
{
    struct image_header h;
    XXH3_state_t *hash = XXH3_createState();
    uint8_t *chunk = malloc(WRITE_CHUNK);
    int r = -ENOMEM;

    if (!hash || !chunk) {
        goto out;
    }
    r = read_all_at(fd, (uint8_t *)&h, sizeof(h), 0);
    if (r == 0 && memcmp(&h, want, sizeof(h)) != 0) {
        r = -EIO;
    }
    for (unsigned i = 0; i < IMAGE_SECTIONS && r == 0; i++) {
        r = check_section(fd, &h.sections[i], hash, chunk);
    }
out:
    free(chunk);
    (void)XXH3_freeState(hash);
    return r;
}

int image_write(const struct image_parts *p, int fd)
{
    struct image_header h = {.magic = IMAGE_MAGIC,
                             .version = IMAGE_VERSION,
                             .header_bytes = sizeof(h),
                             .pack_id = IMAGE_PACK_ID};
    struct sink s = {.fd = fd, .at = sizeof(h), .hash = XXH3_createState()};
    struct image_section *sec = h.sections;
    int r;

    if (!s.hash) {
        return -ENOMEM;
    }
    (void)XXH3_64bits_reset(s.hash);
    if ((r = sink_begin(&s, &sec[IMAGE_META])) < 0 ||
        (r = sink_write(&s, p->meta->data, p->meta->n)) < 0) {
        goto out;
    }
    sink_end(&s, &sec[IMAGE_META]);
    if ((r = sink_begin(&s, &sec[IMAGE_VOCAB])) < 0 ||
        (r = sink_write(&s, p->vocab->data, p->vocab->n)) < 0) {
        goto out;
    }
    sink_end(&s, &sec[IMAGE_VOCAB]);
    if ((r = sink_begin(&s, &sec[IMAGE_WEIGHTS])) < 0 || (r = write_weights(p, &s)) < 0 ||
        (p->head_low->copy.bytes > 0 && (r = write_head_low(p, &s)) < 0)) {
        goto out;
    }
    sink_end(&s, &sec[IMAGE_WEIGHTS]);
    h.image_bytes = s.at;
    h.hash = XXH3_64bits(&h, offsetof(struct image_header, hash));
    if (fsync(fd) < 0) { /* the weights are on disk before the header says so */
        r = -errno;
        goto out;
    }
    s.at = 0;
    r = sink_write(&s, &h, sizeof(h));
    if (r == 0 && fsync(fd) < 0) {
        r = -errno;
    }
    if (r == 0) {
        r = check_written(fd, &h);
    }
out:
    (void)XXH3_freeState(s.hash);
    return r;
}
