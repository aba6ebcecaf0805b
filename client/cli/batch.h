/* What the parts of `onebit batch` share. A batch is a file of JSON lines, each a request, and a
 * file of JSON lines with their answers in the same order. */
#ifndef CLIENT_CLI_BATCH_H
#define CLIENT_CLI_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/cli/cli.h"

/* ---- lines of a file ---- */

#define IN_LINE_BYTES_MAX                                                                          \
    ((size_t)8 << 20) /* a frame holds 1 MiB, and JSON may escape every byte */
#define OUT_LINE_BYTES_MAX ((size_t)128 << 20) /* an answer with its probabilities */

/* Reads a regular file line by line. */
struct lines {
    int fd;          /* borrowed */
    size_t line_max; /* bytes of a line that are kept */
    struct buf buf;  /* owned: bytes read and not yet used */
    off_t at;        /* where the next line begins in the file */
    uint64_t number; /* of the last line, from 1 */
    bool ended;      /* nothing more to read */
    size_t used;     /* its bytes there */
};

/* One line; valid until the next call. */
struct line {
    const char *text; /* without its newline; no NUL behind it */
    size_t n;
    uint64_t hash; /* of the whole line, kept or not */
    off_t at;      /* where it begins */
    bool too_long; /* only its beginning was kept */
    bool torn;     /* the file ends without a newline behind it */
};

void lines_init(struct lines *l, int fd, size_t line_max, off_t at, uint64_t number);
void lines_deinit(struct lines *l);

/** lines_next() - 1: a line; 0: the end; or a negative errno */
MUST_USE int lines_next(struct lines *l, struct line *ret);

/** line_blank() - is there nothing but blanks in it? */
bool line_blank(const struct line *line);

/* ---- a request out of a line ---- */

struct batch_item {
    uint64_t line;  /* its number in the input, from 1 */
    uint64_t mark;  /* of the line and of the options it was asked with */
    json_t *source; /* owned: what the line says; NULL when it is no JSON */
    char *text;     /* owned: the line, when it is no JSON; NULL when it is not UTF-8 */
    struct onebit_message *messages; /* owned array; strings belong to source */
    int32_t *ids;                    /* owned */
    const char *stops[STOPS_MAX];
    struct onebit_request request; /* borrows from all of the above and from the options */
    char problem[256];             /* why it is no request; "": it is one */

    struct batch_item *next;     /* in the order of the input */
    json_t *ids_json, *logprobs; /* owned or NULL: gathered as the answer comes */
    bool failed;
    char *result; /* owned: its line of the output with the newline, once it is known */
    size_t result_n;
};

/**
 * batch_item_new() - read one line
 * @args: options of the command: what a line does not say itself; borrowed as long as the item
 *        lives
 *
 * A line that is no request gives an item with a problem. Return: 0 or -ENOMEM.
 */
MUST_USE int batch_item_new(struct batch_item **ret, const struct args *args, uint64_t number,
                            const struct line *line);
void batch_item_free(struct batch_item *item);

/** batch_mark() - what tells this line, asked with these options, from others */
uint64_t batch_mark(const struct args *args, const struct line *line);

/** batch_item_end() - make the item's line of the output
 * @end: taken: members that say how it ended; NULL: there was no memory for them
 * Return: 0 or -ENOMEM. */
MUST_USE int batch_item_end(struct batch_item *item, json_t *end);

/** batch_problem_json() - the error of an item that is no request */
json_t *batch_problem_json(const struct batch_item *item);

/* ---- the two files ---- */

struct batch_files {
    int in, out;           /* owned; -1: not open */
    off_t in_at;           /* where the first line that has no answer begins */
    uint64_t in_line;      /* number of the line before it */
    uint64_t n_all;        /* requests in the input */
    uint64_t n_had;        /* of them with an answer in the output when we began */
    uint64_t n_had_failed; /* of those, failed */
    bool torn;             /* a half-written line was taken off */
};

/**
 * batch_files_open() - open both, lock the output, and find out where to go on
 *
 * The output's last line is dropped when it is not whole. Its other lines have to belong to the
 * input's, in order, or it is somebody else's file.
 *
 * Return: 0, or an exit code after having said what is wrong.
 */
MUST_USE int batch_files_open(struct batch_files *f, const struct args *args, const char *in,
                              const char *out);
void batch_files_close(struct batch_files *f);

/* ---- how it goes ---- */

struct progress {
    bool shown;     /* standard error is a terminal */
    bool told;      /* the bar stands there */
    uint64_t n_all; /* requests in all */
    uint64_t start_ns, last_ns;
    uint64_t n_begun_with; /* done before we began */
};

void progress_init(struct progress *p, uint64_t n_all, uint64_t n_had, uint64_t now_ns);
/** progress_show() - at most five times a second, and when everything is done */
void progress_show(struct progress *p, uint64_t n_done, uint64_t n_failed, uint64_t tokens,
                   uint64_t now_ns);
void progress_clear(struct progress *p);

/** progress_line() - what the bar says, in so many columns; pure */
void progress_line(char *ret, size_t room, const struct progress *p, uint64_t n_done,
                   uint64_t n_failed, uint64_t tokens, uint64_t now_ns, unsigned columns);

#endif
