/* top_frame: what `onebit top` shows. The daemon's counters become rates by the difference of two
 * answers; every cell goes through the escaper before it is measured and cut, since names come from
 * files and clients. */
#include "client/cli/top_frame.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/buf.h"
#include "client/cli/cell.h"
#include "client/cli/term.h"
#include "client/cli/top_machine.h"

#define COLUMNS_MAX 12u
#define MODELS_SHOWN 4u     /* on a screen that is too small for all */
#define IDENTITIES_SHOWN 5u /* same */
#define CELL_LEAST 6u       /* columns that a cell is cut down to before the line is */
#define ROWS_MAX 1600u      /* of one table; the daemon tells of at most 1500 requests */

struct column {
    const char *key, *title;
    bool left; /* text; numbers stand at the right */
};

const char *top_sort_name(enum top_sort sort)
{
    static const char *const names[] = {"the daemon's order", "age", "tokens/s", "answer", "user"};
    return names[sort];
}

/* ---- text ---- */

/* The next character of valid UTF-8. */
static uint32_t next_char(const char **s)
{
    const uint8_t *p = (const uint8_t *)*s;
    const unsigned more = p[0] < 0x80 ? 0 : p[0] < 0xe0 ? 1 : p[0] < 0xf0 ? 2 : 3;
    uint32_t c = more == 0 ? p[0] : p[0] & (0x3fu >> more);

    for (unsigned i = 1; i <= more; i++) {
        c = c << 6 | (p[i] & 0x3f);
    }
    *s += 1 + more;
    return c;
}

char *frame_fit(const char *text, unsigned columns, bool pad)
{
    char *out = malloc(4 * (size_t)columns + 1);
    size_t n = 0, last = 0; /* last: where the last column's character begins */
    unsigned used = 0, last_used = 0;

    if (!out) {
        return NULL;
    }
    while (*text) {
        const char *from = text;
        const int w = wcwidth((wchar_t)next_char(&text));
        const unsigned takes = w > 0 ? (unsigned)w : 1;
        if (used + takes > columns) {
            if (used == columns) { /* the mark takes the last character's place */
                n = last;
                used = last_used;
            }
            if (columns > 0) {
                out[n++] = '~';
                used++;
            }
            break;
        }
        last = n;
        last_used = used;
        used += takes;
        if (w > 0) {
            memcpy(out + n, from, (size_t)(text - from));
            n += (size_t)(text - from);
        } else {
            out[n++] = '?';
        }
    }
    while (pad && used < columns) {
        out[n++] = ' ';
        used++;
    }
    out[n] = '\0';
    return out;
}

static unsigned columns_of(const char *text)
{
    unsigned n = 0;

    while (*text) {
        const int w = wcwidth((wchar_t)next_char(&text));
        n += w > 0 ? (unsigned)w : 1;
    }
    return n;
}

/* ---- lines ---- */

/* Add a line of safe text, cut to the width. */
static int add(struct frame *f, const struct top_view *v, bool strong, const char *text)
{
    if (f->n == FRAME_LINES_MAX) {
        return 0;
    }
    char *line = frame_fit(text, v->width, false);
    if (!line) {
        return -ENOMEM;
    }
    size_t n = strlen(line);
    while (n > 0 && line[n - 1] == ' ') {
        line[--n] = '\0';
    }
    f->lines[f->n++] = (struct frame_line){line, strong};
    return 0;
}

static int addf(struct frame *f, const struct top_view *v, bool strong, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

static int addf(struct frame *f, const struct top_view *v, bool strong, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    char *safe = escape_line(text);
    const int r = safe ? add(f, v, strong, safe) : -ENOMEM;
    free(safe);
    return r;
}

static json_int_t number(const json_t *map, const char *key)
{
    return json_integer_value(json_object_get(map, key));
}

static const char *text_of(const json_t *map, const char *key, const char *none)
{
    const char *text = json_string_value(json_object_get(map, key));
    return text && *text ? text : none;
}

/* By how much a counter grew, per second; 0 without an earlier answer or after the daemon's
 * restart. */
static double rate(const json_t *now, const json_t *before, double seconds, const char *key)
{
    const json_int_t more = number(now, key) - number(before, key);
    return before && seconds > 0 && more > 0 ? (double)more / seconds : 0;
}

static json_int_t sum(const json_t *rows, const char *key)
{
    json_int_t total = 0;

    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_int_t more = number(json_array_get(rows, i), key);
        if (__builtin_add_overflow(total, more, &total)) {
            return 0;
        }
    }
    return total;
}

