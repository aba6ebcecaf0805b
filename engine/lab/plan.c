#include "engine/lab/plan.h"

#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "engine/lab/lab.h"

#define KEEP "keep"

const char *plan_format(const char *what, const char *name)
{
    struct gguf_writable f;
    char list[512] = "";
    size_t n = 0;

    for (size_t i = 0; gguf_writable(i, &f); i++) {
        if (!f.encodes) {
            continue;
        }
        if (strcmp(f.name, name) == 0) {
            return f.name;
        }
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", f.name);
        n = n < sizeof(list) ? n : sizeof(list) - 1;
    }
    lab_error("%s: %s is none of %s", what, name, list);
    return NULL;
}

/* ---- reading ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* The next word of a line, or an empty one. */
static struct strview word(struct strview *line)
{
    struct strview w;

    while (line->n > 0 && is_blank(line->data[0])) {
        line->data++;
        line->n--;
    }
    w = (struct strview){.data = line->data, .n = 0};
    while (w.n < line->n && !is_blank(line->data[w.n])) {
        w.n++;
    }
    line->data += w.n;
    line->n -= w.n;
    return w;
}

static int bad_line(const struct plan *p, unsigned number, const char *why)
{
    lab_error("%s:%u: %s", p->path, number, why);
    return LAB_DATA;
}

static int read_line(struct plan *p, struct buf *lines, struct strview text, unsigned number)
{
    struct plan_line line = {.number = number};
    char format[32] = "", what[PATH_MAX + 16];
    const char *comment = memchr(text.data, '#', text.n);

    text.n = comment ? (size_t)(comment - text.data) : text.n;
    const struct strview pattern = word(&text), name = word(&text), more = word(&text);
    if (pattern.n == 0) {
        return LAB_OK;
    }
    if (name.n == 0 || more.n > 0) {
        return bad_line(p, number, "wants a pattern and a format");
    }
    if (pattern.n > PLAN_PATTERN_MAX || name.n >= sizeof(format) ||
        memchr(pattern.data, '\0', pattern.n) || memchr(name.data, '\0', name.n)) {
        return bad_line(p, number, "a pattern has at most 255 bytes, a format 31, and no NUL");
    }
    memcpy(line.pattern, pattern.data, pattern.n);
    memcpy(format, name.data, name.n);
    (void)snprintf(what, sizeof(what), "%s:%u", p->path, number);
    if (strcmp(format, KEEP) != 0 && !(line.format = plan_format(what, format))) {
        return LAB_DATA;
    }
    if (p->n >= PLAN_LINES_MAX) {
        return bad_line(p, number, "a plan has at most 8192 lines that choose");
    }
    const int r = buf_append(lines, &line, sizeof(line));
    p->n += r == 0;
    return r < 0 ? lab_errno(p->path, r) : LAB_OK;
}

int plan_read(const char *path, struct plan *ret)
{
    struct plan p = {.path = path};
    struct buf text = {0}, lines;
    unsigned number = 0;
    size_t n_bytes;

    buf_init(&lines, PLAN_LINES_MAX * sizeof(struct plan_line));
    int r = read_file(path, &text);
    if (r == LAB_OK && text.n > PLAN_BYTES_MAX) {
        lab_error("%s: %zu bytes, a plan has at most %zu", path, text.n, PLAN_BYTES_MAX);
        r = LAB_DATA;
    }
    for (size_t at = 0; r == LAB_OK && at < text.n;) {
        const char *line = (const char *)text.data + at;
        const char *end = memchr(line, '\n', text.n - at);
        const size_t n = end ? (size_t)(end - line) : text.n - at;
        r = read_line(&p, &lines, (struct strview){.data = line, .n = n}, ++number);
        at += n + 1;
    }
    buf_deinit(&text);
    p.lines = (struct plan_line *)(void *)buf_steal(&lines, &n_bytes);
    if (r != LAB_OK) {
        plan_deinit(&p);
        return r;
    }
    *ret = p;
    return LAB_OK;
}

void plan_deinit(struct plan *p)
{
    free(p->lines);
    *p = (struct plan){0};
}

/* ---- choosing ---- */

bool plan_is_head(const char *name)
{
    return strcmp(name, "token_embd.weight") == 0 || strcmp(name, "output.weight") == 0;
}

const char *plan_head(const char *format)
{
    static const char *const low[] = {"Q1_0",      "TQ1_0", "TQ2_0", "Q2_0",
                                      "Q2_0_g128", "PQ2_0", "I2_S",  "IQ2_BN"};

    for (size_t i = 0; i < ARRAY_SIZE(low); i++) {
        if (strcmp(format, low[i]) == 0) {
            return "Q8_0";
        }
    }
    return format;
}

static struct plan_line *line_for(const struct plan *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++) {
        if (fnmatch(p->lines[i].pattern, name, 0) == 0) {
            return &p->lines[i];
        }
    }
    return NULL;
}

/* A line that is shadowed by earlier ones is in use as long as something matches it. */
static void mark_lines(struct plan *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++) {
        p->lines[i].used = p->lines[i].used || fnmatch(p->lines[i].pattern, name, 0) == 0;
    }
}

/* What a matrix gets when no line says: NULL for what it has. */
static const char *default_format(const char *name, const char *format, const char *head)
{
    const size_t n = strlen(name), n_end = strlen(".weight");

    if (n < n_end || strcmp(name + n - n_end, ".weight") != 0) {
        return NULL;
    }
    if (plan_is_head(name)) {
        return head ? head : format ? plan_head(format) : NULL;
    }
    return format;
}

static int choose(struct plan *p, struct requant *q, size_t i, const char *format, const char *head)
{
    struct requant_tensor t;
    struct diag diag = {0};

    requant_tensor(q, i, &t);
    if (!t.matrix) {
        return LAB_OK;
    }
    mark_lines(p, t.name);
    const struct plan_line *line = line_for(p, t.name);
    const int r =
        requant_choose(q, i, line ? line->format : default_format(t.name, format, head), &diag);
    if (r == MODEL_OK) {
        return LAB_OK;
    }
    if (r < 0) {
        return lab_errno(t.name, r);
    }
    if (line) {
        lab_error("%s:%u: %s", p->path, line->number, diag.text);
    } else {
        lab_error("%s; a plan can choose for it (FORMAT or keep)", diag.text);
    }
    return LAB_UNAVAILABLE;
}

int plan_choose(struct plan *p, struct requant *q, const char *format, const char *head)
{
    int r = LAB_OK;

    for (size_t i = 0; r == LAB_OK && i < requant_count(q); i++) {
        r = choose(p, q, i, format, head);
    }
    for (size_t i = 0; r == LAB_OK && i < p->n; i++) {
        if (!p->lines[i].used) {
            lab_error("%s:%u: no matrix of the model matches %s", p->path, p->lines[i].number,
                      p->lines[i].pattern);
            r = LAB_DATA;
        }
    }
    return r;
}
