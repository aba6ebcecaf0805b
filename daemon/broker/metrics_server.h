/* The second socket: the figures for a collector, over HTTP. */
#ifndef BROKER_METRICS_SERVER_H
#define BROKER_METRICS_SERVER_H

#include <stddef.h>
#include <uv.h>

#include "base/compiler.h"
#include "base/list.h"
#include "daemon/broker/acceptor.h"

#define METRICS_CONNS_MAX 4u /* at once; more wait to be accepted */

struct broker;

struct metrics_server {
    struct broker *broker; /* borrowed */
    struct acceptor acceptor;
    struct list conns; /* owned */
    size_t n_conns;
};

/** metrics_server_start() - serve a listening socket. @fd: taken over, also on failure.
 * Return: 0 or a negative errno; metrics_server_stop() in either case. */
MUST_USE int metrics_server_start(struct metrics_server *s, struct broker *b, int fd);

/** metrics_server_stop() - idempotent; harmless on a zeroed one. Its handles close. */
void metrics_server_stop(struct metrics_server *s);

#endif