static int head(struct frame *f, const struct top_view *v)
{
    const json_t *s = v->status;
    char up[32];

    cell_seconds(up, sizeof(up), (double)number(s, "uptime_ms") / 1e3);
    int r =
        addf(f, v, true, "onebitd %s  up %s  %s, %" JSON_INTEGER_FORMAT " threads  engine %s%s%s",
             text_of(s, "version", "-"), up, text_of(s, "cpu", "no engine"), number(s, "threads"),
             number(s, "runner_pid") ? "up" : "down",
             json_is_true(json_object_get(s, "draining")) ? "  DRAINING" : "",
             v->trouble ? "  (old)" : "");
    r = r ? r
          : addf(f, v, false,
                 "tokens/s %.1f answered, %.1f read  running %" JSON_INTEGER_FORMAT
                 "  waiting %" JSON_INTEGER_FORMAT "  clients %" JSON_INTEGER_FORMAT
                 "  done %" JSON_INTEGER_FORMAT "  failed %" JSON_INTEGER_FORMAT
                 "  restarts %" JSON_INTEGER_FORMAT,
                 rate(s, v->status0, v->seconds, "tokens"),
                 rate(s, v->status0, v->seconds, "prompt_tokens"), number(s, "running"),
                 number(s, "queued"), number(s, "connections"), number(s, "requests_done"),
                 number(s, "requests_failed"), number(s, "runner_restarts"));
    return r;
}

/* A number of bytes of the daemon's ledger; "-" where it has none of that name. */
static const char *bytes_of(const json_t *map, const char *key, char ret[32])
{
    const json_t *value = json_object_get(map, key);

    (void)snprintf(ret, 32, "-");
    if (json_is_integer(value)) {
        cell_bytes(ret, 32, (double)json_integer_value(value));
    }
    return ret;
}

/* What the daemon holds: its ledger, or what its models say where it keeps none. */
static int memory(struct frame *f, const struct top_view *v)
{
    const json_t *map = json_object_get(v->status, "memory");
    const json_t *models = json_object_get(v->ps, "models");
    char a[32], b[32], c[32], d[32], e[32], budget[96] = "", f1[32], f2[32];

    if (json_object_get(map, "budget_bytes")) {
        (void)snprintf(
            budget, sizeof(budget), "; planned %s of %s", bytes_of(map, "charged_bytes", f1),
            number(map, "budget_bytes") > 0 ? bytes_of(map, "budget_bytes", f2) : "no known limit");
    }
    if (json_object_size(map) == 0) {
        cell_bytes(a, sizeof(a), (double)sum(models, "weight_bytes"));
        cell_bytes(b, sizeof(b), (double)sum(models, "scratch_bytes"));
        cell_bytes(c, sizeof(c), (double)sum(models, "kv_bytes"));
        return addf(f, v, false, "memory: weights %s, scratch %s, KV %s", a, b, c);
    }
    const int r = addf(f, v, false, "memory: weights %s, scratch %s, KV used %s, kept %s, of %s%s",
                       bytes_of(map, "weight_bytes", a), bytes_of(map, "scratch_bytes", b),
                       bytes_of(map, "kv_used_bytes", c), bytes_of(map, "kv_idle_bytes", d),
                       bytes_of(map, "kv_total_bytes", e), budget);
    return r ? r
             : addf(f, v, false, "daemon: %s; queue %s, output %s, input %s, sessions %s",
                    bytes_of(map, "broker_resident_bytes", a), bytes_of(map, "queue_bytes", b),
                    bytes_of(map, "output_bytes", c), bytes_of(map, "input_bytes", d),
                    bytes_of(map, "session_bytes", e));
}

