/* How often the memory ladder may unload a model: each unload is a load later. Pure. */
#ifndef BROKER_UNLOAD_GATE_H
#define BROKER_UNLOAD_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/broker/pressure.h"

/**
 * unload_gate_open() - may a model that nobody uses be unloaded now?
 * @p:           as of a look at now_ns
 * @unloaded_ns: when the last one was; 0: never
 */
bool unload_gate_open(const struct pressure *p, uint64_t unloaded_ns, uint64_t now_ns);

#endif
