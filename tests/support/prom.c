/* prom: one pass over the lines, remembering the family in hand. */
#include "tests/support/prom.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAMILIES_MAX 256u
#define NAME_MAX_ 128u
#define LABELS_MAX 8u

enum kind { KIND_NONE, KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM };

struct reading {
    struct prom *p;
    const char *at, *end; /* of the line */
    unsigned line;
    char families[FAMILIES_MAX][NAME_MAX_];
    enum kind kind; /* of the family in hand; KIND_NONE: its TYPE has not come */
    /* The histogram series in hand. */
    char series[1024];
    double last_le, last_count, inf;
    int state; /* 0: none; 1: buckets; 2: +Inf seen; 3: sum seen */
};

static bool fail(struct reading *r, const char *fmt, ...)
{
    char text[200];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    (void)snprintf(r->p->why, sizeof(r->p->why), "line %u: %s", r->line, text);
    return false;
}

static bool name_char(char c, bool first)
{
    return isalpha((unsigned char)c) || c == '_' || c == ':' ||
           (!first && isdigit((unsigned char)c));
}

/* A metric's or label's name at r->at; false: none. */
static bool take_name(struct reading *r, char ret[NAME_MAX_])
{
    size_t n = 0;

    while (r->at < r->end && name_char(*r->at, n == 0) && n + 1 < NAME_MAX_) {
        ret[n++] = *r->at++;
    }
    ret[n] = '\0';
    return n > 0;
}

static bool take_word(struct reading *r, const char *word)
{
    const size_t n = strlen(word);

    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0) {
        return false;
    }
    r->at += n;
    return true;
}

static bool take_label_value(struct reading *r, char *ret, size_t room)
{
    size_t n = 0;

    if (!take_word(r, "\"")) {
        return false;
    }
    while (r->at < r->end && *r->at != '"') {
        char c = *r->at++;
        if (c == '\\') {
            if (r->at == r->end || !strchr("\\\"n", *r->at)) {
                return false;
            }
            c = *r->at == 'n' ? '\n' : *r->at;
            r->at++;
        }
        if (n + 1 >= room) {
            return false;
        }
        ret[n++] = c;
    }
    ret[n] = '\0';
    return take_word(r, "\"");
}

/* "{a="b",...}" if it is there; `le` is taken out of the key. */
static bool take_labels(struct reading *r, char *key, size_t room, char *ret_le, size_t le_room)
{
    char names[LABELS_MAX][NAME_MAX_], value[512];
    size_t n = 0, used = strlen(key);

    ret_le[0] = '\0';
    if (!take_word(r, "{")) {
        return true;
    }
    do {
        if (n == LABELS_MAX || !take_name(r, names[n]) || strchr(names[n], ':') ||
            !take_word(r, "=") || !take_label_value(r, value, sizeof(value))) {
            return fail(r, "a label is broken");
        }
        for (size_t i = 0; i < n; i++) {
            if (strcmp(names[i], names[n]) == 0) {
                return fail(r, "label %s twice", names[n]);
            }
        }
        if (strcmp(names[n], "le") == 0) {
            (void)snprintf(ret_le, le_room, "%.*s", (int)le_room - 1, value);
        } else {
            const int more = snprintf(key + used, room - used, "|%s=%s", names[n], value);
            if (more < 0 || (size_t)more >= room - used) {
                return fail(r, "labels too long");
            }
            used += (size_t)more;
        }
        n++;
    } while (take_word(r, ","));
    return take_word(r, "}") ? true : fail(r, "no closing brace");
}

static bool take_number(struct reading *r, double *ret)
{
    char text[64];
    const size_t n = (size_t)(r->end - r->at);
    char *stop;

    if (n == 0 || n >= sizeof(text) || isspace((unsigned char)*r->at)) {
        return false;
    }
    memcpy(text, r->at, n);
    text[n] = '\0';
    *ret = strtod(text, &stop);
    r->at += stop - text;
    return r->at == r->end;
}

static const char *family(const struct reading *r)
{
    return r->p->n_families ? r->families[r->p->n_families - 1] : "";
}

static bool series_done(struct reading *r)
{
    return r->state == 0 ? true : fail(r, "the histogram before is not whole");
}

static bool comment(struct reading *r)
{
    char name[NAME_MAX_];

    if (take_word(r, "# HELP ")) {
        if (!series_done(r) || !take_name(r, name) || !take_word(r, " ") || r->at == r->end) {
            return fail(r, "HELP without a name or a text");
        }
        for (size_t i = 0; i < r->p->n_families; i++) {
            if (strcmp(r->families[i], name) == 0) {
                return fail(r, "family %s twice", name);
            }
        }
        if (r->p->n_families == FAMILIES_MAX || (r->p->n_families && r->kind == KIND_NONE)) {
            return fail(r, "too many families, or %s has no TYPE", family(r));
        }
        (void)snprintf(r->families[r->p->n_families++], NAME_MAX_, "%s", name);
        r->kind = KIND_NONE;
        return true;
    }
    if (!take_word(r, "# TYPE ") || !take_name(r, name) || strcmp(name, family(r)) != 0 ||
        r->kind != KIND_NONE || !take_word(r, " ")) {
        return fail(r, "neither HELP nor the TYPE that is due");
    }
    r->kind = take_word(r, "counter")     ? KIND_COUNTER
              : take_word(r, "gauge")     ? KIND_GAUGE
              : take_word(r, "histogram") ? KIND_HISTOGRAM
                                          : KIND_NONE;
    return r->kind != KIND_NONE && r->at == r->end ? true : fail(r, "no known type");
}