/* The level of the memory ladder, while there is one. */
static int shortage(struct frame *f, const struct top_view *v)
{
    const json_t *map = json_object_get(v->status, "memory");
    const char *level = json_string_value(json_object_get(map, "pressure"));
    const char *cause = json_string_value(json_object_get(map, "pressure_cause"));

    if (!level || strcmp(level, "normal") == 0) {
        return 0;
    }
    return addf(f, v, true, "memory is short: level %s (%s)", level, cause ? cause : "");
}

static int board(struct frame *f, const struct top_view *v)
{
    char text[200];
    const bool slow = machine_line(json_object_get(v->status, "machine"), text, sizeof(text));

    return text[0] != '\0' ? addf(f, v, slow, "%s", text) : 0;
}

/* ---- tables ---- */

struct row {
    const json_t *map; /* borrowed */
    double rate;       /* tokens/s; below 0: not known */
};

/* A cell, safe; the column "rate" is ours. malloc'ed. */
static char *cell(const struct column *c, const struct row *row)
{
    char text[32] = "-";

    if (strcmp(c->key, "rate") != 0) {
        return cell_text(c->key, json_object_get(row->map, c->key));
    }
    if (row->rate >= 0) {
        (void)snprintf(text, sizeof(text), "%.1f", row->rate);
    }
    return strdup(text);
}

static bool column_used(const struct column *c, const struct row *rows, size_t n)
{
    bool used = strcmp(c->key, "rate") == 0;

    for (size_t i = 0; i < n && !used; i++) {
        used = json_object_get(rows[i].map, c->key) != NULL;
    }
    return used;
}

/* Widths of the columns in use (0: not in use), the widest texts cut until the line fits. */
static int measure(const struct column *c, size_t n_c, const struct row *rows, size_t n,
                   unsigned width, unsigned *ret)
{
    unsigned total = 0;

    for (size_t k = 0; k < n_c; k++) {
        ret[k] = column_used(&c[k], rows, n) ? (unsigned)strlen(c[k].title) : 0;
        for (size_t i = 0; i < n && ret[k] > 0; i++) {
            char *text = cell(&c[k], &rows[i]);
            if (!text) {
                return -ENOMEM;
            }
            const unsigned w = columns_of(text);
            ret[k] = w > ret[k] ? w : ret[k];
            free(text);
        }
        total += ret[k] ? ret[k] + 1 : 0;
    }
    while (total > width + 1) {
        size_t widest = n_c;
        for (size_t k = 0; k < n_c; k++) {
            if (c[k].left && ret[k] > CELL_LEAST && (widest == n_c || ret[k] > ret[widest])) {
                widest = k;
            }
        }
        if (widest == n_c) {
            break; /* the line itself is cut */
        }
        ret[widest]--;
        total--;
    }
    return 0;
}

static int append_cell(struct buf *line, const char *text, unsigned width, bool left)
{
    const unsigned used = columns_of(text);
    char *fitted = frame_fit(text, width, left);
    int r = fitted ? 0 : -ENOMEM;

    if (r == 0 && line->n > 0) {
        r = buf_append(line, " ", 1);
    }
    for (unsigned i = used; i < width && !left && r == 0; i++) {
        r = buf_append(line, " ", 1);
    }
    if (r == 0) {
        r = buf_append(line, fitted, strlen(fitted));
    }
    free(fitted);
    return r;
}

/* One line of a table: the titles when row is NULL. */
static int table_line(struct frame *f, const struct top_view *v, const struct column *c, size_t n_c,
                      const unsigned *widths, const struct row *row)
{
    struct buf line;
    int r = 0;

    buf_init(&line, 64 * FRAME_WIDTH_MAX);
    for (size_t k = 0; k < n_c && r == 0; k++) {
        if (widths[k] == 0) {
            continue;
        }
        char *text = row ? cell(&c[k], row) : strdup(c[k].title);
        r = text ? append_cell(&line, text, widths[k], c[k].left) : -ENOMEM;
        free(text);
    }
    r = r == 0 ? buf_append(&line, "", 1) : r;
    r = r == 0 ? add(f, v, row == NULL, (const char *)line.data) : r;
    buf_deinit(&line);
    return r;
}

