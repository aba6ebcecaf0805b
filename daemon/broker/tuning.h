/* What the engine has measured of a model on this machine, kept beside its packed file. The broker
 * does not look into it: whether it is whole, and of this machine, the engine says. */
#ifndef BROKER_TUNING_H
#define BROKER_TUNING_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "ipc/seam.h"

struct broker;

/** tuning_path() - the file beside a packed one: NAME.pack -> NAME.tune
 * @ret: room for `room` bytes. Return: 0, -EINVAL for no such name, or -ENAMETOOLONG. */
MUST_USE int tuning_path(char *ret, size_t room, const char *pack);

/** tuning_read_kept() - for a worker: what is kept beside a packed file, into SEAM_TUNING_MAX bytes
 * Return: how many; 0: nothing that can be read. */
size_t tuning_read_kept(const char *pack, uint8_t ret[SEAM_TUNING_MAX]);

/** tuning_write_kept() - for a worker: keep it. Return: 0 or a negative errno. */
MUST_USE int tuning_write_kept(const char *pack, const void *data, size_t n);

/** tunings_on_tuned() - the engine's report: note it, and let a worker keep what is new */
void tunings_on_tuned(struct broker *b, const struct seam_tuned *t);

#endif
