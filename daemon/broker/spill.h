/* Files for idle KV blocks: one a model and type of cache, in the cache folder. */
#ifndef BROKER_SPILL_H
#define BROKER_SPILL_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/compiler.h"

struct model;

/**
 * spill_offer() - open the model's file and give it to the engine, where [cache] kv_bytes_disk says
 * so; the model was just loaded
 *
 * Return: true when model_serve() is called once that is done: the engine has the file before the
 * first request that could be helped by it.
 */
MUST_USE bool spill_offer(struct model *m);

/**
 * media_removable() - does this device lie on removable media: a card, a stick?
 * @sysfs: "/sys"; tests have their own
 *
 * Cards and soldered eMMC alike (mmcblk) count, since writing wears them out; so does what only
 * maps to such. False for what the kernel says nothing about (a network, memory).
 */
bool media_removable(const char *sysfs, dev_t dev);

#endif
