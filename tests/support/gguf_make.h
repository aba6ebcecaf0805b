/* GGUF files without tensors, in memory, for tests: keys go in as they are asked for, sound or
 * not. */
#ifndef TESTS_SUPPORT_GGUF_MAKE_H
#define TESTS_SUPPORT_GGUF_MAKE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "engine/gguf.h"

struct gguf_make {
    struct buf keys; /* owned */
    uint64_t n;
};

static inline void make_put(struct gguf_make *m, const void *data, size_t n)
{
    if (buf_append(&m->keys, data, n) != 0) {
        abort();
    }
}

static inline void make_u32(struct gguf_make *m, uint32_t v)
{
    make_put(m, &v, 4);
}
static inline void make_u64(struct gguf_make *m, uint64_t v)
{
    make_put(m, &v, 8);
}

static inline void make_text(struct gguf_make *m, const char *s, size_t n)
{
    make_u64(m, n);
    make_put(m, s, n);
}

static inline void make_key(struct gguf_make *m, const char *name, uint32_t type)
{
    if (m->keys.max == 0) {
        buf_init(&m->keys, (size_t)1 << 26);
    }
    make_text(m, name, strlen(name));
    make_u32(m, type);
    m->n++;
}

static inline void make_key_u32(struct gguf_make *m, const char *name, uint32_t v)
{
    make_key(m, name, GGUF_U32);
    make_u32(m, v);
}

static inline void make_key_bool(struct gguf_make *m, const char *name, bool v)
{
    const uint8_t b = v;

    make_key(m, name, GGUF_BOOL);
    make_put(m, &b, 1);
}

static inline void make_key_str(struct gguf_make *m, const char *name, const char *v)
{
    make_key(m, name, GGUF_STR);
    make_text(m, v, strlen(v));
}

static inline void make_array(struct gguf_make *m, const char *name, uint32_t elem, uint64_t n)
{
    make_key(m, name, GGUF_ARR);
    make_u32(m, elem);
    make_u64(m, n);
}

static inline void make_key_strs(struct gguf_make *m, const char *name, const char *const *v,
                                 size_t n)
{
    make_array(m, name, GGUF_STR, n);
    for (size_t i = 0; i < n; i++) {
        make_text(m, v[i], strlen(v[i]));
    }
}

static inline void make_key_i32s(struct gguf_make *m, const char *name, const int32_t *v, size_t n)
{
    make_array(m, name, GGUF_I32, n);
    make_put(m, v, n * 4);
}

static inline void make_key_f32s(struct gguf_make *m, const char *name, const float *v, size_t n)
{
    make_array(m, name, GGUF_F32, n);
    make_put(m, v, n * 4);
}

/** make_done() - a file descriptor of the finished file, for the caller to close; m is empty
 * after */
static inline int make_done(struct gguf_make *m)
{
    const uint32_t head[2] = {0x46554747u, 3};
    const uint64_t counts[2] = {0, m->n};
    const int fd = memfd_create("gguf", MFD_CLOEXEC);

    if (fd < 0 || write(fd, head, 8) != 8 || write(fd, counts, 16) != 16 ||
        write(fd, m->keys.data, m->keys.n) != (ssize_t)m->keys.n) {
        abort();
    }
    buf_deinit(&m->keys);
    *m = (struct gguf_make){0};
    return fd;
}

#endif
