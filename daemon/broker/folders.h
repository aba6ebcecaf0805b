/* The folders the daemon works in: made where they may be, checked before anybody is served. */
#ifndef BROKER_FOLDERS_H
#define BROKER_FOLDERS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/compiler.h"

/**
 * folder_make() - a folder and those above it; one that is there is left as it is
 * @ret_made: was it absent?
 *
 * Return: 0 or a negative errno.
 */
MUST_USE int folder_make(const char *path, mode_t mode, bool *ret_made);

/** folder_check() - can we list this folder, and change it where @write? 0 or a negative errno;
 * -ENOTDIR when it is something else */
MUST_USE int folder_check(const char *path, bool write);

/**
 * folders_prepare() - the folders of models, packed models and sessions, made when absent and
 * checked
 * @sessions: empty: there is none
 * @socket: the folder above this path is made too; NULL: the socket was passed to us
 *
 * Return: 0 or a negative errno; the log names the folder by what it is for.
 */
MUST_USE int folders_prepare(const char *models, const char *cache, const char *sessions,
                             const char *socket);

/** folders_above() - the folder that a socket is to lie in, made when absent; failures are
 * logged */
MUST_USE int folders_above(const char *socket);

#endif
