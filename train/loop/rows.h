/* Rows to learn from or to be asked: JSON lines such as {"prompt": "...", "answer": "..."}. What a
 * file holds is anybody's: every length has a limit, and every refusal names the line. */
#ifndef TRAIN_LOOP_ROWS_H
#define TRAIN_LOOP_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "base/strview.h"

#define ROWS_BYTES_MAX ((size_t)1 << 30) /* of a file */
#define ROWS_LINE_MAX ((size_t)1 << 20)  /* of a line: more than any context holds */
#define ROWS_MAX (UINT32_C(1) << 26)     /* of all files together */

/* The members that are read; others are left alone. */
struct rows_fields {
    const char *prompt; /* borrowed; a string that every row has */
    const char *answer; /* borrowed; the same, where `answers` says so */
    bool answers;       /* false: rows may lack the answer */
};

/* Strings without marks of the chat template ("<|"), in UTF-8, perhaps with NULs. */
struct row {
    struct strview prompt, answer; /* answer.data is NULL where there is none */
    uint64_t line;                 /* from 1 */
};

struct rows; /* opaque: a walk over the lines of a file in memory */

/** rows_new() - @data: n bytes, borrowed until rows_free(); @fields: copied. 0 or -ENOMEM */
MUST_USE int rows_new(struct rows **ret, const void *data, size_t n,
                      const struct rows_fields *fields);
void rows_free(struct rows *rows);

enum { ROWS_OK = 0, ROWS_END, ROWS_MALFORMED };

/**
 * rows_next() - the next row; lines of white space alone are passed over
 * @ret: on ROWS_OK; borrowed until the next call
 *
 * Return: ROWS_OK; ROWS_END; ROWS_MALFORMED: the line is too long, no JSON object, lacks a member,
 * or has a mark in a text; diag says which, and the line.
 */
MUST_USE int rows_next(struct rows *rows, struct row *ret, struct diag *ret_diag);

#endif
