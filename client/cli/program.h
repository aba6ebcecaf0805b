/* The daemon's program, for what it alone knows: whether a configuration is right, where things
 * are. */
#ifndef CLIENT_CLI_PROGRAM_H
#define CLIENT_CLI_PROGRAM_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/compiler.h"

/** program_find() - onebitd beside this command, in the sbin beside its bin, or on PATH
 * @ret: malloc'ed. Return: 0, -ENOENT or -ENOMEM. */
MUST_USE int program_find(char **ret);

#define PROGRAM_SAYS_MAX ((size_t)64 << 10)

/**
 * program_run() - run it to its end and gather what it says
 * @argv:   as for execv(), argv[0] is the path
 * @system: the system's daemon is meant, whoever asks
 * @says:   initialised by the caller; gets standard output and standard error, cut at its limit
 *
 * It gets ten seconds, then it is killed.
 *
 * Return: its exit status 0..255 (128 + number when a signal ended it), or a negative errno:
 * -ETIMEDOUT when it had to be killed.
 */
MUST_USE int program_run(char *const argv[], bool system, struct buf *says);

#endif
