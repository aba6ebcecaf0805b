/* What the machine's sensors say, for status and metrics. What there is no sensor for is left
 * out. */
#ifndef BROKER_MACHINE_SAYS_H
#define BROKER_MACHINE_SAYS_H

#include "base/buf.h"
#include "base/compiler.h"
#include "ipc/pack.h"

struct broker;

/** machine_pack() - a map of names and values */
void machine_pack(struct packer *p, const struct broker *b);

/** machine_metrics() - append its families, with samples as far as this machine has them. 0,
 * -ENOMEM or -E2BIG. */
MUST_USE int machine_metrics(struct buf *out, const struct broker *b);

#endif
