/* peer: SO_PEERCRED, SO_PEERGROUPS and the cgroup.
 *
 * A pid says who connected, but the number may belong to somebody else by the time its cgroup is
 * read. So the pidfd of the peer (Linux 6.5) is asked afterwards whether that process still lives:
 * then the number was its own all the time. Older kernels have no such descriptor; there a process
 * of the same uid has to stand behind the number, or the peer has no unit. */
#include "daemon/broker/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strview.h"
#include "base/whole_file.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* the number of all machines we build for; Debian 12's headers lack it */
#endif

/* ---- the cgroup's path ---- */

static bool ends_with(struct strview s, const char *tail)
{
    const size_t n = strlen(tail);

    return s.n > n && memcmp(s.data + s.n - n, tail, n) == 0;
}

static bool is_name(struct strview s)
{
    for (size_t i = 0; i < s.n; i++) {
        const char c = s.data[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

        if (!letter && !(c >= '0' && c <= '9') && !strchr(":_.\\-@", c)) {
            return false;
        }
    }
    return s.n > 0 && s.n <= UNIT_MAX && s.data[0] != '.';
}

/* The next component of a path, or an empty one at its end. */
static struct strview component(struct strview *path)
{
    while (path->n > 0 && *path->data == '/') {
        path->data++;
        path->n--;
    }
    if (path->n == 0) { /* nor does an empty path point anywhere */
        return (struct strview){0};
    }
    const char *slash = memchr(path->data, '/', path->n);
    const struct strview c = {.data = path->data,
                              .n = slash ? (size_t)(slash - path->data) : path->n};
    path->data += c.n;
    path->n -= c.n;
    return c;
}

/* Containers of engines that make their cgroups without systemd: /docker/ID, /lxc.payload.NAME */
static void container_of_path(struct strview first, struct strview path, char ret[UNIT_MAX + 1])
{
    const struct strview id = component(&path);

    if (strview_is(first, "docker") && is_name(id) && id.n + 13 <= UNIT_MAX) {
        (void)snprintf(ret, UNIT_MAX + 1, "docker-%.*s.scope", (int)id.n, id.data);
    } else if (strview_starts(first, "lxc.payload.") && is_name(first)) {
        strview_copy(ret, UNIT_MAX + 1, first);
    }
}

/* /system.slice/ssh.service, /machine.slice/libpod-ID.scope/container, ... */
static void unit_of_path(struct strview path, char ret[UNIT_MAX + 1])
{
    struct strview c = component(&path);

    if (!ends_with(c, ".slice")) {
        container_of_path(c, path, ret);
        return;
    }
    if (strview_is(c, "user.slice")) {
        return;
    }
    while (ends_with(c, ".slice")) {
        c = component(&path);
    }
    if (is_name(c) && (ends_with(c, ".service") || ends_with(c, ".scope"))) {
        strview_copy(ret, UNIT_MAX + 1, c);
    }
}

/* "N:CONTROLLERS:PATH": of the unified hierarchy, or of systemd's in the old one; else nothing */
static struct strview path_of_line(struct strview line)
{
    static const char *const heads[] = {"::", ":name=systemd:"};
    const char *colon = line.n > 0 ? memchr(line.data, ':', line.n) : NULL;

    for (size_t i = 0; colon && i < ARRAY_SIZE(heads); i++) {
        const struct strview rest = {colon, line.n - (size_t)(colon - line.data)};
        const size_t skip = strlen(heads[i]);

        if (strview_starts(rest, heads[i])) {
            return (struct strview){rest.data + skip, rest.n - skip};
        }
    }
    return (struct strview){0};
}

void peer_unit(const char *text, size_t n, char ret[UNIT_MAX + 1])
{
    const char *end = text + n;

    ret[0] = '\0';
    for (const char *at = text; at < end && !ret[0];) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        if (!nl) {
            return; /* cut off: not a whole path */
        }
        const struct strview path = path_of_line((struct strview){at, (size_t)(nl - at)});
        unit_of_path(path, ret);
        at = nl + 1;
    }
}

/* ---- the kernel ---- */

/* Is what was read under the peer's number its own? @dir: the folder it was read from */
static bool is_its_own(int fd, int dir, uid_t uid)
{
    int pidfd = -1;
    socklen_t n = sizeof(pidfd);
    struct stat st;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &n) == 0) {
        struct pollfd p = {.fd = pidfd, .events = POLLIN}; /* readable when the process has ended */
        const bool lives = poll(&p, 1, 0) == 0;
        (void)close(pidfd);
        return lives;
    }
    /* Only a kernel without it is excused: one that has it fails for a process that is gone. */
    return errno == ENOPROTOOPT && fstat(dir, &st) == 0 && st.st_uid == uid;
}

static void read_unit(struct peer *p, int fd)
{
    char path[32], text[PEER_CGROUP_MAX];

    if (p->pid <= 0) {
        return;
    }
    (void)snprintf(path, sizeof(path), "/proc/%d", (int)p->pid);
    const int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return;
    }
    const ssize_t got = whole_file_head(text, sizeof(text), dir, "cgroup", 0);
    if (got > 0 && is_its_own(fd, dir, p->uid)) {
        peer_unit(text, (size_t)got, p->unit);
    }
    (void)close(dir);
}

int peer_read(struct peer *ret, int fd)
{
    struct ucred cred;
    socklen_t n = sizeof(cred);

    *ret = (struct peer){0};
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0) {
        return -EPERM;
    }
    *ret = (struct peer){.uid = cred.uid, .gid = cred.gid, .pid = cred.pid};
    ret->gids = calloc(POLICY_GIDS_MAX + 1, sizeof(gid_t));
    if (!ret->gids) {
        return -ENOMEM;
    }
    ret->gids[0] = cred.gid;
    n = POLICY_GIDS_MAX * sizeof(gid_t);
    ret->n_gids = 1;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, ret->gids + 1, &n) == 0) {
        ret->n_gids += n / sizeof(gid_t);
    }
    gid_t *fitting = realloc(ret->gids, ret->n_gids * sizeof(gid_t));
    if (fitting) {
        ret->gids = fitting;
    }
    read_unit(ret, fd);
    return 0;
}

void peer_deinit(struct peer *p)
{
    free(p->gids);
    *p = (struct peer){0};
}
