/* listen: a socket under a temporary name, then renamed, so that nobody ever meets one that does
 * not listen yet or has the wrong mode. */
#include "daemon/broker/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128
#define TEMP_ROOM 11 /* "." and a process id: what is made beside the path has a longer name */

_Static_assert(LISTEN_PATH_MAX + TEMP_ROOM < sizeof(((struct sockaddr_un *)0)->sun_path),
               "the temporary name must fit");

static int address_of(struct sockaddr_un *ret, const char *path)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(ret->sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(ret->sun_path, path, strlen(path) + 1);
    return 0;
}

/* The lock is on a file that its holder removes at its end: what we locked must still be there. */
static int take_lock(const char *path)
{
    struct stat ours, there;

    for (int tries = 0; tries < 8; tries++) {
        const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) {
            return -errno;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            const int e = errno;
            (void)close(fd);
            return e == EWOULDBLOCK ? -EADDRINUSE : -e;
        }
        if (fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino &&
            ours.st_dev == there.st_dev) {
            return fd;
        }
        (void)close(fd);
    }
    return -EADDRINUSE;
}

/* Can a socket be there at all? 0, -ENAMETOOLONG, -EEXIST (there is another kind of file). */
static int check_path(const char *path)
{
    struct stat st;

    if (strlen(path) > LISTEN_PATH_MAX) {
        return -ENAMETOOLONG;
    }
    if (lstat(path, &st) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    return S_ISSOCK(st.st_mode) ? 0 : -EEXIST;
}

/* 0: nobody is there; -EADDRINUSE; or as check_path(). */
static int check_vacant(const char *path)
{
    struct sockaddr_un address;
    int r = check_path(path);

    if (r < 0 || (r = address_of(&address, path)) < 0) {
        return r;
    }
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    r = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
    (void)close(fd);
    return r == ECONNREFUSED || r == ENOENT ? 0 : -EADDRINUSE; /* EAGAIN: a full backlog is alive */
}

static int bind_at(int fd, const char *path, mode_t mode, const char *group)
{
    struct sockaddr_un address;
    gid_t gid = (gid_t)-1;
    int r = address_of(&address, path);

    if (r < 0) {
        return r;
    }
    if (group) {
        const struct group *g = getgrnam(group);
        if (!g) {
            return -ENOENT;
        }
        gid = g->gr_gid;
    }
    (void)unlink(path);
    const mode_t mask = umask(0777);
    r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    (void)umask(mask);
    if (r == 0 && ((group && chown(path, (uid_t)-1, gid) < 0) || chmod(path, mode) < 0 ||
                   listen(fd, BACKLOG) < 0)) {
        r = -errno;
    }
    return r;
}

static int make(struct listen_socket *l, const char *path, mode_t mode, const char *group)
{
    char *temp = NULL;
    struct stat st;

    if (asprintf(&temp, "%s.%d", path, (int)getpid()) < 0) {
        return -ENOMEM;
    }
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r = l->fd < 0 ? -errno : bind_at(l->fd, temp, mode, group);
    if (r == 0 && (lstat(temp, &st) < 0 || rename(temp, path) < 0)) {
        r = -errno;
    }
    if (r < 0) {
        (void)unlink(temp);
    } else {
        l->dev = st.st_dev;
        l->ino = st.st_ino;
        l->path = strdup(path);
        r = l->path ? 0 : -ENOMEM;
    }
    free(temp);
    return r;
}

int listen_open(struct listen_socket *ret, const char *path, mode_t mode, const char *group)
{
    *ret = (struct listen_socket){.fd = -1, .lock = -1};

    int r = check_path(path);
    if (r < 0) {
        return r;
    }
    if (asprintf(&ret->lock_path, "%s.lock", path) < 0) {
        ret->lock_path = NULL;
        return -ENOMEM;
    }
    ret->lock = take_lock(ret->lock_path);
    if (ret->lock < 0) {
        return ret->lock;
    }
    r = check_vacant(path);
    return r < 0 ? r : make(ret, path, mode, group);
}

void listen_name(int fd, char ret[LISTEN_NAME_MAX])
{
    struct sockaddr_un address = {0};
    socklen_t n = sizeof(address);

    ret[0] = '\0';
    if (getsockname(fd, (struct sockaddr *)&address, &n) == 0 && address.sun_family == AF_UNIX &&
        n > offsetof(struct sockaddr_un, sun_path)) {
        const size_t n_path = n - offsetof(struct sockaddr_un, sun_path);
        const bool abstract = address.sun_path[0] == '\0';
        (void)snprintf(ret, LISTEN_NAME_MAX, "%s%.*s", abstract ? "@" : "",
                       (int)(n_path - abstract), address.sun_path + abstract);
    }
    if (!ret[0]) {
        (void)snprintf(ret, LISTEN_NAME_MAX, "a socket without a name");
    }
}

void listen_close(struct listen_socket *l)
{
    struct stat st;

    if (l->fd >= 0) {
        (void)close(l->fd);
    }
    if (l->path && lstat(l->path, &st) == 0 && st.st_ino == l->ino && st.st_dev == l->dev) {
        (void)unlink(l->path);
    }
    if (l->lock >= 0) {
        (void)unlink(l->lock_path); /* while we hold it */
        (void)close(l->lock);
    }
    free(l->lock_path);
    free(l->path);
    *l = (struct listen_socket){.fd = -1, .lock = -1};
}
