/* buf: grows by doubling, never past its ceiling. What it held is wiped wherever it lets go of
 * memory: mostly it is somebody's words. */
#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/wipe.h"

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_deinit(struct buf *b)
{
    wipe_free(b->data, b->room);
    *b = (struct buf){.max = b->max};
}

int buf_reserve(struct buf *b, size_t more)
{
    size_t need, room;

    if (__builtin_add_overflow(b->n, more, &need) || need > b->max) {
        return -E2BIG;
    }
    if (need <= b->room) {
        return 0;
    }
    room = b->room ? b->room : 64;
    while (room < need) {
        if (__builtin_mul_overflow(room, (size_t)2, &room)) {
            room = need;
        }
    }
    if (room > b->max) {
        room = b->max;
    }
    uint8_t *data = malloc(room); /* realloc() would leave the old bytes where they were */
    if (!data) {
        return -ENOMEM;
    }
    if (b->n > 0) {
        memcpy(data, b->data, b->n);
    }
    wipe_free(b->data, b->room);
    b->data = data;
    b->room = room;
    return 0;
}

int buf_append(struct buf *b, const void *data, size_t n)
{
    const int r = buf_reserve(b, n);

    if (r < 0) {
        return r;
    }
    if (n > 0) {
        memcpy(b->data + b->n, data, n);
        b->n += n;
    }
    return 0;
}

void buf_drop(struct buf *b, size_t n)
{
    assert(n <= b->n);
    if (n == 0) {
        return;
    }
    if (n < b->n) {
        memmove(b->data, b->data + n, b->n - n);
    }
    b->n -= n;
    wipe(b->data + b->n, n);
}

uint8_t *buf_steal(struct buf *b, size_t *ret_n)
{
    uint8_t *data = b->data;

    *ret_n = b->n;
    *b = (struct buf){.max = b->max};
    return data;
}
