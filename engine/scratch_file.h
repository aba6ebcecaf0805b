/* A file without a name, for what is computed on the way. */
#ifndef ENGINE_SCRATCH_FILE_H
#define ENGINE_SCRATCH_FILE_H

#include <stdint.h>

#include "base/compiler.h"

/**
 * scratch_file() - an empty file that is gone when its last descriptor and mapping are
 * @bytes: about how much will be written
 *
 * In memory while that is little for this machine, at most a quarter of all; else on disk, in
 * $TMPDIR or /var/tmp, because memory that the system can write nowhere would take the machine
 * down.
 *
 * Return: a descriptor of the caller's or a negative errno.
 */
MUST_USE int scratch_file(uint64_t bytes);

#endif
