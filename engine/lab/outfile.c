/* A file that appears whole or not at all: it is written under a temporary name beside its own, synced
 * and renamed, and removed when a signal ends us before. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/lab/lab.h"

static char temporary[PATH_MAX]; /* for the handler; one output file a process */

static void on_signal(int number)
{
    (void)unlink(temporary);
    _exit(128 + number);
}

static int create(const char *path, int *ret_fd)
{
    const int n = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
    const struct sigaction action = {.sa_handler = on_signal};

    if (n < 0 || (size_t)n >= sizeof(temporary)) {
        return -ENAMETOOLONG;
    }
    (void)sigaction(SIGINT, &action, NULL); /* before the file is there */
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    const int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    *ret_fd = fd;
    return 0;
}

/* Make the new name itself durable. */
static int sync_folder(const char *path)
{
    char copy[PATH_MAX];

    (void)snprintf(copy, sizeof(copy), "%s", path);
    const int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    const int r = fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
    (void)close(fd);
    return r;
}

static int finish(int fd, const char *path)
{
    const mode_t mask = umask(0);
    (void)umask(mask);

    if (fchmod(fd, 0666 & ~mask) < 0 || fsync(fd) < 0) {
        return -errno;
    }
    if (rename(temporary, path) < 0) {
        return -errno;
    }
    return sync_folder(path);
}

int outfile_begin(const char *path, int *ret_fd)
{
    const int r = create(path, ret_fd);

    if (r < 0) {
        lab_error("%s: %s", path, strerror(-r));
        return LAB_CANTCREATE;
    }
    return LAB_OK;
}

int outfile_commit(const char *path, int fd)
{
    const int r = finish(fd, path);

    if (r < 0) {
        (void)unlink(temporary);
    }
    (void)close(fd);
    return r < 0 ? lab_errno(path, r) : LAB_OK;
}

void outfile_abort(int fd)
{
    (void)unlink(temporary);
    (void)close(fd);
}
