/* A file that appears whole or not at all: it is written under a temporary name beside its own,
 * synced and renamed, and removed when a signal ends us before.
 *
 * A rename puts the file in the place of whatever has its name, a device node as well as a file. So
 * only a regular file is replaced; through a symbolic link, the file that it leads to, and the link
 * stays. */
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

#include "base/whole_file.h"
#include "engine/lab/lab.h"

static char target[PATH_MAX];    /* where the file will be: no symbolic link */
static char temporary[PATH_MAX]; /* for the handler; one output file a process */

static void on_signal(int number)
{
    (void)unlink(temporary);
    _exit(128 + number);
}

static const char *kind_of(mode_t mode)
{
    return S_ISDIR(mode)    ? "a folder"
           : S_ISCHR(mode)  ? "a device"
           : S_ISBLK(mode)  ? "a device"
           : S_ISFIFO(mode) ? "a pipe"
           : S_ISSOCK(mode) ? "a socket"
                            : "a link";
}

static int refuse(const char *path, mode_t mode)
{
    lab_error("%s: is %s, and only a file is replaced; name another", path, kind_of(mode));
    return LAB_CANTCREATE;
}

/* Where a file of this name will be, into `target`. */
static int resolve(const char *path)
{
    struct stat st;

    if (stat(path, &st) == 0) {
        if (!S_ISREG(st.st_mode)) {
            return refuse(path, st.st_mode);
        }
        if (realpath(path, target)) {
            return LAB_OK;
        }
    } else if (errno == ENOENT) {
        if (lstat(path, &st) == 0) {
            lab_error("%s: is a link to nothing; name the file itself", path);
            return LAB_CANTCREATE;
        }
        const int n = snprintf(target, sizeof(target), "%s", path);
        if (n > 0 && (size_t)n < sizeof(target)) {
            return LAB_OK;
        }
        errno = n == 0 ? ENOENT : ENAMETOOLONG;
    }
    lab_error("%s: %s", path, strerror(errno));
    return LAB_CANTCREATE;
}

static int create(int *ret_fd)
{
    const int n = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", target);
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
static int sync_folder(void)
{
    char copy[PATH_MAX];

    (void)snprintf(copy, sizeof(copy), "%s", target);
    const int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    const int r = folder_sync(fd);
    (void)close(fd);
    return r;
}

/* Has something else come to stand there while we wrote? */
static int check_again(const char *path)
{
    struct stat st;

    return lstat(target, &st) == 0 && !S_ISREG(st.st_mode) ? refuse(path, st.st_mode) : LAB_OK;
}

static int finish(int fd)
{
    const mode_t mask = umask(0);
    (void)umask(mask);

    if (fchmod(fd, 0666 & ~mask) < 0 || fsync(fd) < 0) {
        return -errno;
    }
    if (rename(temporary, target) < 0) {
        return -errno;
    }
    return sync_folder();
}

int outfile_check(const char *path)
{
    return resolve(path);
}

int outfile_not_input(const char *path, int fd_in)
{
    struct stat a, b;

    if (fstat(fd_in, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino) {
        lab_error("%s: is the input too", path);
        return LAB_USAGE;
    }
    return LAB_OK;
}

int outfile_begin(const char *path, int *ret_fd)
{
    int r = resolve(path);

    if (r != LAB_OK) {
        return r;
    }
    r = create(ret_fd);
    if (r < 0) {
        lab_error("%s: %s", path, strerror(-r));
        return LAB_CANTCREATE;
    }
    return LAB_OK;
}

int outfile_commit(const char *path, int fd)
{
    int r = check_again(path);

    if (r == LAB_OK && (r = finish(fd)) < 0) {
        r = lab_errno(path, r);
    }
    if (r != LAB_OK) {
        (void)unlink(temporary);
    }
    (void)close(fd);
    return r;
}

void outfile_abort(int fd)
{
    (void)unlink(temporary);
    (void)close(fd);
}
