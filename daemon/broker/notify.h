/* What the service manager hears. */
#ifndef BROKER_NOTIFY_H
#define BROKER_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/compiler.h"

/* The watchdog's ping: only where the manager asked for one. */
struct watchdog {
    uv_timer_t timer; /* open when .data is set */
};

void notify_ready(void);
void notify_reloading(void);
void notify_stopping(uint64_t drain_ms);

/** watchdog_start() - 0 or a negative errno; nothing is started where nobody asked */
MUST_USE int watchdog_start(struct watchdog *w, uv_loop_t *loop);
void watchdog_stop(struct watchdog *w);

/** notify_listen_fd() - the one Unix stream socket that the manager listens on: its descriptor, -1
 * when there is none, or -EINVAL when what was passed is something else */
MUST_USE int notify_listen_fd(void);

#endif
