/* Frames: a u32 little-endian length, then that many bytes, one msgpack map. Bytes in, bytes out:
 * no socket here, so the daemon, the client, the tests and the fuzzer use the very same code. */
#ifndef IPC_FRAME_H
#define IPC_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"

#define FRAME_HEADER 4u
#define FRAME_BODY_MAX (1u << 20) /* client socket: bytes of one body, both ways */
#define FRAME_SEAM_BODY_MAX                                                                        \
    (8u << 20) /* broker and runner: a request plus the ids it resumes from */

struct frame_reader {
    struct buf in; /* owned: bytes not yet taken */
    size_t taken;  /* bytes of `in` already given out as frames */
    uint32_t body_max;
};

void frame_reader_init(struct frame_reader *r, uint32_t body_max);
void frame_reader_deinit(struct frame_reader *r);

/** frame_feed() - add bytes from the stream: 0, -ENOMEM, or -E2BIG when frame_next() has not been
 * called until FRAME_MORE between feeds of at most 64 KiB */
MUST_USE int frame_feed(struct frame_reader *r, const void *data, size_t n);

enum { FRAME_OK = 0, FRAME_MORE, FRAME_TOO_LONG, FRAME_EMPTY };

/**
 * frame_next() - the next whole frame, if one is there
 * @ret_body, @ret_n: on FRAME_OK the body; borrowed until the next call on r
 *
 * FRAME_TOO_LONG and FRAME_EMPTY (a length of 0) are final: the stream cannot be trusted any more.
 * A length past the limit is refused from the header alone, nothing is allocated for it.
 */
MUST_USE int frame_next(struct frame_reader *r, const uint8_t **ret_body, size_t *ret_n);

/** frame_partial() - is an unfinished frame in hand? (for the time-out of slow senders) */
bool frame_partial(const struct frame_reader *r);

/** frame_begin()/frame_end() - append a frame to out: the header's room, then the length.
 * frame_end: 0, or -E2BIG when the body passes body_max (the frame is removed again). */
MUST_USE int frame_begin(struct buf *out, size_t *ret_mark);
MUST_USE int frame_end(struct buf *out, size_t mark, uint32_t body_max);

#endif
