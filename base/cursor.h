/* Reads untrusted little-endian bytes. The first short read sets `bad` and every later read yields
 * zeros, so a parser checks once per record, not once per field. One cursor serves GGUF files,
 * packed files and socket frames. */
#ifndef BASE_CURSOR_H
#define BASE_CURSOR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct cursor {
    const uint8_t *at, *end; /* borrowed; at <= end */
    bool bad;                /* sticky: a read passed the end, or the parser said no */
};

static inline struct cursor cursor_of(const void *data, size_t n)
{
    const uint8_t *p = data;
    return (struct cursor){.at = p, .end = n ? p + n : p, .bad = false};
}

static inline uint64_t cursor_left(const struct cursor *c)
{
    return c->bad ? 0 : (uint64_t)(c->end - c->at);
}

/** cursor_take() - the next n bytes, or NULL (and `bad`) when fewer are left */
static inline const uint8_t *cursor_take(struct cursor *c, uint64_t n)
{
    if (c->bad || n > (uint64_t)(c->end - c->at)) { /* no `at + n`: it could wrap */
        c->bad = true;
        return NULL;
    }
    const uint8_t *p = c->at;
    if (n > 0) { /* at may be NULL for an empty input, and NULL + 0 is undefined in C */
        c->at += n;
    }
    return p;
}

static inline uint64_t cursor_le(struct cursor *c, unsigned bytes)
{
    const uint8_t *p = cursor_take(c, bytes);
    uint64_t v = 0;
    for (unsigned i = 0; p && i < bytes; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

static inline uint64_t cursor_be(struct cursor *c, unsigned bytes)
{
    const uint8_t *p = cursor_take(c, bytes);
    uint64_t v = 0;
    for (unsigned i = 0; p && i < bytes; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

static inline uint8_t cursor_u8(struct cursor *c)
{
    return (uint8_t)cursor_le(c, 1);
}
static inline uint16_t cursor_u16(struct cursor *c)
{
    return (uint16_t)cursor_le(c, 2);
}
static inline uint32_t cursor_u32(struct cursor *c)
{
    return (uint32_t)cursor_le(c, 4);
}
static inline uint64_t cursor_u64(struct cursor *c)
{
    return cursor_le(c, 8);
}

static inline float cursor_f32(struct cursor *c)
{
    const uint32_t bits = cursor_u32(c);
    float v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

#endif
