/* Public prefixes: texts whose KV blocks the operator lets everybody find. */
#ifndef BROKER_PREFIX_H
#define BROKER_PREFIX_H

#include <stdint.h>

#include "ipc/seam.h"

struct broker;
struct model;

/** prefixes_prime() - read the model's prefixes and have the engine compute them; it was just
 * loaded */
void prefixes_prime(struct model *m);

/** prefixes_reload() - the configuration has changed: what is public by it no more is found by no
 * request that starts from here on, and what is new, or has changed in its file, is computed */
void prefixes_reload(struct broker *b);

/** prefix_report() - what the engine says of a sequence that is no request's; others pass */
void prefix_report(struct broker *b, const struct seam_message *m);

#endif
