/* Public prefixes: texts whose KV blocks the operator lets everybody find. */
#ifndef BROKER_PREFIX_H
#define BROKER_PREFIX_H

#include <stdint.h>

#include "ipc/seam.h"

struct broker;
struct model;

/** prefixes_prime() - read the model's prefixes and have the engine compute them; it was just loaded */
void prefixes_prime(struct model *m);

/** prefix_report() - what the engine says of a sequence that is no request's; others pass */
void prefix_report(struct broker *b, const struct seam_message *m);

#endif
