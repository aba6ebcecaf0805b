/* rows: one line at a time goes through jansson; what comes back is checked here. */
#include "train/loop/rows.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct rows {
    const char *at, *end; /* borrowed */
    struct rows_fields fields;
    uint64_t line;
    json_t *object; /* owned: what the last row borrows from */
};

int rows_new(struct rows **ret, const void *data, size_t n, const struct rows_fields *fields)
{
    struct rows *rows = calloc(1, sizeof(*rows));

    if (!rows) {
        return -ENOMEM;
    }
    rows->at = n ? data : "";
    rows->end = rows->at + n;
    rows->fields = *fields;
    *ret = rows;
    return 0;
}

void rows_free(struct rows *rows)
{
    if (rows) {
        json_decref(rows->object);
        free(rows);
    }
}

static bool is_blank(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r') {
            return false;
        }
    }
    return true;
}

static int refuse(const struct rows *rows, struct diag *d, const char *why, const char *what)
{
    diag_set(d, rows->line, "line %" PRIu64 ": %s%s", rows->line, why, what);
    return ROWS_MALFORMED;
}

/* A text of the row. Marks would become tokens that end a turn or begin one. */
static int text(const struct rows *rows, const char *name, bool needed, struct strview *ret,
                struct diag *d)
{
    const json_t *s = json_object_get(rows->object, name);

    if (!s && !needed) {
        *ret = (struct strview){0};
        return ROWS_OK;
    }
    if (!json_is_string(s)) {
        return refuse(rows, d, s ? "no string: " : "lacks ", name);
    }
    *ret = (struct strview){.data = json_string_value(s), .n = json_string_length(s)};
    if (memmem(ret->data, ret->n, "<|", 2)) {
        return refuse(rows, d, "a mark of the chat template, \"<|\", in ", name);
    }
    return ROWS_OK;
}

static int read_line(struct rows *rows, const char *line, size_t n, struct row *ret, struct diag *d)
{
    struct row row = {.line = rows->line};
    json_error_t error;

    json_decref(rows->object);
    rows->object = NULL;
    if (n > ROWS_LINE_MAX) {
        return refuse(rows, d, "longer than 1 MiB", "");
    }
    rows->object = json_loadb(line, n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
    if (!rows->object) {
        return refuse(rows, d, "no JSON: ", error.text);
    }
    if (!json_is_object(rows->object)) {
        return refuse(rows, d, "no object", "");
    }
    int r = text(rows, rows->fields.prompt, true, &row.prompt, d);
    if (r == ROWS_OK) {
        r = text(rows, rows->fields.answer, rows->fields.answers, &row.answer, d);
    }
    if (r == ROWS_OK) {
        *ret = row;
    }
    return r;
}

int rows_next(struct rows *rows, struct row *ret, struct diag *ret_diag)
{
    while (rows->at < rows->end) {
        const char *line = rows->at;
        const char *stop = memchr(line, '\n', (size_t)(rows->end - line));
        const size_t n = (size_t)((stop ? stop : rows->end) - line);
        rows->at = stop ? stop + 1 : rows->end;
        rows->line++;
        if (!is_blank(line, n)) {
            return read_line(rows, line, n, ret, ret_diag);
        }
    }
    return ROWS_END;
}
