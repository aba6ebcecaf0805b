/* Residency: which models stay in the engine, which go to make room. */
#ifndef BROKER_RESIDENCY_H
#define BROKER_RESIDENCY_H

#include <stdint.h>

#include "base/compiler.h"

struct broker;
struct model;

/**
 * residency_victim() - the loaded model that is cheapest to lose; model_unload() then does it
 *
 * Never one that is pinned, or that a request uses or waits for. NULL: there is none.
 */
MUST_USE struct model *residency_victim(struct broker *b, uint64_t now_ns);

#endif
