/* What the parts of `onebit doctor` share: findings, each with a verdict and a remedy. */
#ifndef CLIENT_CLI_DOCTOR_H
#define CLIENT_CLI_DOCTOR_H

#include <stdbool.h>
#include <sys/types.h>

#include "client/cli/cli.h"
#include "client/cli/probe.h"

enum verdict { DOCTOR_OK, DOCTOR_WARN, DOCTOR_BAD };

struct doctor {
    const struct args *args; /* borrowed */
    struct probe probe;
    json_t *findings; /* owned; array of {check, verdict, says, fix} */
    unsigned n_warn, n_bad;
    bool failed; /* no memory for a finding */

    char socket[ONEBIT_SOCKET_PATH_MAX];
    bool system;                     /* the system's daemon, not a user's own */
    char *models, *cache, *sessions; /* owned or NULL: the folders that the daemon uses */
    char *default_model;   /* owned or NULL: which the daemon says answers unnamed requests */
    json_t *status, *list; /* owned or NULL: what the daemon answered */
    pid_t pid;             /* the daemon's; 0: not known */
};

/**
 * doctor_find() - add a finding
 * @check: its stable name
 * @fix:   what to do, for whoever wants more than ok; NULL: nothing
 */
void doctor_find(struct doctor *d, const char *check, enum verdict verdict, const char *fix,
                 const char *fmt, ...) PRINTF_LIKE(5, 6);

/** doctor_daemon() - the socket, who may use it, the daemon, its configuration, models and
 * folders */
void doctor_daemon(struct doctor *d);

/** doctor_folders() - of the cache and of sessions, and their disks */
void doctor_folders(struct doctor *d);

/** doctor_models() - their folder: its disk, and who may change what lies there */
void doctor_models(struct doctor *d);

/** doctor_removable() - does the disk with this number say that it can be taken out? */
bool doctor_removable(const struct doctor *d, dev_t dev);

/** doctor_kernel() - triggers on memory pressure, promises of memory, what confines the engine */
void doctor_kernel(struct doctor *d);

/** doctor_boot_fix() - where words of the kernel's command line go on this machine, and what to do
 * then; into ret, cut at n bytes */
void doctor_boot_fix(const struct doctor *d, const char *words, char *ret, size_t n);

/** doctor_machine() - processor, kernel, memory, heat */
void doctor_machine(struct doctor *d);

#endif
