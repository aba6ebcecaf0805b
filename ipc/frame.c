/* frame: cuts a byte stream into frames and puts frames together.
 *
 * Memory grows with the bytes that came, never with the length a header claims. Frames given out
 * stay where they are until the next feed, which drops them all at once: many small frames in one
 * read cost one move. */
#include "ipc/frame.h"

#include <assert.h>
#include <errno.h>

#define FEED_MAX ((size_t)64 << 10)  /* bytes of one read that may follow an unfinished frame */
#define KEEP_MAX ((size_t)128 << 10) /* an idle reader gives back a larger buffer */

static uint32_t load_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

void frame_reader_init(struct frame_reader *r, uint32_t body_max)
{
    *r = (struct frame_reader){.body_max = body_max};
    buf_init(&r->in, FRAME_HEADER + (size_t)body_max + FEED_MAX);
}

void frame_reader_deinit(struct frame_reader *r)
{
    buf_deinit(&r->in);
    r->taken = 0;
}

int frame_feed(struct frame_reader *r, const void *data, size_t n)
{
    buf_drop(&r->in, r->taken);
    r->taken = 0;
    return buf_append(&r->in, data, n);
}

/* Everything was given out: start over at the front, and give a big buffer back to the system. */
static void frame_reader_rewind(struct frame_reader *r)
{
    r->taken = 0;
    if (r->in.room > KEEP_MAX) {
        buf_deinit(&r->in);
    }
    buf_drop(&r->in, r->in.n);
}

int frame_next(struct frame_reader *r, const uint8_t **ret_body, size_t *ret_n)
{
    const size_t left = r->in.n - r->taken;

    if (left == 0) {
        frame_reader_rewind(r);
        return FRAME_MORE;
    }
    if (left < FRAME_HEADER) {
        return FRAME_MORE;
    }
    const uint32_t n = load_le32(r->in.data + r->taken);
    if (n == 0) {
        return FRAME_EMPTY;
    }
    if (n > r->body_max) {
        return FRAME_TOO_LONG;
    }
    if (left - FRAME_HEADER < n) {
        return FRAME_MORE;
    }
    *ret_body = r->in.data + r->taken + FRAME_HEADER;
    *ret_n = n;
    r->taken += FRAME_HEADER + (size_t)n;
    return FRAME_OK;
}

bool frame_partial(const struct frame_reader *r)
{
    return r->in.n > r->taken;
}

int frame_begin(struct buf *out, size_t *ret_mark)
{
    static const uint8_t header[FRAME_HEADER];
    const size_t mark = out->n;
    const int r = buf_append(out, header, sizeof(header));

    if (r < 0) {
        return r;
    }
    *ret_mark = mark;
    return 0;
}

int frame_end(struct buf *out, size_t mark, uint32_t body_max)
{
    assert(out->n > mark + FRAME_HEADER); /* an empty body is no frame */
    const size_t n = out->n - mark - FRAME_HEADER;

    if (n > body_max) {
        out->n = mark;
        return -E2BIG;
    }
    for (unsigned i = 0; i < FRAME_HEADER; i++) {
        out->data[mark + i] = (uint8_t)(n >> (8 * i));
    }
    return 0;
}
