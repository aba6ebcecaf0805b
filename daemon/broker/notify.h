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

/** notify_ready_as() - we serve. @status: a sentence about how */
void notify_ready_as(const char *status);
/** notify_patience() - we start, and need at most so long until the manager hears of us again */
void notify_patience(uint64_t ms, const char *status);
void notify_reloading(void);
void notify_stopping(uint64_t drain_ms, const char *status);
/** notify_status() - how things are, and nothing else */
void notify_status(const char *status);
/** notify_heard() - is there a manager that hears us? */
bool notify_heard(void);

/** watchdog_start() - 0 or a negative errno; nothing is started where nobody asked */
MUST_USE int watchdog_start(struct watchdog *w, uv_loop_t *loop);
void watchdog_stop(struct watchdog *w);

/* What the manager listens on for us; -1: nothing. */
struct passed_sockets {
    int main, metrics;
};

/** notify_sockets() - the listening Unix stream sockets that were passed, at most one of each kind
 *
 * FileDescriptorName=metrics in its unit (or a unit named onebitd-metrics.socket) makes the metrics
 * socket; any other name is the clients' one.
 *
 * Return: 0; -EINVAL: what was passed is something else; or another negative errno. */
MUST_USE int notify_sockets(struct passed_sockets *ret);

#endif
