/* onebit-train commands: draws rows from a grammar and writes them as JSONL. */
#include "train/commands/commands.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/newfile.h"
#include "train/commands/row.h"
#include "train/train.h"

#define OF_THE_TREE "train/commands/grammar"
#ifndef ONEBIT_GRAMMAR
#define ONEBIT_GRAMMAR "/usr/share/onebit/grammar" /* of an installed program */
#endif

#define SLIPS_MAX 10
#define USAGE                                                                                      \
    "usage: onebit-train commands --count N [--seed S] [--split train|valid|all]\n"                \
    "           [--templates FRACTION] [--slips N] [--keep-out FILE]\n"                            \
    "           [--grammar FOLDER] [-o FILE]\n"                                                    \
    "  --count N             rows to write, 1 to 100000000\n"                                      \
    "  --seed S              chooses the rows; the same seed, the same bytes (default 1)\n"        \
    "  --split PART          train: templates not held back; valid: those held back;\n"            \
    "                        all (default): both\n"                                                \
    "  --templates FRACTION  held back of the templates that may be (default 0.05)\n"              \
    "  --slips N             words mistyped, said twice or hummed in between N times as often\n"   \
    "                        as the grammar has it, 0 to 10 (default 1)\n"                         \
    "  --keep-out FILE       hashes of sentences that no row may have\n"                           \
    "  --grammar FOLDER      its *.txt (default " OF_THE_TREE ", where that is, or\n"              \
    "                        " ONEBIT_GRAMMAR ")\n"                                                \
    "  -o, --output FILE     a file instead of standard output, replaced when all is there\n"

struct wants {
    uint64_t count;
    struct row_options rows;
    const char *grammar, *output, *keep_out;
    uint64_t slips; /* times the grammar's */
};

static int usage(const char *what, const char *value)
{
    fprintf(stderr, "onebit-train commands: %s%s\n%s", what, value, USAGE);
    return TRAIN_USAGE;
}

static bool whole(const char *text, uint64_t max, uint64_t *ret)
{
    char *end;

    errno = 0;
    const unsigned long long n = strtoull(text, &end, 10);
    *ret = n;
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && n <= max;
}

/* "0.05" in parts of a million, without floating point: the same everywhere. */
static bool fraction(const char *text, uint32_t *ret)
{
    uint32_t n = 0, scale = 1000000;

    if (strcmp(text, "0") == 0) {
        *ret = 0;
        return true;
    }
    if (strncmp(text, "0.", 2) != 0 || text[2] == '\0') {
        return false;
    }
    for (const char *c = text + 2; *c; c++) {
        scale /= 10;
        if (*c < '0' || *c > '9' || scale == 0) {
            return false;
        }
        n += (uint32_t)(*c - '0') * scale;
    }
    *ret = n;
    return true;
}

