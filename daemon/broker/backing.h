/* How the engine holds a model's weights: the packed file's own pages, which the system can take
 * back, or a copy in huge pages, which is faster and nobody can take back. */
#ifndef BROKER_BACKING_H
#define BROKER_BACKING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

struct model;

/* What is known when a model is about to be loaded, bytes. */
struct backing_room {
    uint64_t machine;    /* memory of the machine */
    uint64_t limit;      /* of the daemon's cgroup and those above it; UINT64_MAX: none is known */
    uint64_t total;      /* memory of the machine, or of the daemon's cgroup where that is less */
    uint64_t available;  /* that could be had without swapping: MemAvailable; 0: not known */
    uint64_t copies;     /* of models that have copies already */
    uint64_t copies_max; /* that all copies together may take */
    uint64_t kv;         /* KV memory that this model may still come to */
};

/**
 * backing_fits() - is there room for a copy of this size?
 *
 * There is when all copies stay within their bound and when, with the KV filled, a quarter of all
 * memory stays free for everybody else. Pure.
 */
MUST_USE bool backing_fits(uint64_t bytes, const struct backing_room *room);

/** backing_memory() - fill in total and available. @root: "" but for tests, which have their own
 * /proc and /sys below it. Reads files of the kernel's alone, which keep nobody waiting. */
void backing_memory(struct backing_room *ret, const char *root);

/** backing_choose() - "shared" or "private" for a model that is packed and not loaded. Static. */
const char *backing_choose(const struct model *m);

#endif