/* An empty line, titles, rows; at most `most` of them, and how many more there are. */
static int table(struct frame *f, const struct top_view *v, const struct column *c, size_t n_c,
                 const struct row *rows, size_t n, size_t most)
{
    unsigned widths[COLUMNS_MAX];
    const size_t shown = n <= most ? n : most > 0 ? most - 1 : 0;
    int r = measure(c, n_c, rows, n, v->width, widths);

    r = r == 0 ? add(f, v, false, "") : r;
    r = r == 0 ? table_line(f, v, c, n_c, widths, NULL) : r;
    for (size_t i = 0; i < shown && r == 0; i++) {
        r = table_line(f, v, c, n_c, widths, &rows[i]);
    }
    if (r == 0 && shown < n) {
        r = addf(f, v, false, "... and %zu more", n - shown);
    }
    return r;
}

/* ---- rows and their rates ---- */

/* The row of an earlier answer that is the same thing: equal in both keys. */
static const json_t *same_row(const json_t *rows, const json_t *row, const char *key,
                              const char *key2)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *it = json_array_get(rows, i);
        if (json_equal(json_object_get(it, key), json_object_get(row, key)) &&
            (!key2 || json_equal(json_object_get(it, key2), json_object_get(row, key2)))) {
            return it;
        }
    }
    return NULL;
}

static size_t rows_of(const struct top_view *v, const char *name, const char *counter,
                      const char *key, const char *key2, struct row *ret)
{
    const json_t *rows = json_object_get(v->ps, name), *before = json_object_get(v->ps0, name);
    size_t n = 0;

    for (; n < json_array_size(rows) && n < ROWS_MAX; n++) {
        const json_t *map = json_array_get(rows, n);
        const json_t *old = before && key ? same_row(before, map, key, key2) : NULL;
        ret[n].map = map;
        ret[n].rate = old && counter ? rate(map, old, v->seconds, counter) : -1;
    }
    return n;
}

static int by_age(const void *a, const void *b)
{
    const json_int_t x = number(((const struct row *)a)->map, "age_ms");
    const json_int_t y = number(((const struct row *)b)->map, "age_ms");
    return (x < y) - (x > y);
}

static int by_rate(const void *a, const void *b)
{
    const double x = ((const struct row *)a)->rate, y = ((const struct row *)b)->rate;
    return (x < y) - (x > y);
}

static int by_tokens(const void *a, const void *b)
{
    const json_int_t x = number(((const struct row *)a)->map, "answer_tokens");
    const json_int_t y = number(((const struct row *)b)->map, "answer_tokens");
    return (x < y) - (x > y);
}

static int by_uid(const void *a, const void *b)
{
    const json_int_t x = number(((const struct row *)a)->map, "uid");
    const json_int_t y = number(((const struct row *)b)->map, "uid");
    return (x > y) - (x < y);
}

static void sort_rows(struct row *rows, size_t n, enum top_sort sort)
{
    static int (*const orders[])(const void *, const void *) = {
        [TOP_AGE] = by_age, [TOP_RATE] = by_rate, [TOP_TOKENS] = by_tokens, [TOP_UID] = by_uid};

    if (sort != TOP_ORDER) {
        qsort(rows, n, sizeof(*rows), orders[sort]);
    }
}

