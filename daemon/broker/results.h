/* The answers to list, ps and status. Without the right `metrics` a client sees in ps its own
 * user's requests and identities; of others' requests class, state and place (and with the right
 * `cancel` number and uid), of their identities a sum. */
#ifndef BROKER_RESULTS_H
#define BROKER_RESULTS_H

#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"

struct conn;
struct request;

/** results_done() - append a bare `done` (of a load, unload or cancel): 0 or a negative errno */
MUST_USE int results_done(struct buf *out, uint32_t id);

/** results_send() - `result`, one msgpack value (taken), as the answer to id; with @error, or where
 * it does not fit, an error instead */
void results_send(struct conn *c, uint32_t id, struct buf *result, int error);

/** results_no_listing() - end a request that needs the models folder, which cannot be read */
void results_no_listing(struct request *r, int scan_result);

/** results_list() - end a list request with the broker's listing, or with why there is none */
void results_list(struct request *r, int scan_result);
void results_ps(struct conn *c, uint32_t id);
void results_status(struct conn *c, uint32_t id);
void results_metrics(struct conn *c, uint32_t id);

#endif
