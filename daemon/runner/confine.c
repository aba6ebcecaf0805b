/* Landlock by call numbers: the headers of the systems this is built on are older than the kernels
 * it runs on. Each version of the interface has more that can be denied; all that is known here and
 * there is. */
#include "daemon/runner/confine.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444 /* the same on every machine */
#define SYS_landlock_restrict_self 446
#endif
#define GET_VERSION 1u

/* struct landlock_ruleset_attr of version 6; older kernels take its beginning. */
struct ruleset {
    uint64_t files;  /* LANDLOCK_ACCESS_FS_*: 13 from version 1, refer, truncate, ioctl_dev */
    uint64_t net;    /* version 4: bind and connect of TCP */
    uint64_t scoped; /* version 6: abstract Unix sockets, signals */
};

static struct ruleset everything(long version, size_t *ret_size)
{
    struct ruleset r = {.files = (UINT64_C(1) << 13) - 1};

    *ret_size = offsetof(struct ruleset, net);
    if (version >= 2) {
        r.files |= UINT64_C(1) << 13;
    }
    if (version >= 3) {
        r.files |= UINT64_C(1) << 14;
    }
    if (version >= 4) {
        r.net = 3;
        *ret_size = offsetof(struct ruleset, scoped);
    }
    if (version >= 5) {
        r.files |= UINT64_C(1) << 15;
    }
    if (version >= 6) {
        r.scoped = 3;
        *ret_size = sizeof(r);
    }
    return r;
}

int confine_files(void)
{
    const long version = syscall(SYS_landlock_create_ruleset, NULL, 0, GET_VERSION);
    size_t size;

    if (version < 0) {
        return -errno;
    }
    const struct ruleset all = everything(version, &size);
    const long fd = syscall(SYS_landlock_create_ruleset, &all, size, 0);
    if (fd < 0) {
        return -errno;
    }
    int r = 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_landlock_restrict_self, (int)fd, 0) < 0) {
        r = -errno;
    }
    (void)close((int)fd);
    return r;
}

const char *confine(enum confine_role role)
{
#ifdef CONFINE_OFF
    (void)role;
    return "none";
#else
    const bool files = confine_files() == 0;
    const bool calls = confine_calls(role) == 0;

    if (calls) {
        return files ? "seccomp+landlock" : "seccomp";
    }
    return files ? "landlock" : "none";
#endif
}
