/* Files in, and files out, with words to the person. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/newfile.h"
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

static int refuse(const char *path, int r)
{
    train_error("%s: %s", path, newfile_why(r));
    return TRAIN_CANTCREATE;
}

int outfile_check(const char *path)
{
    const int r = newfile_check(path);

    return r == NEWFILE_OK ? TRAIN_OK : refuse(path, r);
}

/* The whole path of a file of this name, which need not be there. */
static bool resolve(const char *path, char ret[PATH_MAX])
{
    char copy[PATH_MAX], folder[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (realpath(path, ret)) {
        return true;
    }
    if (strlen(path) >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, path, strlen(path) + 1);
    if (!realpath(dirname(copy), folder)) {
        return false;
    }
    const int n = snprintf(ret, PATH_MAX, "%s/%s", folder, slash ? slash + 1 : path);
    return n > 0 && n < PATH_MAX;
}

bool outfile_same(const char *a, const char *b)
{
    char one[PATH_MAX], other[PATH_MAX];

    return resolve(a, one) && resolve(b, other) && strcmp(one, other) == 0;
}

int outfile_begin(struct newfile *f, const char *path)
{
    const int r = newfile_begin(f, path);

    return r == NEWFILE_OK ? TRAIN_OK : refuse(path, r);
}

int outfile_commit(struct newfile *f, const char *path)
{
    const int r = newfile_commit(f);

    return r < 0 ? train_errno(path, r) : r > 0 ? refuse(path, r) : TRAIN_OK;
}
