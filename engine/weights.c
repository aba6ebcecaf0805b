/* Weights on their way into memory.
 *
 * Each byte is read once, hashed on the way, and only weights whose checksum holds are used: this
 * is where damage of a packed file since its writing is found. A shared model hashes its mapping,
 * which brings the pages in. A private one reads the file into an anonymous mapping that lies as
 * huge pages do and says that it wants them; the file's mapping is then not touched, so that the
 * weights are not resident twice. */
#include "engine/weights.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/engine.h"
#include "engine/model.h"

#define HUGE_MAX ((size_t)32 << 20)  /* that of 16 KiB pages; those of 64 KiB have 512 MiB */
#define READ_CHUNK ((size_t)1 << 18) /* stays in the cache until it is hashed */

static const char *const backing_names[WEIGHTS_BACKINGS] = {
    [WEIGHTS_SHARED] = "shared",
    [WEIGHTS_PRIVATE] = "private",
};

const char *weights_backing_name(enum weights_backing backing)
{
    return backing_names[backing];
}

bool weights_backing_parse(struct strview name, enum weights_backing *ret)
{
    for (unsigned i = 0; i < WEIGHTS_BACKINGS; i++) {
        if (strview_is(name, backing_names[i])) {
            *ret = (enum weights_backing)i;
            return true;
        }
    }
    return false;
}

/* A page table of one page maps as much as a huge page. */
static size_t huge_page(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), huge = page * (page / sizeof(uint64_t));

    return huge < HUGE_MAX ? huge : HUGE_MAX;
}

/* An anonymous mapping of n bytes that begins where a huge page can. MAP_FAILED: errno says. */
static void *map_aligned(size_t n, size_t huge)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room;

    if (__builtin_add_overflow(n, page - 1, &n)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    n &= ~(page - 1);
    if (__builtin_add_overflow(n, huge, &room)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    uint8_t *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return p;
    }
    const size_t before = (size_t)(-(uintptr_t)p & (huge - 1));
    if (before > 0) {
        (void)munmap(p, before);
    }
    (void)munmap(p + before + n, huge - before);
    return p + before;
}

static long faults(void)
{
    struct rusage u;

    return getrusage(RUSAGE_THREAD, &u) == 0 ? u.ru_minflt : 0;
}

/* Touch both halves of what could be a huge page: it is one if the second needs no page. A
 * sanitizer's own pages would be counted with them. */
__attribute__((no_sanitize("address", "thread"))) static bool came_huge(volatile uint8_t *at,
                                                                        size_t huge)
{
    const long before = faults();

    at[0] = 0;
    at[huge / 2] = 0;
    return faults() - before == 1;
}

/* ---- private ---- */

static int cut_off(struct diag *d, uint64_t offset)
{
    diag_set(d, offset, "packed file: it was cut off");
    return MODEL_MALFORMED;
}

static int read_chunk(int fd, uint8_t *to, size_t n, uint64_t offset, struct diag *d)
{
    for (size_t done = 0; done < n;) {
        const ssize_t got = pread(fd, to + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno != EINTR) {
            return -errno;
        }
        if (got == 0) {
            return cut_off(d, offset + done);
        }
        done += got > 0 ? (size_t)got : 0;
    }
    return MODEL_OK;
}

/* @scratch: fd is a file of our own, whose pages go as soon as they are copied */
static int fill(struct weights_copy *copy, const struct image_section *s, int fd, bool scratch,
                XXH3_state_t *hash, struct diag *d)
{
    const size_t huge = huge_page(), bytes = (size_t)s->bytes;

    (void)XXH3_64bits_reset(hash);
    for (size_t at = 0; at < bytes;) {
        if (at % huge == 0 && bytes - at >= huge && came_huge(copy->data + at, huge)) {
            copy->huge_bytes += huge;
        }
        const size_t n = bytes - at < READ_CHUNK ? bytes - at : READ_CHUNK;
        const int r = read_chunk(fd, copy->data + at, n, s->offset + at, d);
        if (r != MODEL_OK) {
            return r;
        }
        (void)XXH3_64bits_update(hash, copy->data + at, n);
        if (scratch) { /* best effort: it only takes memory for longer */
            (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(s->offset + at),
                            (off_t)n);
        }
        at += n;
    }
    return MODEL_OK;
}

static int copy_private(struct model *m, int fd, bool scratch, struct diag *d)
{
    const struct image_section *s = &m->header->sections[IMAGE_WEIGHTS];
    struct weights_copy copy = {.bytes = (size_t)s->bytes};
    XXH3_state_t *hash = XXH3_createState();
    int r = MODEL_OK;

    if (!hash) {
        return -ENOMEM;
    }
    copy.data = map_aligned(copy.bytes, huge_page());
    if (copy.data == MAP_FAILED) {
        (void)XXH3_freeState(hash);
        return -ENOMEM;
    }
    (void)madvise(copy.data, copy.bytes, MADV_HUGEPAGE); /* a kernel without them has small ones */
    r = fill(&copy, s, fd, scratch, hash, d);
    if (r == MODEL_OK && XXH3_64bits_digest(hash) != s->hash) {
        diag_set(d, s->offset, "packed file: the checksum of WEIGHTS is wrong");
        r = MODEL_MALFORMED;
    }
    if (r == MODEL_OK && mprotect(copy.data, copy.bytes, PROT_READ) < 0) {
        r = -errno;
    }
    (void)XXH3_freeState(hash);
    if (r == MODEL_OK) {
        r = model_use_copy(m, &copy, d);
    }
    if (r != MODEL_OK) {
        (void)munmap(copy.data, copy.bytes);
    }
    return r;
}

int model_bring_in(struct model *model, int fd, enum weights_backing backing, struct diag *ret_diag)
{
    const struct image_section *s = &model->header->sections[IMAGE_WEIGHTS];
    const bool scratch = model->scratch_fd >= 0;

    if (backing == WEIGHTS_PRIVATE && s->bytes > 0 && !model->copy.data) {
        return copy_private(model, scratch ? model->scratch_fd : fd, scratch, ret_diag);
    }
    return model_verify(model, ret_diag);
}

void model_map(const struct model *model, const void **ret_at, size_t *ret_n)
{
    const size_t tail = filemap_tail((size_t)model->header->sections[IMAGE_WEIGHTS].offset);

    *ret_at = model->file.data + tail;
    *ret_n = !model->copy.data && tail < model->file.size ? model->file.size - tail : 0;
}

void model_weights(const struct model *model, struct model_weights *ret)
{
    *ret = (struct model_weights){
        .backing = model->copy.data ? WEIGHTS_PRIVATE : WEIGHTS_SHARED,
        .bytes = model->header->sections[IMAGE_WEIGHTS].bytes,
        .huge_bytes = model->copy.huge_bytes,
    };
}
