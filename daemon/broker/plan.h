/* Which requests the engine holds and which of them run. Pure code over the queue. */
#ifndef BROKER_PLAN_H
#define BROKER_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "daemon/broker/queue.h"
#include "ipc/seam.h"

/**
 * plan_start() - the next job to give to the engine, or NULL
 *
 * Jobs that ran in an engine before this one go first, then the waiting ones, high class first. A job
 * needs a free stream of its model. While a suspect can run, nothing else is started. The caller starts the job (held, n_held) before it asks again.
 */
struct job *plan_start(const struct queue *q, uint32_t streams_max);

/** plan_run() - the sequences that may work, prompts in this order: high class first */
void plan_run(const struct queue *q, struct seam_plan *ret);

#endif