static const struct column model_columns[] = {
    {"name", "MODEL", true},
    {"formats", "FORMATS", true},
    {"kv", "KV", true},
    {"n_ctx", "CONTEXT", false},
    {"streams", "STREAMS", false},
    {"streams_max", "OF", false},
    {"weight_bytes", "WEIGHTS", false},
    {"kv_bytes", "KV SIZE", false},
    {"scratch_bytes", "SCRATCH", false},
    {"idle_ms", "IDLE", false},
};
static const struct column identity_columns[] = {
    {"uid", "UID", false},
    {"unit", "UNIT", true},
    {"connections", "CLIENTS", false},
    {"requests", "REQUESTS", false},
    {"running", "RUN", false},
    {"kv_bytes", "KV", false},
    {"queue_bytes", "QUEUE", false},
    {"output_bytes", "OUTPUT", false},
    {"tokens", "TOKENS", false},
    {"rate", "TOK/S", false},
};
static const struct column request_columns[] = {
    {"request", "REQUEST", false},
    {"model", "MODEL", true},
    {"state", "STATE", true},
    {"class", "CLASS", true},
    {"uid", "UID", false},
    {"client", "CLIENT", true},
    {"prompt_tokens", "PROMPT", false},
    {"answer_tokens", "ANSWER", false},
    {"rate", "TOK/S", false},
    {"age_ms", "AGE", false},
};

/* Of identities that this user may not see one by one the daemon tells a sum. */
static int others(struct frame *f, const struct top_view *v)
{
    const json_t *map = json_object_get(v->ps, "others");
    char kv[32], queue[32], output[32];

    if (number(map, "identities") == 0) {
        return 0;
    }
    return addf(f, v, false,
                "others: %" JSON_INTEGER_FORMAT ", with %" JSON_INTEGER_FORMAT
                " clients, %" JSON_INTEGER_FORMAT " requests, %" JSON_INTEGER_FORMAT
                " of them in the engine; KV %s, queue %s, output %s",
                number(map, "identities"), number(map, "connections"), number(map, "requests"),
                number(map, "running"), bytes_of(map, "kv_bytes", kv),
                bytes_of(map, "queue_bytes", queue), bytes_of(map, "output_bytes", output));
}

/* How many rows the requests may take, so that the last line stays free for the keys. */
static size_t room(const struct frame *f, const struct top_view *v)
{
    const size_t used = f->n + 3; /* an empty line, titles, and the keys */
    return v->height == 0 ? ROWS_MAX : v->height > used ? v->height - used : 0;
}

static int body(struct frame *f, const struct top_view *v, struct row *rows)
{
    const bool tall = v->height == 0;
    size_t n = rows_of(v, "models", NULL, NULL, NULL, rows);
    int r = n ? table(f, v, model_columns, ARRAY_SIZE(model_columns), rows, n,
                      tall ? ROWS_MAX : MODELS_SHOWN)
              : addf(f, v, false, "no model is loaded");

    n = rows_of(v, "identities", "tokens", "uid", "unit", rows);
    if (r == 0 && n > 0) {
        sort_rows(rows, n, TOP_RATE);
        r = table(f, v, identity_columns, ARRAY_SIZE(identity_columns), rows, n,
                  tall ? ROWS_MAX : IDENTITIES_SHOWN);
    }
    r = r == 0 ? others(f, v) : r;
    n = rows_of(v, "requests", "answer_tokens", "request", NULL, rows);
    if (r == 0 && n > 0) {
        sort_rows(rows, n, v->sort);
        r = table(f, v, request_columns, ARRAY_SIZE(request_columns), rows, n, room(f, v));
    } else if (r == 0) {
        r = add(f, v, false, "");
        r = r == 0 ? addf(f, v, false, "no request runs") : r;
    }
    return r;
}

int frame_fill(struct frame *f, const struct top_view *v)
{
    struct row *rows = calloc(ROWS_MAX, sizeof(*rows));
    int r = rows ? 0 : -ENOMEM;

    if (r == 0 && v->trouble) {
        r = addf(f, v, true, "%s", v->trouble);
    }
    if (r == 0 && v->status && v->ps) {
        r = head(f, v);
        r = r == 0 ? memory(f, v) : r;
        r = r == 0 ? shortage(f, v) : r;
        r = r == 0 ? board(f, v) : r;
        r = r == 0 && *v->pressure ? addf(f, v, false, "%s", v->pressure) : r;
        r = r == 0 ? body(f, v, rows) : r;
    }
    free(rows);
    return r;
}

void frame_deinit(struct frame *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free(f->lines[i].text);
    }
    f->n = 0;
}