/* The part of a histogram that `suffix` names. */
static bool histogram_part(struct reading *r, const char *suffix, const char *key, const char *le,
                           double value)
{
    if (strcmp(suffix, "_bucket") == 0) {
        const double bound = strcmp(le, "+Inf") == 0 ? INFINITY : strtod(le, NULL);
        if (r->state == 0) {
            (void)snprintf(r->series, sizeof(r->series), "%s", key);
            r->last_le = -INFINITY;
            r->last_count = 0;
            r->state = 1;
        }
        if (r->state != 1 || strcmp(r->series, key) != 0 || !le[0] || !(bound > r->last_le) ||
            value < r->last_count) {
            return fail(r, "buckets out of order");
        }
        r->last_le = bound;
        r->last_count = value;
        r->state = isinf(bound) ? 2 : 1;
        return true;
    }
    if (strcmp(r->series, key) != 0 || le[0]) {
        return fail(r, "a sum or count of another series");
    }
    if (strcmp(suffix, "_sum") == 0 && r->state == 2 && value >= 0) {
        r->state = 3;
        return true;
    }
    if (strcmp(suffix, "_count") == 0 && r->state == 3 && value == r->last_count) {
        r->state = 0;
        return true;
    }
    return fail(r, "%s out of order or wrong", suffix);
}

static bool remember(struct reading *r, const char *begin, size_t n, double value)
{
    struct prom *p = r->p;
    char *name = strndup(begin, n);

    for (size_t i = 0; name && i < p->n; i++) {
        if (strcmp(p->samples[i].name, name) == 0) {
            (void)fail(r, "series %s twice", name);
            free(name);
            return false;
        }
    }
    if (!name || p->n == PROM_SAMPLES_MAX) {
        free(name);
        return fail(r, "too many samples");
    }
    p->samples[p->n++] = (struct prom_sample){.name = name, .value = value};
    return true;
}

static bool sample(struct reading *r)
{
    const char *begin = r->at;
    char name[NAME_MAX_], key[1024] = "", le[32];
    double value = 0;

    if (!take_name(r, name)) {
        return fail(r, "no name");
    }
    const size_t n_family = strlen(family(r));
    if (n_family == 0 || r->kind == KIND_NONE || strncmp(name, family(r), n_family) != 0 ||
        (r->kind != KIND_HISTOGRAM && name[n_family])) {
        return fail(r, "%s is not of family %s", name, family(r));
    }
    if (!take_labels(r, key, sizeof(key), le, sizeof(le))) {
        return false;
    }
    const size_t n_series = (size_t)(r->at - begin);
    if (!take_word(r, " ") || !take_number(r, &value)) {
        return fail(r, "no value");
    }
    if (isnan(value) || (r->kind != KIND_GAUGE && value < 0)) {
        return fail(r, "a value that cannot be");
    }
    if (r->kind == KIND_HISTOGRAM ? !histogram_part(r, name + n_family, key, le, value) : le[0]) {
        return r->p->why[0] ? false : fail(r, "le outside a histogram");
    }
    return remember(r, begin, n_series, value);
}

bool prom_read(struct prom *ret, const char *text, size_t n)
{
    struct reading *r = calloc(1, sizeof(*r));
    bool ok = true;

    *ret = (struct prom){.samples = calloc(PROM_SAMPLES_MAX, sizeof(*ret->samples))};
    if (!r || !ret->samples) {
        free(r);
        return false;
    }
    r->p = ret;
    for (const char *at = text, *stop = n > 0 ? text + n : text; ok && at < stop; at = r->end + 1) {
        r->line++;
        r->at = at;
        r->end = memchr(at, '\n', (size_t)(stop - at));
        if (!r->end) {
            r->end = stop;
            ok = fail(r, "the last line does not end");
        } else if (memchr(at, '\0', (size_t)(r->end - at)) || r->end == at) {
            ok = fail(r, "an empty line or a NUL");
        } else {
            ok = *at == '#' ? comment(r) : sample(r);
        }
    }
    if (ok && (r->state != 0 || (ret->n_families && r->kind == KIND_NONE))) {
        ok = fail(r, "it ends in the middle");
    }
    free(r);
    return ok;
}

void prom_free(struct prom *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->samples[i].name);
    }
    free(p->samples);
    *p = (struct prom){0};
}

double prom_value(const struct prom *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++) {
        if (strcmp(p->samples[i].name, name) == 0) {
            return p->samples[i].value;
        }
    }
    return NAN;
}
