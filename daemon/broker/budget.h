/* The one budget in bytes: what it is by default, and how much of it a model's KV may have.
 * Pure. */
#ifndef BROKER_BUDGET_H
#define BROKER_BUDGET_H

#include <stddef.h>
#include <stdint.h>

#define BUDGET_PROGRAMS (UINT64_C(16) << 20) /* code, stacks and tables of broker and engine */
#define BUDGET_LEAST (UINT64_C(32) << 20)    /* no machine has less to give */

/* Nothing is known to limit it. Far above any machine, and sums with it stay below the largest
 * signed number, which is all that readers of JSON take. */
#define BUDGET_NONE (UINT64_C(1) << 61)

/**
 * budget_default() - the least of 60 % of all memory and nine tenths of the cgroup's limit
 * @total: of the machine, bytes; 0: not known, and then only the limit counts
 * @limit: of the cgroup and those above it; UINT64_MAX: none
 *
 * Return: bytes, at most BUDGET_NONE; that: neither is known.
 */
uint64_t budget_default(uint64_t total, uint64_t limit);

/** scratch_guess() - of a model that was never loaded, by the bytes of its weights */
uint64_t scratch_guess(uint64_t weights);

/** kv_least() - KV that a model of so many bytes is not loaded without */
uint64_t kv_least(uint64_t weights, uint64_t kv_max);

struct share_plan {
    uint64_t total;  /* of the budget, for models */
    uint64_t free;   /* of that, with the models that are loaded */
    uint64_t bytes;  /* this one's weights */
    uint64_t all;    /* of all models in the folder together; this one is among them */
    size_t n_models; /* so many; at least 1 */
    size_t n_max;    /* models at once */
    uint64_t least;  /* that this one needs beside its weights */
};

/**
 * beside_share() - KV and scratch together that a model may have which is about to be loaded
 *
 * As much as leaves the other models of the folder room beside it: all of them, where they fit
 * together, else as many of its own size as do.
 * Return: at least `least`, and beyond that no more than is free.
 */
uint64_t beside_share(const struct share_plan *p);

#endif
