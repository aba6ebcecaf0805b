/* Who is at the other end of a connection: what the kernel says, read once when it is accepted. */
#ifndef BROKER_PEER_H
#define BROKER_PEER_H

#include <stddef.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "daemon/broker/policy.h"

#define PEER_CGROUP_MAX 4096u /* bytes of /proc/PID/cgroup that are looked at */

struct peer {
    uid_t uid;
    gid_t gid;
    pid_t pid;   /* 0: of another pid namespace */
    gid_t *gids; /* owned: the kernel's list of its groups, its primary one first */
    size_t n_gids;
    char unit[UNIT_MAX + 1]; /* its system service or container; "": none */
};

/** peer_read() - of a connected Unix socket. 0 or a negative errno; peer_deinit() in either
 * case. */
MUST_USE int peer_read(struct peer *ret, int fd);
void peer_deinit(struct peer *p); /* a zeroed one is fine */

/**
 * peer_unit() - the system service or container that a /proc/PID/cgroup names
 * @text: its n bytes, hostile or not
 * @ret:  "ssh.service", "docker-0123abcd.scope", or "" for what is a user's session, odd, or
 *        nothing
 *
 * Whatever lies beneath user.slice is "": all of a user's terminals are one, and nobody names a
 * unit of their own there to be taken for somebody else.
 */
void peer_unit(const char *text, size_t n, char ret[UNIT_MAX + 1]);

#endif
