#include "base/newfile.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/whole_file.h"

/* NEWFILE_OK: a file, which may be replaced. */
static int kind_of(mode_t mode)
{
    return S_ISREG(mode)    ? NEWFILE_OK
           : S_ISDIR(mode)  ? NEWFILE_FOLDER
           : S_ISFIFO(mode) ? NEWFILE_PIPE
           : S_ISSOCK(mode) ? NEWFILE_SOCKET
           : S_ISLNK(mode)  ? NEWFILE_DANGLING
                            : NEWFILE_DEVICE;
}

/* Where a file of this name will be. */
static int resolve(const char *path, char target[PATH_MAX])
{
    struct stat st;

    if (stat(path, &st) == 0) {
        const int r = kind_of(st.st_mode);
        return r != NEWFILE_OK || realpath(path, target) ? r : -errno;
    }
    if (errno != ENOENT) {
        return -errno;
    }
    if (lstat(path, &st) == 0) {
        return NEWFILE_DANGLING;
    }
    const int n = snprintf(target, PATH_MAX, "%s", path);
    return n == 0 ? -ENOENT : n < PATH_MAX ? NEWFILE_OK : -ENAMETOOLONG;
}

int newfile_check(const char *path)
{
    char target[PATH_MAX];
    const int r = resolve(path, target);

    return r == NEWFILE_OK && access(dirname(target), W_OK) < 0 ? -errno : r;
}

int newfile_begin(struct newfile *f, const char *path)
{
    const int r = resolve(path, f->target);

    if (r != NEWFILE_OK) {
        return r;
    }
    const int n = snprintf(f->temporary, sizeof(f->temporary), "%s.XXXXXX", f->target);
    if (n < 0 || (size_t)n >= sizeof(f->temporary)) {
        return -ENAMETOOLONG;
    }
    f->fd = mkostemp(f->temporary, O_CLOEXEC);
    return f->fd < 0 ? -errno : NEWFILE_OK;
}

/* Make the new name itself durable. */
static int sync_folder(char *target)
{
    const int fd = open(dirname(target), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    const int r = folder_sync(fd);
    (void)close(fd);
    return r;
}

/* Up to the rename. */
static int finish(struct newfile *f)
{
    const mode_t mask = umask(0);
    struct stat st;

    (void)umask(mask);
    if (lstat(f->target, &st) == 0 && !S_ISREG(st.st_mode)) {
        return kind_of(st.st_mode); /* something else came to stand there while we wrote */
    }
    return fchmod(f->fd, 0666 & ~mask) < 0 || fsync(f->fd) < 0 ||
                   rename(f->temporary, f->target) < 0
               ? -errno
               : NEWFILE_OK;
}

int newfile_commit(struct newfile *f)
{
    const int r = finish(f);

    if (r != NEWFILE_OK) {
        newfile_abort(f);
        return r;
    }
    (void)close(f->fd);
    f->fd = -1;
    return sync_folder(f->target);
}

void newfile_abort(struct newfile *f)
{
    (void)unlink(f->temporary);
    (void)close(f->fd);
    f->fd = -1;
}

const char *newfile_why(int r)
{
    static const char *const words[] = {
        [NEWFILE_FOLDER] = "is a folder, and only a file is replaced; name another",
        [NEWFILE_DEVICE] = "is a device, and only a file is replaced; name another",
        [NEWFILE_PIPE] = "is a pipe, and only a file is replaced; name another",
        [NEWFILE_SOCKET] = "is a socket, and only a file is replaced; name another",
        [NEWFILE_DANGLING] = "is a link to nothing; name the file itself",
    };

    return r < 0 ? strerror(-r) : words[r];
}
