/* Is the engine stuck? */
#ifndef BROKER_WEDGE_H
#define BROKER_WEDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/compiler.h"
#include "ipc/pulse.h"

#define WEDGE_LOOKS 8u /* in a row without progress; a look that comes late counts once */

/* What has been seen of one engine process; pure. Zeroed: nothing yet. */
struct wedge_sight {
    uint64_t progress;
    unsigned n_still;
};

/**
 * wedge_look() - one look more
 * @busy:     it has something to do
 * @progress: any number that changes as long as it gets on
 *
 * Return: true when it has been busy without progress for WEDGE_LOOKS looks.
 */
MUST_USE bool wedge_look(struct wedge_sight *w, bool busy, uint64_t progress);

/** wedge_stat() - of a /proc/PID/stat(5), major page faults and ticks of processor time; pure.
 * Return: false when it is none. */
MUST_USE bool wedge_stat(const char *text, uint64_t *ret_faults, uint64_t *ret_ticks);

struct broker;

struct wedge {
    struct pulse *pulse; /* owned mapping; NULL: there is none, and nobody looks */
    int fd;              /* owned: of the mapping, for the engine; -1 */
    uv_timer_t timer;    /* open from init to close */
    struct wedge_sight sight;
    uint32_t n_killed; /* engines that were stuck */
};

/** wedge_init() - 0 or a negative errno; without a page it goes on unwatched, and says so */
MUST_USE int wedge_init(struct wedge *w, struct broker *b);
/** wedge_restart() - an engine process is about to be started */
void wedge_restart(struct wedge *w);
/** wedge_settle() - wedged_ms may be another one now */
void wedge_settle(struct wedge *w);
void wedge_close(struct wedge *w);  /* the timer */
void wedge_deinit(struct wedge *w); /* after the loop has ended */

#endif
