/* Statistics of measured times, and the random numbers of a load that can be repeated. Pure. */
#ifndef CLIENT_CLI_STATS_H
#define CLIENT_CLI_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

/* A growing list of numbers. Zeroed, it is empty and ready. */
struct sample {
    double *v; /* owned */
    size_t n, room;
};

#define SAMPLE_MAX ((size_t)1 << 24) /* numbers in one sample: 128 MiB */

/** sample_add() - 0, -ENOMEM, or -E2BIG past SAMPLE_MAX (nothing changed) */
MUST_USE int sample_add(struct sample *s, double v);

/** sample_join() - add every number of another sample; return as sample_add() */
MUST_USE int sample_join(struct sample *s, const struct sample *more);

/** sample_clear() - empty it; its memory stays. sample_deinit() frees; a zeroed sample is fine. */
void sample_clear(struct sample *s);
void sample_deinit(struct sample *s);

/**
 * sample_percentile() - by nearest rank: the least member that at least p of 100 do not exceed
 * @p: from above 0 to 100
 *
 * Sorts the sample. Return: NAN when it is empty.
 */
double sample_percentile(struct sample *s, double p);

/** sample_median() - the middle member, or the mean of the two in the middle; NAN when empty.
 * Sorts. */
double sample_median(struct sample *s);

/** sample_mean() - NAN when empty */
double sample_mean(const struct sample *s);

/** sample_max() - NAN when empty */
double sample_max(const struct sample *s);

/* Random numbers by splitmix64 (Steele, Lea and Flood, 2014): any seed is good, the same seed gives
 * the same load on every machine. */
struct dice {
    uint64_t state;
};

uint64_t dice_u64(struct dice *d);

/** dice_below() - from 0 to n - 1, each alike up to n / 2^53; 0 < n < 2^53 */
uint64_t dice_below(struct dice *d, uint64_t n);

/** dice_wait() - until the next arrival of a Poisson process of this many per second, in seconds */
double dice_wait(struct dice *d, double per_second);

/**
 * sample_bootstrap() - a 95 % interval of the mean, from the 2.5th and 97.5th percentile of the
 * means of `rounds` samples drawn with replacement
 *
 * Return: 0, -EINVAL for an empty sample or no round, or -ENOMEM.
 */
MUST_USE int sample_bootstrap(const struct sample *s, size_t rounds, struct dice *d,
                              double *ret_low, double *ret_high);

#endif
