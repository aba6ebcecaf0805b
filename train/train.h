/* What the trainer's verbs share: exit codes, words to the person, files that appear whole.
 *
 * Every verb is one function that takes the words after its name and returns the process's exit
 * code; it has then printed why, in one line on standard error. */
#ifndef TRAIN_TRAIN_H
#define TRAIN_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/diag.h"
#include "base/newfile.h"

/* Exit codes: the numbers of sysexits.h, as onebit-lab has them. */
enum {
    TRAIN_OK = 0,
    TRAIN_USAGE = 64,       /* the command line */
    TRAIN_DATA = 65,        /* a file says something impossible */
    TRAIN_NOINPUT = 66,     /* a file is missing or cannot be read */
    TRAIN_UNAVAILABLE = 69, /* sound, but this program or this machine cannot do it */
    TRAIN_OS = 71,          /* the system failed: memory, threads */
    TRAIN_CANTCREATE = 73,  /* an output file cannot be made */
    TRAIN_IO = 74,          /* writing failed */
    TRAIN_STOPPED = 75, /* a signal ended the training; a checkpoint, where asked for, is there */
};

/* ---- the verbs: n words after the verb's name ---- */

int verb_tokenizer(int n, char **argv);
int verb_model(int n, char **argv);
int verb_score(int n, char **argv);
int verb_info(int n, char **argv);

/* ---- out.c ---- */

/** train_error() - one line on standard error; bytes that are no printable ASCII are shown as
 * \xNN */
void train_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
/** train_errno() - print what failed and why. Return: the exit code for a negative errno. */
MUST_USE int train_errno(const char *what, int r);
/** train_refuse() - print what a diag says of a file. Return: TRAIN_DATA. */
MUST_USE int train_refuse(const char *path, const struct diag *d);
/** train_model_outcome() - the exit code for what the engine made of a model or vocabulary, with
 * the reason printed unless it is MODEL_OK */
MUST_USE int train_model_outcome(const char *path, int r, const struct diag *d);
/** train_done() - flush standard output. Return: TRAIN_OK or TRAIN_IO. */
MUST_USE int train_done(void);

/* ---- files.c ---- */

/** train_open() - a regular file for reading. Return: TRAIN_OK, or an exit code with the reason
 * printed. */
MUST_USE int train_open(const char *path, int *ret_fd);
/** train_read() - append a whole regular file. Return: TRAIN_OK, or an exit code with the reason
 * printed; more than buf's ceiling is an error. */
MUST_USE int train_read(const char *path, struct buf *ret);

/* base/newfile.h, with the reason printed. newfile_abort() ends one as it is. */

/** outfile_check() - newfile_check(). Return: TRAIN_OK or TRAIN_CANTCREATE. */
MUST_USE int outfile_check(const char *path);
/** outfile_same() - do two names lead to one file, there or yet to be made? */
bool outfile_same(const char *a, const char *b);
/** outfile_begin() - newfile_begin(). Return: TRAIN_OK or TRAIN_CANTCREATE. */
MUST_USE int outfile_begin(struct newfile *f, const char *path);
/** outfile_commit() - newfile_commit(). Return: TRAIN_OK or another exit code. */
MUST_USE int outfile_commit(struct newfile *f, const char *path);

#endif
