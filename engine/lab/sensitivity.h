/* The parts of `sensitivity`: groups of matrices, what each loses in each format, and a choice. */
#ifndef ENGINE_LAB_SENSITIVITY_H
#define ENGINE_LAB_SENSITIVITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/lab/lab.h"
#include "engine/requant.h"

#define SENS_GROUPS_MAX 96u
#define SENS_FORMATS_MAX 16u
#define SENS_NAME_MAX 80u

/* One way to keep a group. The first of a group's is as it is: format NULL, delta 0. */
struct sens_choice {
    const char *format; /* static */
    uint64_t bytes;     /* of the group */
    double
        delta; /* loss with this group alone so, minus loss of the model as it is; nats per token */
    bool usable; /* rows are whole blocks, and the model runs */
};

struct sens_group {
    char name[SENS_NAME_MAX]; /* of the part; also what tensors' names hold */
    unsigned third;           /* 1..3 of the layers; 0: all of them */
    uint64_t weights;
    struct sens_choice choices[1 + SENS_FORMATS_MAX];
    size_t chosen; /* index into choices */
};

struct sens {
    const struct lab_args *args; /* borrowed */
    struct requant *q;           /* owned */
    int32_t *ids;                /* owned: n_ids */
    size_t n_ids;
    uint32_t *group_of; /* owned: of each tensor; SENS_GROUPS_MAX: of none */
    struct sens_group groups[SENS_GROUPS_MAX];
    size_t n_groups;
    const char *formats[SENS_FORMATS_MAX]; /* static */
    size_t n_formats;
    uint64_t fixed;        /* bytes of the tensors in no group */
    struct lab_score base; /* of the model as it is */
    double planned;        /* loss of the plan, measured; only with a budget */
};

/** sens_bytes() - of all tensors as they are chosen */
uint64_t sens_bytes(const struct sens *s);

/** sens_least_bytes() - of all tensors when each group takes the smallest that it can */
uint64_t sens_least_bytes(const struct sens *s);

/**
 * sens_budget() - choose for each group so that all tensors take at most this many bytes
 *
 * Losses of groups are taken to add up. From the model as it is, again and again the step from one
 * choice of a group to a smaller one is taken that costs least,
 *
 *     (delta of the new - delta of the old) / (bytes of the old - bytes of the new),
 *
 * until the budget holds. Then what is left is spent: the step to a larger choice that fits and
 * gives most per byte, by the same formula, until none gives anything. Ties go to the earlier group
 * and choice.
 *
 * Return: false when no choice is small enough; nothing is chosen then.
 */
MUST_USE bool sens_budget(struct sens *s, uint64_t bytes);

/** sens_print() - the table, or JSON */
MUST_USE int sens_print(const struct sens *s);

/** sens_write_plan() - the choice as a plan that `quantize` reads; whole or not at all */
MUST_USE int sens_write_plan(const struct sens *s, const char *path);

#endif
