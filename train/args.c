/* args: one walk over the words, each looked up in the table. */
#include "train/args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "train/train.h"

static bool is_positional(const struct arg *a)
{
    return a->name[0] != '-';
}

static struct arg *find(struct arg *args, size_t n_args, const char *word, size_t n)
{
    for (size_t i = 0; i < n_args; i++) {
        if (!is_positional(&args[i]) && strlen(args[i].name) == n &&
            memcmp(args[i].name, word, n) == 0) {
            return &args[i];
        }
    }
    return NULL;
}

static bool parse_int(const char *s, uint64_t lo, uint64_t hi, uint64_t *ret)
{
    char *end = NULL;

    if (*s < '0' || *s > '9') { /* strtoull takes signs and blanks */
        return false;
    }
    errno = 0;
    const unsigned long long v = strtoull(s, &end, 10);
    if (errno != 0 || *end != '\0' || v < lo || v > hi) {
        return false;
    }
    *ret = v;
    return true;
}

static bool parse_real(const char *s, double lo, double hi, double *ret)
{
    char *end = NULL;

    if (!((*s >= '0' && *s <= '9') || *s == '.')) {
        return false;
    }
    const double v = strtod(s, &end);
    if (end == s || *end != '\0' || !(v >= lo && v <= hi)) {
        return false;
    }
    *ret = v;
    return true;
}

static int set_word(const struct arg *a, const char *value)
{
    char list[256] = "";
    size_t at = 0;

    for (unsigned i = 0; a->words[i]; i++) {
        if (strcmp(a->words[i], value) == 0) {
            *(unsigned *)a->to = i;
            return TRAIN_OK;
        }
        const int n = snprintf(list + at, sizeof(list) - at, "%s%s", i ? ", " : "", a->words[i]);
        at += n > 0 && at + (size_t)n < sizeof(list) ? (size_t)n : 0;
    }
    train_error("%s: %s is none of %s", a->name, value, list);
    return TRAIN_USAGE;
}

static int set(struct arg *a, const char *value)
{
    struct arg_texts *texts = a->to;

    a->given = true;
    switch (a->kind) {
    case ARG_FLAG:
        *(bool *)a->to = true;
        return TRAIN_OK;
    case ARG_TEXT:
        *(const char **)a->to = value;
        return TRAIN_OK;
    case ARG_TEXTS:
        if (texts->n == ARG_TEXTS_MAX) {
            train_error("%s: more than %u of them", a->name, ARG_TEXTS_MAX);
            return TRAIN_USAGE;
        }
        texts->at[texts->n++] = value;
        return TRAIN_OK;
    case ARG_INT:
        if (!parse_int(value, a->lo, a->hi, a->to)) {
            train_error("%s: %s is no whole number from %llu to %llu", a->name, value,
                        (unsigned long long)a->lo, (unsigned long long)a->hi);
            return TRAIN_USAGE;
        }
        return TRAIN_OK;
    case ARG_REAL:
        if (!parse_real(value, a->flo, a->fhi, a->to)) {
            train_error("%s: %s is no number from %g to %g", a->name, value, a->flo, a->fhi);
            return TRAIN_USAGE;
        }
        return TRAIN_OK;
    case ARG_WORD:
        return set_word(a, value);
    }
    return TRAIN_USAGE;
}

static int positional(struct arg *args, size_t n_args, const char *word)
{
    for (size_t i = 0; i < n_args; i++) {
        if (is_positional(&args[i]) && (!args[i].given || args[i].kind == ARG_TEXTS)) {
            return set(&args[i], word);
        }
    }
    train_error("%s: one word too many", word);
    return TRAIN_USAGE;
}

/* One option at argv[*at], which moves past it and its value. */
static int option(struct arg *args, size_t n_args, int n, char **argv, int *at)
{
    const char *word = argv[(*at)++];
    const char *equals = strchr(word, '=');
    struct arg *a = find(args, n_args, word, equals ? (size_t)(equals - word) : strlen(word));

    if (!a || (equals && a->kind == ARG_FLAG)) {
        train_error("%s: unknown option", word);
        return TRAIN_USAGE;
    }
    const char *value = equals ? equals + 1 : NULL;
    if (!value && a->kind != ARG_FLAG) {
        if (*at >= n) {
            train_error("%s: wants a value", word);
            return TRAIN_USAGE;
        }
        value = argv[(*at)++];
    }
    return set(a, value);
}

int args_parse(struct arg *args, size_t n_args, int n, char **argv)
{
    bool only_words = false;
    int r = TRAIN_OK;

    for (int at = 0; r == TRAIN_OK && at < n;) {
        const char *word = argv[at];
        if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
            at++;
        } else if (only_words || word[0] != '-' || word[1] == '\0') {
            r = positional(args, n_args, word);
            at++;
        } else {
            r = option(args, n_args, n, argv, &at);
        }
    }
    return r;
}

static void print_default(FILE *f, const struct arg *a)
{
    const char *text = a->kind == ARG_TEXT ? *(const char *const *)a->to : NULL;

    switch (a->kind) {
    case ARG_INT:
        (void)fprintf(f, " (default %llu)", *(unsigned long long *)a->to);
        break;
    case ARG_REAL:
        (void)fprintf(f, " (default %g)", *(double *)a->to);
        break;
    case ARG_WORD:
        (void)fprintf(f, " (default %s)", a->words[*(unsigned *)a->to]);
        break;
    case ARG_TEXT:
        if (text) {
            (void)fprintf(f, " (default %s)", text);
        }
        break;
    case ARG_FLAG:
    case ARG_TEXTS:
        break;
    }
}

void args_help(FILE *f, const struct arg *args, size_t n_args)
{
    for (size_t i = 0; i < n_args; i++) {
        char left[64];
        (void)snprintf(left, sizeof(left), "%s%s%s", args[i].name, args[i].value ? " " : "",
                       args[i].value ? args[i].value : "");
        (void)fprintf(f, "  %-24s %s", left, args[i].help);
        print_default(f, &args[i]);
        (void)fputc('\n', f);
    }
}

bool args_given(const struct arg *args, size_t n_args, const char *name)
{
    for (size_t i = 0; i < n_args; i++) {
        if (strcmp(args[i].name, name) == 0) {
            return args[i].given;
        }
    }
    return false;
}

bool args_wants_help(int n, char **argv)
{
    for (int i = 0; i < n && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            return true;
        }
    }
    return false;
}
