/* Threads that do one thing together: each its own fixed part, so that results never depend on who
 * was quicker. */
#ifndef TRAIN_NET_TEAM_H
#define TRAIN_NET_TEAM_H

#include "base/compiler.h"

struct team;

/** team_fn - do part i of a job */
typedef void team_fn(void *ctx, unsigned i);

/** team_new() - start n - 1 threads; n at least 1. 0 or a negative errno. Free with team_free(). */
MUST_USE int team_new(struct team **ret, unsigned n);
void team_free(struct team *team);
unsigned team_size(const struct team *team);

/** team_run() - call fn once for each i below team_size(), each in a thread of its own, 0 in the
 * caller's; returns when all have. What they wrote is visible to the caller. */
void team_run(struct team *team, team_fn *fn, void *ctx);

#endif
