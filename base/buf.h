/* A growing run of bytes with a ceiling it is born with. Memory that it gives back is wiped. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/strview.h"

struct buf {
    uint8_t *data; /* owned; NULL while empty */
    size_t n;      /* bytes in use */
    size_t room;   /* bytes allocated */
    size_t max;    /* n never passes this */
};

/** buf_init() - empty; takes no memory. @max: bytes */
void buf_init(struct buf *b, size_t max);
void buf_deinit(struct buf *b); /* also after buf_steal(); a zeroed buf is fine */

/** buf_reserve() - room for @more bytes beyond n: 0, -ENOMEM, or -E2BIG past max (nothing
 * changed) */
MUST_USE int buf_reserve(struct buf *b, size_t more);
/** buf_append() - add n bytes: 0, -ENOMEM or -E2BIG (nothing changed) */
MUST_USE int buf_append(struct buf *b, const void *data, size_t n);
/** buf_drop() - remove the first n bytes, and wipe as many behind the others; n <= b->n */
void buf_drop(struct buf *b, size_t n);
/** buf_steal() - hand the bytes to the caller, who frees them with free(), or wipe_free() where
 * they are words; b is empty afterwards */
uint8_t *buf_steal(struct buf *b, size_t *ret_n);

#endif
