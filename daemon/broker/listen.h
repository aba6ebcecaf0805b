/* The daemon's own listening socket: made whole, taken over from the dead, never from the
 * living. */
#ifndef BROKER_LISTEN_H
#define BROKER_LISTEN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"

#define LISTEN_PATH_MAX 96u  /* bytes of a path we can listen at */
#define LISTEN_NAME_MAX 128u /* bytes of what listen_name() writes, its NUL included */

struct listen_socket {
    int fd;          /* -1: none, or handed on */
    int lock;        /* owned; -1 or another negative number: none */
    char *lock_path; /* owned */
    char *path;      /* owned; NULL: not ours to remove */
    dev_t dev;       /* of the file that we made */
    ino_t ino;
};

/**
 * listen_open() - a listening Unix socket at @path
 * @group: or NULL
 *
 * It appears under its name only when it listens, with its mode and group. A lock file beside it
 * keeps two daemons apart; a socket that nobody answers is replaced.
 *
 * Return: 0, -EADDRINUSE (a daemon is there), -ENAMETOOLONG (past LISTEN_PATH_MAX), -EEXIST (what
 * is there is no socket), -ENOENT (no such group), or another negative errno. listen_close() in
 * either case: a failed start leaves nothing behind.
 */
MUST_USE int listen_open(struct listen_socket *ret, const char *path, mode_t mode,
                         const char *group);

/** listen_name() - the name of a Unix socket for people: its path, "@name", or words */
void listen_name(int fd, char ret[LISTEN_NAME_MAX]);

/** listen_close() - remove what listen_open() made. The descriptor is the caller's when fd is
 * -1. */
void listen_close(struct listen_socket *l);

#endif
