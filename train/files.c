/* Files in, and files out that appear whole or not at all.
 *
 * A rename puts the file in the place of whatever has its name, a device node as well as a file. So
 * only a regular file is replaced; through a symbolic link, the file that it leads to. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fdio.h"
#include "base/whole_file.h"
#include "train/train.h"

int train_open(const char *path, int *ret_fd)
{
    struct stat st;
    /* O_NONBLOCK: a named pipe must not hold us up before we have seen that it is one. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return train_errno(path, -errno);
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        train_error("%s: not a regular file", path);
        (void)close(fd);
        return TRAIN_NOINPUT;
    }
    *ret_fd = fd;
    return TRAIN_OK;
}

int train_read(const char *path, struct buf *ret)
{
    const int r = whole_file_read(ret, AT_FDCWD, path, WHOLE_FILE_FOLLOW);

    if (r == 0) {
        return TRAIN_OK;
    }
    if (r == WHOLE_FILE_TOO_LONG) {
        train_error("%s: more than %zu bytes", path, ret->max);
        return TRAIN_DATA;
    }
    if (r > 0) {
        train_error("%s: %s", path, whole_file_why(r));
        return TRAIN_NOINPUT;
    }
    return train_errno(path, r);
}

/* Where a file of this name will be. */
static int resolve(const char *path, char target[PATH_MAX])
{
    struct stat st;

    if (stat(path, &st) == 0) {
        if (!S_ISREG(st.st_mode)) {
            train_error("%s: is no regular file, and only such a one is replaced", path);
            return TRAIN_CANTCREATE;
        }
        if (realpath(path, target)) {
            return TRAIN_OK;
        }
    } else if (errno == ENOENT) {
        if (lstat(path, &st) == 0) {
            train_error("%s: is a link to nothing; name the file itself", path);
            return TRAIN_CANTCREATE;
        }
        const int n = snprintf(target, PATH_MAX, "%s", path);
        if (n > 0 && n < PATH_MAX) {
            return TRAIN_OK;
        }
        errno = n == 0 ? ENOENT : ENAMETOOLONG;
    }
    train_error("%s: %s", path, strerror(errno));
    return TRAIN_CANTCREATE;
}

int outfile_check(const char *path)
{
    char target[PATH_MAX], folder[PATH_MAX];
    const int r = resolve(path, target);

    if (r != TRAIN_OK) {
        return r;
    }
    (void)snprintf(folder, sizeof(folder), "%s", target);
    if (access(dirname(folder), W_OK) < 0) {
        train_error("%s: %s", path, strerror(errno));
        return TRAIN_CANTCREATE;
    }
    return TRAIN_OK;
}

int outfile_begin(struct outfile *f, const char *path)
{
    const int r = resolve(path, f->target);

    if (r != TRAIN_OK) {
        return r;
    }
    const int n = snprintf(f->temporary, sizeof(f->temporary), "%s.XXXXXX", f->target);
    if (n < 0 || (size_t)n >= sizeof(f->temporary)) {
        train_error("%s: %s", path, strerror(ENAMETOOLONG));
        return TRAIN_CANTCREATE;
    }
    f->fd = mkostemp(f->temporary, O_CLOEXEC);
    if (f->fd < 0) {
        train_error("%s: %s", path, strerror(errno));
        return TRAIN_CANTCREATE;
    }
    return TRAIN_OK;
}

/* Make the new name itself durable. */
static int sync_folder(const char *target)
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

int outfile_commit(struct outfile *f, const char *path)
{
    const mode_t mask = umask(0);
    int r = 0;

    (void)umask(mask);
    if (fchmod(f->fd, 0666 & ~mask) < 0 || fsync(f->fd) < 0 ||
        rename(f->temporary, f->target) < 0) {
        r = -errno;
        (void)unlink(f->temporary);
    } else {
        r = sync_folder(f->target);
    }
    (void)close(f->fd);
    f->fd = -1;
    return r < 0 ? train_errno(path, r) : TRAIN_OK;
}

void outfile_abort(struct outfile *f)
{
    (void)unlink(f->temporary);
    (void)close(f->fd);
    f->fd = -1;
}
