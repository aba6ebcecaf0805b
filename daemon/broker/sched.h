/* Whose turn it is: service accounts and, over them, the order of work. Pure code over a virtual
 * clock: the loop, the unit tests and bench/simulate run the very same functions. */
#ifndef BROKER_SCHED_H
#define BROKER_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "ipc/message.h"

/* The service that one identity has had: 1 for a prompt token computed, 2 for an answer token, each
 * divided by its weight. Inside a class the smallest counter goes first. An account stays as long as
 * its identity, so that a new connection is no new start. */
struct sched_account {
    /* Policy's; may change at any time. */
    double weight;        /* > 0; its share against others of the class */
    uint32_t running_max; /* jobs given to the engine at once; 0: no limit of its own */

    /* The scheduler's. */
    struct list link;          /* in its accounts while there are jobs */
    struct list jobs[CLASSES]; /* struct job, in the order they came */
    double counter[CLASSES];   /* weighted service */
    double ahead;              /* scratch of one plan: the counter it will have */
    bool active[CLASSES];      /* had work that could be done, at the last plan */
    size_t n_jobs, n_waiting;  /* all; those that were never given to the engine */
    uint32_t n_held;           /* sequences in the engine */
    uint64_t served;           /* prompt + 2 x answer tokens, ever */
};

/** sched_account_init() - no service yet, weight 1, no limit */
void sched_account_init(struct sched_account *a);

/** sched_account_idle() - no job: the identity may be forgotten */
bool sched_account_idle(const struct sched_account *a);

#endif
