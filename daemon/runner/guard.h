/* Packed files that are mapped, watched for what others do to them. */
#ifndef DAEMON_RUNNER_GUARD_H
#define DAEMON_RUNNER_GUARD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"

#define GUARDS_MAX 16u /* at once: one a resident model */

struct guard;

/** guard_init() - take SIGBUS over: once, before other threads run */
void guard_init(void);

/**
 * guard_new() - watch a mapping
 * @at, @n: whole pages of a shared mapping; nobody else maps anything there before guard_free()
 * @fd:     of the file. Borrowed, until guard_free().
 *
 * To be called before the pages are relied on: what changes after this is seen.
 * Return: the guard, or NULL when there are GUARDS_MAX already or the file says nothing of itself.
 */
MUST_USE struct guard *guard_new(const void *at, size_t n, int fd);

/** guard_torn() - have its bytes been others since guard_new() than they were then? Any number that
 * was computed from them before this was asked may be wrong. One fstat(). */
bool guard_torn(const struct guard *g);

/** guard_free() - NULL is fine; no thread may read the mapping any more */
void guard_free(struct guard *g);

#endif
