/* What calls when memory runs short: systemd's memory-pressure protocol, or a trigger of the
 * kernel's on the stalls of our cgroup or of the machine. */
#ifndef BROKER_MEMORY_WATCH_H
#define BROKER_MEMORY_WATCH_H

#include <stdbool.h>
#include <uv.h>

#include "daemon/broker/memory_sense.h"

struct memory_watch {
    enum memory_source source; /* SOURCE_POLL: nobody calls */
    bool forbidden; /* the service manager wants memory pressure not to be watched at all */
    bool calls;     /* poll is open */
    bool drain;     /* what can be read is a call, not what is exceptional */
    int fd;         /* owned; -1: none. Closed by the poll's close callback */
    uv_poll_t poll;
    void (*called)(void *user);
    void (*lost)(void *user); /* the sensor went away: choose another one */
    void *user;               /* borrowed */
};

/**
 * memory_watch_open() - the best of what there is
 * @own:  a memory.pressure of our own cgroup in version 2, or NULL
 * @all:  the machine's, or NULL
 * @skip: sources before this one are not tried: they have failed
 *
 * Source is SOURCE_CGROUP_PSI or SOURCE_SYSTEM_PSI also where these can only be read: then nothing
 * calls. Callbacks and user are set before.
 */
void memory_watch_open(struct memory_watch *w, uv_loop_t *loop, const char *own, const char *all,
                       enum memory_source skip);

/** memory_watch_close() - harmless when it is not open */
void memory_watch_close(struct memory_watch *w);

#endif
