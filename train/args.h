/* Command lines: each verb has a table of the options that it knows, which is its help as well.
 * What is not in it is refused, so that a misspelt or misplaced option never passes in silence. */
#ifndef TRAIN_ARGS_H
#define TRAIN_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/compiler.h"

#define ARG_TEXTS_MAX 16u

enum arg_kind {
    ARG_FLAG,  /* bool */
    ARG_TEXT,  /* const char *, borrowed from argv */
    ARG_TEXTS, /* struct arg_texts: may be given several times */
    ARG_INT,   /* uint64_t in lo..hi */
    ARG_REAL,  /* double in flo..fhi */
    ARG_WORD,  /* unsigned: which of `words` */
};

struct arg_texts {
    const char *at[ARG_TEXTS_MAX];
    size_t n;
};

struct arg {
    const char *name;  /* with its dashes; without: what stands alone, in the order of the table */
    const char *value; /* how help calls it; NULL for a flag */
    const char *help;
    enum arg_kind kind;
    void *to;                 /* holds the default before, borrowed */
    const char *const *words; /* ends with NULL */
    uint64_t lo, hi;
    double flo, fhi;
    bool given; /* out */
};

/** args_parse() - n words into the table's places. Return: TRAIN_OK, or TRAIN_USAGE with the reason
 * printed. */
MUST_USE int args_parse(struct arg *args, size_t n_args, int n, char **argv);
/** args_help() - the table for a person, with defaults */
void args_help(FILE *f, const struct arg *args, size_t n_args);
/** args_given() - the entry of this name: was it given? */
bool args_given(const struct arg *args, size_t n_args, const char *name);
/** args_wants_help() - is there a --help among them? */
bool args_wants_help(int n, char **argv);

#endif
