/* What bounds every engine on a machine: how fast it reads memory (engine/lab/board.h), and how
 * many int8 products it can add up. */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/kernels/cpu.h"

/* Runs n turns of a level's best instructions over registers alone. */
typedef void mac_fn(uint64_t n);

/* A level's best way to add int8 products. */
struct mac_way {
    mac_fn *run;
    uint32_t per_turn; /* multiply-adds of one turn */
    const char *how;   /* the instructions, for a person */
};

/** mac_way() - false for a level without one (scalar) or of another architecture */
MUST_USE bool mac_way(enum cpu_level level, struct mac_way *ret);

/* Multiply-adds per second: of the best tries, and of all together. */
struct mac_rate {
    double best, mean;
};

/**
 * mac_measure() - how many int8 products are added up
 * @n_threads: at the same time, 1..64
 * @level:     present on this machine
 * @ms:        for about how long
 * Return: 0; -EINVAL where mac_way() has none; another negative errno.
 */
MUST_USE int mac_measure(enum cpu_level level, unsigned n_threads, unsigned ms,
                         struct mac_rate *ret);

/** core_hertz() - of the core this thread runs on, while it works: one dependent addition is one
 * cycle on every core we run on. CPU time, the best of many tries. */
double core_hertz(void);

#endif
