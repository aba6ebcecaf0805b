/* checkpoint: one walk writes, one reads; both count the checksum as they go. */
#include "train/loop/checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/fdio.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "checkpoints are little-endian");
_Static_assert(sizeof(struct progress_at) == 32, "written as it lies in memory");

static const char magic[8] = "ONEBITCK";

#define PIECE_BYTES 65536u

static uint64_t sum_add(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < n; i += 8) {
        uint64_t word;
        memcpy(&word, p + i, sizeof(word));
        h ^= word;
        h = (h << 29 | h >> 35) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return h;
}

/* ---- writing ---- */

struct writer {
    int fd, r; /* r: the first failure */
    uint64_t sum;
    uint8_t piece[PIECE_BYTES];
    size_t n; /* bytes of it that wait */
};

static void flush(struct writer *w)
{
    w->sum = sum_add(w->sum, w->piece, w->n);
    if (w->r == 0) {
        w->r = fd_write_all(w->fd, w->piece, w->n);
    }
    w->n = 0;
}

static void put(struct writer *w, const void *data, size_t n)
{
    const uint8_t *p = data;

    while (n > 0) {
        const size_t room = PIECE_BYTES - w->n, k = n < room ? n : room;
        memcpy(w->piece + w->n, p, k);
        w->n += k;
        p += k;
        n -= k;
        if (w->n == PIECE_BYTES) {
            flush(w);
        }
    }
}

static void put_u64(struct writer *w, uint64_t v)
{
    put(w, &v, sizeof(v));
}

static void pad(struct writer *w, size_t n)
{
    static const uint8_t zeros[8];

    put(w, zeros, (8 - n % 8) % 8);
}

static void put_all(struct writer *w, const struct checkpoint *c)
{
    const size_t bytes = c->n_params * sizeof(float);

    put(w, magic, sizeof(magic));
    put_u64(w, CHECKPOINT_VERSION);
    put_u64(w, RECIPE_BYTES);
    put(w, &c->recipe, RECIPE_BYTES);
    put(w, &c->at, sizeof(c->at));
    put_u64(w, c->n_vocabulary);
    put(w, c->vocabulary, c->n_vocabulary);
    pad(w, c->n_vocabulary);
    put_u64(w, c->n_params);
    put(w, c->params, bytes);
    put(w, c->m, bytes);
    put(w, c->v, bytes);
    pad(w, 3 * bytes);
    put_u64(w, c->n_state);
    put(w, c->state, c->n_state * sizeof(float));
    pad(w, c->n_state * sizeof(float));
}

int checkpoint_write(int fd, const struct checkpoint *c)
{
    struct writer *w = calloc(1, sizeof(*w));

    if (!w) {
        return -ENOMEM;
    }
    w->fd = fd;
    put_all(w, c);
    flush(w);
    const uint64_t sum = w->sum;
    int r = w->r;
    free(w);
    if (r == 0) {
        r = fd_write_all(fd, &sum, sizeof(sum));
    }
    return r;
}

/* ---- reading ---- */

static int malformed(struct diag *d, const char *why)
{
    diag_set(d, 0, "%s", why);
    return CHECKPOINT_MALFORMED;
}

/* A count, then so many items of `each` bytes, `times` over, then zeros up to a multiple of 8. */
static const uint8_t *take_run(struct cursor *c, size_t each, size_t times, size_t *ret_n)
{
    const uint64_t n = cursor_u64(c);
    uint64_t bytes;

    if (__builtin_mul_overflow(n, (uint64_t)(each * times), &bytes) ||
        bytes > CHECKPOINT_BYTES_MAX) {
        c->bad = true;
        return NULL;
    }
    const uint8_t *p = cursor_take(c, bytes);
    (void)cursor_take(c, (8 - bytes % 8) % 8);
    *ret_n = (size_t)n;
    return p;
}

static const float *floats(const uint8_t *p)
{
    return (const float *)(const void *)p;
}

static int take_parts(struct checkpoint *k, struct cursor *c, struct diag *d)
{
    const uint8_t *recipe = cursor_take(c, RECIPE_BYTES);
    const uint8_t *at = cursor_take(c, sizeof(k->at));

    k->vocabulary = take_run(c, 1, 1, &k->n_vocabulary);
    const uint8_t *params = take_run(c, sizeof(float), 3, &k->n_params);
    k->state = floats(take_run(c, sizeof(float), 1, &k->n_state));
    if (c->bad) {
        return malformed(d, "ends early");
    }
    if (c->at != c->end) {
        return malformed(d, "has bytes behind its end");
    }
    k->params = floats(params);
    k->m = k->params + k->n_params;
    k->v = k->m + k->n_params;
    memcpy(&k->recipe, recipe, RECIPE_BYTES);
    memcpy(&k->at, at, sizeof(k->at));
    return CHECKPOINT_OK;
}

int checkpoint_parse(struct checkpoint *ret, const void *data, size_t n, struct diag *ret_diag)
{
    struct checkpoint k = {0};
    uint64_t sum;

    if (n < 32 || n % 8 != 0 || memcmp(data, magic, sizeof(magic)) != 0) {
        return malformed(ret_diag, "is no checkpoint, or ends early");
    }
    struct cursor c = {.at = (const uint8_t *)data + 8, .end = (const uint8_t *)data + n - 8};
    const uint64_t version = cursor_u64(&c), bytes = cursor_u64(&c);
    if (version != CHECKPOINT_VERSION || bytes != RECIPE_BYTES) {
        diag_set(ret_diag, 8, "is a checkpoint of another version");
        return CHECKPOINT_UNSUPPORTED;
    }
    memcpy(&sum, c.end, sizeof(sum));
    if (sum != sum_add(0, data, n - 8)) {
        return malformed(ret_diag, "its checksum is not that of its bytes");
    }
    int r = take_parts(&k, &c, ret_diag);
    if (r == CHECKPOINT_OK && !recipe_check(&k.recipe, ret_diag)) {
        r = CHECKPOINT_MALFORMED;
    }
    if (r == CHECKPOINT_OK) {
        *ret = k;
    }
    return r;
}