static int split_of(const char *text)
{
    static const char *const names[] = {
        [ROW_ALL] = "all", [ROW_TRAIN] = "train", [ROW_VALID] = "valid"};

    for (int i = 0; i < (int)ARRAY_SIZE(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static int parse(int argc, char **argv, struct wants *w)
{
    static const struct option options[] = {
        {"count", required_argument, NULL, 'n'},   {"seed", required_argument, NULL, 's'},
        {"split", required_argument, NULL, 'p'},   {"templates", required_argument, NULL, 't'},
        {"grammar", required_argument, NULL, 'g'}, {"output", required_argument, NULL, 'o'},
        {"slips", required_argument, NULL, 'l'},   {"keep-out", required_argument, NULL, 'k'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    int c;

    optind = 1;
    while ((c = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
        int split = 0;
        if (c == 'h') {
            fputs(USAGE, stdout);
            return -1;
        }
        if (c == 'n' && (!whole(optarg, 100000000, &w->count) || w->count == 0)) {
            return usage("no count of rows: ", optarg);
        }
        if (c == 's' && !whole(optarg, UINT64_MAX, &w->rows.seed)) {
            return usage("no seed: ", optarg);
        }
        if (c == 't' && !fraction(optarg, &w->rows.held_back)) {
            return usage("no fraction from 0 to 0.999999: ", optarg);
        }
        if (c == 'l' && !whole(optarg, SLIPS_MAX, &w->slips)) {
            return usage("not how many times as many slips: ", optarg);
        }
        if (c == 'p' && (split = split_of(optarg)) < 0) {
            return usage("no split: ", optarg);
        }
        if (c == 'p') {
            w->rows.split = (enum row_split)split;
        }
        w->keep_out = c == 'k' ? optarg : w->keep_out;
        w->grammar = c == 'g' ? optarg : w->grammar;
        w->output = c == 'o' ? optarg : w->output;
        if (c == '?') {
            return usage("see below", "");
        }
    }
    if (optind < argc) {
        return usage("too much: ", argv[optind]);
    }
    return w->count == 0 ? usage("--count is missing", "") : 0;
}

static void write_text(FILE *to, const char *text)
{
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            putc('\\', to);
        }
        putc(*text, to);
    }
}

static int write_rows(const struct grammar *g, const struct wants *w, FILE *to,
                      struct grammar_fault *fault)
{
    char answer[ROW_ANSWER_MAX], template[ROW_TEMPLATE_MAX];
    struct row row;

    for (uint64_t i = 0; i < w->count; i++) {
        const int r = row_draw(g, &w->rows, i, &row, fault);
        if (r != 0) {
            return r;
        }
        row_answer(&row, answer);
        row_template(&row, template);
        fputs("{\"prompt\":\"", to);
        write_text(to, row.text);
        fputs("\",\"answer\":\"", to);
        write_text(to, answer);
        fprintf(to, "\",\"template\":\"%s\"}\n", template);
        if (ferror(to)) {
            break;
        }
    }
    return 0;
}

static int say_output(const struct wants *w, const char *why, struct grammar_fault *fault)
{
    snprintf(fault->text, sizeof(fault->text), "%s: %s", w->output ? w->output : "output", why);
    return TRAIN_IO;
}

/* TRAIN_OK, or an exit code with the reason in @fault. */
static int write_to(const struct grammar *g, const struct wants *w, FILE *to,
                    struct grammar_fault *fault)
{
    errno = 0;
    const int r = write_rows(g, w, to, fault);
    if (r > 0) {
        return TRAIN_DATA;
    }
    if (r == 0 && ferror(to) == 0 && fflush(to) == 0) {
        return TRAIN_OK;
    }
    const int why = r < 0 ? -r : errno ? errno : EIO;
    (void)say_output(w, strerror(why), fault);
    return r < 0 ? TRAIN_OS : TRAIN_IO;
}

static struct newfile file; /* for the handler */

static void on_signal(int number)
{
    (void)unlink(file.temporary);
    _exit(128 + number);
}

/* Of what is broken off by a person nothing is left. */
static void tidy_on_signals(void)
{
    const struct sigaction action = {.sa_handler = on_signal};

    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
}

/* The same into a file that appears when all of it is there. */
static int write_file(const struct grammar *g, const struct wants *w, struct grammar_fault *fault)
{
    tidy_on_signals(); /* before the file is there */
    int r = newfile_begin(&file, w->output);

    if (r != NEWFILE_OK) {
        (void)say_output(w, newfile_why(r), fault);
        return TRAIN_CANTCREATE;
    }
    const int fd = dup(file.fd);
    FILE *to = fd < 0 ? NULL : fdopen(fd, "w");
    if (!to) {
        r = say_output(w, strerror(errno), fault);
        if (fd >= 0) {
            (void)close(fd);
        }
    } else {
        r = write_to(g, w, to, fault);
        if (fclose(to) != 0 && r == TRAIN_OK) {
            r = say_output(w, strerror(errno), fault);
        }
    }
    if (r != TRAIN_OK) {
        newfile_abort(&file);
        return r;
    }
    r = newfile_commit(&file);
    return r == NEWFILE_OK ? TRAIN_OK : say_output(w, newfile_why(r), fault);
}

/* TRAIN_OK, or an exit code with the reason in @fault. */
static int read_inputs(struct grammar *g, struct kept_out *kept_out, const struct wants *w,
                       struct grammar_fault *fault)
{
    int r = grammar_read_folder(g, w->grammar, fault);

    if (r == 0) {
        r = grammar_check(g, fault);
    }
    if (r == 0 && w->keep_out) {
        r = kept_out_read(kept_out, w->keep_out, fault);
    }
    return r == 0 ? TRAIN_OK : r > 0 ? TRAIN_DATA : r == -ENOMEM ? TRAIN_OS : TRAIN_NOINPUT;
}

/* The grammar's own number of slips, so many times. */
static void set_slips(struct grammar *g, uint32_t times)
{
    static const enum noise slips[] = {NOISE_FILLER, NOISE_REPEAT, NOISE_TYPO};

    for (unsigned i = 0; i < ARRAY_SIZE(slips); i++) {
        uint32_t *permille = &g->noise[slips[i]]; /* at most 1000, as it was read */
        *permille = *permille * times < 1000 ? *permille * times : 1000;
    }
}

int commands_main(int argc, char **argv)
{
    struct wants w = {.slips = 1,
                      .rows = {.seed = 1, .held_back = 50000},
                      .grammar = access(OF_THE_TREE, F_OK) == 0 ? OF_THE_TREE : ONEBIT_GRAMMAR};
    struct grammar_fault fault = {.text = "out of memory"};
    struct kept_out kept_out = {0};
    struct grammar g;
    int r = parse(argc, argv, &w);

    if (r != 0) {
        return r < 0 ? TRAIN_OK : r;
    }
    grammar_init(&g);
    r = read_inputs(&g, &kept_out, &w, &fault);
    w.rows.kept_out = w.keep_out ? &kept_out : NULL;
    set_slips(&g, (uint32_t)w.slips);
    if (r == TRAIN_OK) {
        r = w.output ? write_file(&g, &w, &fault) : write_to(&g, &w, stdout, &fault);
    }
    if (r != TRAIN_OK && fault.line) {
        fprintf(stderr, "onebit-train commands: %s:%u: %s\n", fault.file, fault.line, fault.text);
    } else if (r != TRAIN_OK) {
        fprintf(stderr, "onebit-train commands: %s\n", fault.text);
    }
    kept_out_deinit(&kept_out);
    grammar_deinit(&g);
    return r;
}
