/* One view of `onebit top` as lines of text: pure, so that it can be tested without a terminal. */
#ifndef CLIENT_CLI_TOP_FRAME_H
#define CLIENT_CLI_TOP_FRAME_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "base/compiler.h"

#define FRAME_LINES_MAX 2048u
#define FRAME_WIDTH_MAX 1024u /* columns */

enum top_sort { TOP_ORDER, TOP_AGE, TOP_RATE, TOP_TOKENS, TOP_UID, TOP_SORTS };

/** top_sort_name() - what the requests are sorted by, for people */
const char *top_sort_name(enum top_sort sort);

/* What is to be seen. Everything is borrowed. */
struct top_view {
    const json_t *status, *ps;   /* the daemon's answers; NULL: none yet */
    const json_t *status0, *ps0; /* those `seconds` before; NULL: none */
    double seconds;              /* between the two */
    const char *pressure;        /* a line on what the machine says; "" when it says nothing */
    const char *trouble;         /* why there is nothing newer; NULL: there is */
    enum top_sort sort;
    unsigned width, height; /* of the screen; height 0: as many lines as it takes */
};

struct frame_line {
    char *text;  /* owned: exactly what is shown, harmless, at most the width in columns */
    bool strong; /* a title */
};

struct frame {
    struct frame_line lines[FRAME_LINES_MAX];
    size_t n;
};

/**
 * frame_fill() - draw a view
 * @f: zeroed; frame_deinit() it, also after a failure
 *
 * Characters are measured in the current locale; those that it cannot show become '?'.
 *
 * Return: 0 or -ENOMEM.
 */
MUST_USE int frame_fill(struct frame *f, const struct top_view *v);

void frame_deinit(struct frame *f);

/**
 * frame_fit() - the first columns of a text
 * @pad: fill up with spaces to exactly so many columns; what is cut ends with '~'
 *
 * Return: malloc'ed, NULL without memory.
 */
char *frame_fit(const char *text, unsigned columns, bool pad);

#endif
