/* Plans: which matrix of a model gets which weight format.
 *
 * A plan is a text, one line a choice: PATTERN FORMAT. The pattern is a glob (fnmatch) over tensor
 * names, the format one that can be written, or `keep`. The first line that matches a matrix
 * decides; vectors always stay as they are. `#` begins a comment that runs to the end of the
 * line. */
#ifndef ENGINE_LAB_PLAN_H
#define ENGINE_LAB_PLAN_H

#include <stddef.h>

#include "base/compiler.h"
#include "engine/requant.h"

#define PLAN_BYTES_MAX ((size_t)1 << 20)
#define PLAN_LINES_MAX 8192u /* times as many tensors as there are is the work of matching */
#define PLAN_PATTERN_MAX 255u

struct plan_line {
    char pattern[PLAN_PATTERN_MAX + 1];
    const char *format; /* static; NULL: keep */
    unsigned number;    /* in the file, from 1 */
    bool used;
};

/* Zeroed is an empty plan. */
struct plan {
    const char *path;        /* borrowed, for messages */
    struct plan_line *lines; /* owned */
    size_t n;
};

/**
 * plan_read() - a plan from a file
 * @path: kept for messages; must outlive the plan
 *
 * Return: LAB_OK, or an exit code with the reason printed, line number included.
 */
MUST_USE int plan_read(const char *path, struct plan *ret);
void plan_deinit(struct plan *p);

/** plan_format() - the static name of a format that can be encoded; NULL for another, printing what
 * there is. @what: whose value it is, for the message. */
const char *plan_format(const char *what, const char *name);

/**
 * plan_choose() - choose every tensor's format
 * @format: of matrices named *.weight that no line matches; NULL: they are kept
 * @head:   the same for token_embd.weight and output.weight; NULL: see plan_head()
 *
 * Return: LAB_OK, or an exit code with the reason printed; a line that no matrix matches is an
 * error.
 */
MUST_USE int plan_choose(struct plan *p, struct requant *q, const char *format, const char *head);

/** plan_head() - what embedding and head get when nobody says: the format itself, or Q8_0 where it
 * has two bits a weight or fewer. Models of such formats are trained so; heads seldom are. */
const char *plan_head(const char *format);

/** plan_is_head() - is this the embedding or the head? */
bool plan_is_head(const char *name);

#endif
