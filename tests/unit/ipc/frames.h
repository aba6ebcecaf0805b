/* Example frames of every kind, and msgpack from readable text, for the tests of this room. */
#ifndef TESTS_UNIT_IPC_FRAMES_H
#define TESTS_UNIT_IPC_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct frame_example {
    const char *name;
    int (*put)(struct buf *out);                  /* append the frame */
    void (*check)(const uint8_t *body, size_t n); /* asserts that it reads as what was put */
    bool prose; /* carries words for people, which may be put better: its bytes are not held */
};

/* Of PROTOCOL.md; their bytes are frozen in tests/golden/frames/. */
extern const struct frame_example message_examples[];
extern const size_t n_message_examples;
/* Of the seam, which is free to change. */
extern const struct frame_example seam_examples[];
extern const size_t n_seam_examples;

/**
 * mp_text() - msgpack from text like JSON: {'a': 1, 'b': [2.5, true, null]}
 *
 * Beyond JSON: strings stand in single quotes; <300> is a string of 300 letters; b<300> the same as
 * bin; [300x 7] is an array of 300 sevens. Appends to out, which must have room.
 */
void mp_text(struct buf *out, const char *text);

#endif
