/* Text from models, files and the daemon, made harmless for a terminal: what would be obeyed is
 * shown. */
#ifndef CLIENT_CLI_TERM_H
#define CLIENT_CLI_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"

/* State between pieces of one text: a character may be cut anywhere. Zeroed, it is ready. */
struct escaper {
    bool one_line; /* newline and tab are shown as well: for table cells and messages */
    uint8_t held[4];
    size_t n_held; /* bytes of an unfinished character */
};

/**
 * escape_text() - append n bytes of text to out, escaped
 *
 * C0 controls but newline and tab, DEL, and bytes that are no UTF-8 become \xNN; C1 controls and
 * the marks that turn the direction of writing become \uNNNN; a backslash stays itself. Everything
 * else passes unchanged. An unfinished character waits for the next piece.
 *
 * Return: 0, -ENOMEM, or -E2BIG past out's limit.
 */
MUST_USE int escape_text(struct escaper *e, struct buf *out, const char *text, size_t n);

/** escape_end() - the text is over: what is held was no character. Return as escape_text(). */
MUST_USE int escape_end(struct escaper *e, struct buf *out);

/** escape_line() - a whole NUL-terminated text as one safe line; malloc'ed, NULL without memory */
char *escape_line(const char *text);

/** text_columns() - places that an escaped line takes: its characters */
size_t text_columns(const char *line);

#endif
