/* What the processes that meet untrusted bytes give up: every file that is not open yet, the
 * network, other programs, other processes. Both halves are best effort, because kernels differ: a
 * process that cannot be confined works as it did. */
#ifndef DAEMON_RUNNER_CONFINE_H
#define DAEMON_RUNNER_CONFINE_H

#include "base/compiler.h"

enum confine_role {
    CONFINE_ENGINE = 1, /* threads, and the seam's socket */
    CONFINE_PACKER = 2, /* two files, one thread */
};

/**
 * confine_files() - Landlock without a rule: no path can be opened, made, removed or run any more
 *
 * Where the kernel knows these, too: no TCP, no abstract Unix socket, no signal to others. Holds
 * for the calling thread and those that it starts from here on; so call it before the first.
 * Descriptors that are open, or come over a socket, stay as good as they were.
 *
 * Return: 0; a negative errno when nothing has changed (-ENOSYS, -EOPNOTSUPP: there is none here).
 */
MUST_USE int confine_files(void);

/**
 * confine_calls() - a seccomp filter: what confine_calls.c lists for the role, and nothing else
 *
 * Holds for all threads, started and to be started. It cannot be undone.
 * Return: 0; a negative errno when nothing has changed (-EINVAL, -ENOSYS: this kernel has none).
 */
MUST_USE int confine_calls(enum confine_role role);

/**
 * confine() - both, files first
 *
 * In builds with a sanitizer it does nothing: their runtime opens files and traces processes.
 * Return: what is in force, for people: "seccomp+landlock", "seccomp", "landlock" or "none".
 * Static.
 */
const char *confine(enum confine_role role);

#endif
