/* A pool of threads that share out the items of one job at a time. */
#ifndef ENGINE_THREADS_H
#define ENGINE_THREADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

#define THREADS_MAX 64u

struct threads; /* opaque; one caller at a time */

/** threads_fn - do item i of a job; thread_i in 0..n_threads-1, the caller is 0 */
typedef void threads_fn(void *ctx, size_t item, unsigned thread_i);

/** threads_new() - start n_threads - 1 workers; 1..THREADS_MAX, the caller included */
MUST_USE int threads_new(struct threads **ret, unsigned n_threads);
void threads_free(struct threads *t);

/** threads_count() - all there are, the caller included: thread_i is below */
unsigned threads_count(const struct threads *t);

/**
 * threads_use() - let only the first n threads take items, from the next job on
 * @n: 1..threads_count(); all of them at first
 *
 * The others sleep until they are used again, which takes a thread as long as waking does. For the
 * caller of threads_run(), while no job runs.
 */
void threads_use(struct threads *t, unsigned n);
unsigned threads_used(const struct threads *t);

/**
 * threads_run() - call fn once for every item in 0..n_items-1, in any order, and wait for all
 * @n_items: below 2^32
 *
 * Waits for items, not for workers: a worker that the system has put aside delays nobody unless it
 * holds an item. Everything fn wrote is visible to the caller afterwards.
 */
void threads_run(struct threads *t, threads_fn *fn, void *ctx, size_t n_items);

/* For measurements: how long the callers of threads_run() have waited for others' items, while it
 * was switched on. Not to be called while a job runs. */
void threads_time(struct threads *t, bool on);
uint64_t threads_waited_ns(const struct threads *t);

#endif
