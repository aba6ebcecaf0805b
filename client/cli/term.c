/* term: a terminal obeys control characters, whoever wrote them. A model's answer, a file's name or
 * an error message could move the cursor, rewrite what was printed before, or set the title. The
 * filter works character by character and keeps at most one unfinished character, so that pieces
 * may be cut anywhere without changing the result. */
#include "client/cli/term.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the character that starts with this byte; 0: none can. */
static size_t sequence_len(uint8_t first)
{
    if (first < 0x80) {
        return 1;
    }
    if (first >= 0xc2 && first < 0xe0) {
        return 2;
    }
    if (first >= 0xe0 && first < 0xf0) {
        return 3;
    }
    return first >= 0xf0 && first < 0xf5 ? 4 : 0;
}

/* May `next` follow the bytes held so far? The second byte rules out overlong forms, surrogates and
 * what lies past U+10FFFF. */
static bool may_follow(const uint8_t *held, size_t n, uint8_t next)
{
    if (next < 0x80 || next > 0xbf) {
        return false;
    }
    if (n != 1) {
        return true;
    }
    switch (held[0]) {
    case 0xe0:
        return next >= 0xa0;
    case 0xed:
        return next < 0xa0;
    case 0xf0:
        return next >= 0x90;
    case 0xf4:
        return next < 0x90;
    default:
        return true;
    }
}

static uint32_t code_point(const uint8_t *s, size_t n)
{
    static const uint8_t masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t c = s[0] & masks[n];

    for (size_t i = 1; i < n; i++) {
        c = c << 6 | (s[i] & 0x3f);
    }
    return c;
}

/* Marks that change the direction of writing: text after them is not where it seems to be. */
static bool turns(uint32_t c)
{
    return c == 0x061c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

static int show_bytes(struct buf *out, const uint8_t *bytes, size_t n)
{
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        char text[8];
        const int len = snprintf(text, sizeof(text), "\\x%02x", bytes[i]);
        r = buf_append(out, text, (size_t)len);
    }
    return r;
}

/* A whole character. */
static int put_character(const struct escaper *e, struct buf *out, const uint8_t *s, size_t n)
{
    const uint32_t c = code_point(s, n);

    if ((c == '\n' || c == '\t') && !e->one_line) {
        return buf_append(out, s, n);
    }
    if (c < 0x20 || c == 0x7f) {
        return show_bytes(out, s, n);
    }
    if ((c >= 0x80 && c < 0xa0) || turns(c)) {
        char text[8];
        const int len = snprintf(text, sizeof(text), "\\u%04x", (unsigned)c);
        return buf_append(out, text, (size_t)len);
    }
    return buf_append(out, s, n);
}

int escape_end(struct escaper *e, struct buf *out)
{
    const size_t n = e->n_held;

    e->n_held = 0;
    return show_bytes(out, e->held, n);
}

int escape_text(struct escaper *e, struct buf *out, const char *text, size_t n)
{
    const uint8_t *bytes = (const uint8_t *)text;
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        if (e->n_held > 0 && !may_follow(e->held, e->n_held, bytes[i])) {
            r = escape_end(e, out);
        }
        if (r < 0) {
            break;
        }
        if (e->n_held == 0 && sequence_len(bytes[i]) == 0) {
            r = show_bytes(out, &bytes[i], 1);
            continue;
        }
        e->held[e->n_held++] = bytes[i];
        if (e->n_held == sequence_len(e->held[0])) {
            r = put_character(e, out, e->held, e->n_held);
            e->n_held = 0;
        }
    }
    return r;
}

char *escape_line(const char *text)
{
    struct escaper e = {.one_line = true};
    struct buf out;
    size_t n;

    buf_init(&out, SIZE_MAX / 2);
    if (escape_text(&e, &out, text, strlen(text)) < 0 || escape_end(&e, &out) < 0 ||
        buf_append(&out, "", 1) < 0) {
        buf_deinit(&out);
        return NULL;
    }
    return (char *)buf_steal(&out, &n);
}

size_t text_columns(const char *line)
{
    size_t n = 0;

    for (; *line; line++) {
        n += ((unsigned char)*line & 0xc0) != 0x80;
    }
    return n;
}
