/* batch_lines: a file read line by line, with a bound on the line and none on the file. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fnv.h"
#include "client/cli/batch.h"

#define PIECE ((size_t)64 << 10)

void lines_init(struct lines *l, int fd, size_t line_max, off_t at, uint64_t number)
{
    *l = (struct lines){.fd = fd, .line_max = line_max, .at = at, .number = number};
    buf_init(&l->buf, line_max + PIECE);
}

void lines_deinit(struct lines *l)
{
    buf_deinit(&l->buf);
}

/* Read another piece behind what is there: 0 or a negative errno. */
static int more(struct lines *l, off_t at)
{
    int r = buf_reserve(&l->buf, PIECE);

    while (r == 0) {
        const ssize_t n = pread(l->fd, l->buf.data + l->buf.n, PIECE, at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        l->buf.n += (size_t)n;
        l->ended = n == 0;
        break;
    }
    return r;
}

int lines_next(struct lines *l, struct line *ret)
{
    struct line line = {.hash = FNV_START, .at = l->at};
    size_t seen = 0; /* bytes of buf that hold no newline */
    off_t dropped = 0;

    buf_drop(&l->buf, l->used);
    l->used = 0;
    for (;;) {
        const size_t left = l->buf.n - seen;
        const uint8_t *newline = left > 0 ? memchr(l->buf.data + seen, '\n', left) : NULL;
        const size_t n = newline ? (size_t)(newline - l->buf.data) : l->buf.n;
        if (n > seen) {
            line.hash = fnv_add(line.hash, l->buf.data + seen, n - seen);
        }
        seen = n;
        if (seen > l->line_max) { /* keep the beginning, read on for the end and the hash */
            line.too_long = true;
            dropped += (off_t)(seen - l->line_max);
            memmove(l->buf.data + l->line_max, l->buf.data + seen, l->buf.n - seen);
            l->buf.n -= seen - l->line_max;
            seen = l->line_max;
        }
        if (newline || l->ended) {
            line.torn = !newline;
            break;
        }
        const int r = more(l, l->at + dropped + (off_t)l->buf.n);
        if (r < 0) {
            return r;
        }
    }
    if (line.torn && seen == 0) {
        return 0;
    }
    l->used = seen + !line.torn;
    l->at += dropped + (off_t)l->used;
    line.text = (const char *)l->buf.data;
    line.n = seen;
    l->number++;
    *ret = line;
    return 1;
}

bool line_blank(const struct line *line)
{
    for (size_t i = 0; i < line->n; i++) {
        if (!memchr(" \t\r", line->text[i], 3)) {
            return false;
        }
    }
    return true;
}
