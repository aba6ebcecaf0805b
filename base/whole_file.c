/* whole_file: what a name leads to is judged by the descriptor, never by the name, so nobody can
 * put something else there in between. */
#include "base/whole_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fdio.h"

/* ---- reading ---- */

static int judge(const struct stat *st, unsigned how)
{
    if (S_ISDIR(st->st_mode)) {
        return -EISDIR;
    }
    if (!S_ISREG(st->st_mode) && !((how & WHOLE_FILE_DEVICE) && S_ISCHR(st->st_mode))) {
        return WHOLE_FILE_NONE;
    }
    if ((how & WHOLE_FILE_PRIVATE) && (st->st_uid != geteuid() || (st->st_mode & 077) != 0)) {
        return WHOLE_FILE_EXPOSED;
    }
    return WHOLE_FILE_OK;
}

/* A descriptor of something that may be read: WHOLE_FILE_OK, another, or a negative errno. */
static int open_judged(int *ret_fd, struct stat *ret_st, int dir, const char *path, unsigned how)
{
    /* O_NONBLOCK: a pipe must not hold us up before it is seen to be one. */
    const int fd = openat(dir, path,
                          O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC |
                              (how & WHOLE_FILE_FOLLOW ? 0 : O_NOFOLLOW));

    if (fd < 0) {
        return -errno;
    }
    const int r = fstat(fd, ret_st) < 0 ? -errno : judge(ret_st, how);
    if (r != WHOLE_FILE_OK) {
        (void)close(fd);
        return r;
    }
    *ret_fd = fd;
    return WHOLE_FILE_OK;
}

static int read_to_end(struct buf *out, int fd)
{
    for (;;) {
        uint8_t beyond;
        const bool full = out->n == out->max;
        const int r = full ? 0 : buf_reserve(out, 1);
        if (r < 0) {
            return r;
        }
        const ssize_t got = full ? fd_read_some(fd, &beyond, 1)
                                 : fd_read_some(fd, out->data + out->n, out->room - out->n);
        if (got <= 0) {
            return (int)got;
        }
        if (full) {
            return WHOLE_FILE_TOO_LONG;
        }
        out->n += (size_t)got;
    }
}

int whole_file_read(struct buf *out, int dir, const char *path, unsigned how)
{
    const size_t had = out->n;
    struct stat st;
    int fd;
    int r = open_judged(&fd, &st, dir, path, how);

    if (r != WHOLE_FILE_OK) {
        return r;
    }
    if (st.st_size > 0 && (uint64_t)st.st_size > out->max - out->n) {
        r = WHOLE_FILE_TOO_LONG; /* before a byte is taken for it */
    } else if (st.st_size > 0) {
        r = buf_reserve(out, (size_t)st.st_size);
    }
    if (r == 0) {
        r = read_to_end(out, fd);
    }
    if (r != WHOLE_FILE_OK) {
        out->n = had;
    }
    (void)close(fd);
    return r;
}

const char *whole_file_why(int r)
{
    return r == WHOLE_FILE_NONE       ? "it is no regular file"
           : r == WHOLE_FILE_EXPOSED  ? "others can read or write it"
           : r == WHOLE_FILE_TOO_LONG ? "it is too long"
                                      : strerror(-r);
}

ssize_t whole_file_head(char *ret, size_t room, int dir, const char *path, unsigned how)
{
    struct stat st;
    size_t n = 0;
    int fd;

    assert(room > 0);
    ret[0] = '\0';
    const int r = open_judged(&fd, &st, dir, path, how);
    if (r != WHOLE_FILE_OK) {
        return r < 0 ? r : -EINVAL;
    }
    ssize_t got = 1;
    while (got > 0 && n + 1 < room) {
        got = fd_read_some(fd, ret + n, room - 1 - n);
        n += got > 0 ? (size_t)got : 0;
    }
    (void)close(fd);
    ret[got < 0 ? 0 : n] = '\0';
    return got < 0 ? got : (ssize_t)n;
}

/* ---- writing ---- */

int folder_sync(int dir)
{
    /* EINVAL: this file system keeps no order that a sync could ask for. */
    return fsync(dir) < 0 && errno != EINVAL ? -errno : 0;
}

int whole_file_write(int dir, const char *name, const char *temp, const void *data, size_t n)
{
    (void)unlinkat(dir, temp, 0); /* of a write that was interrupted */
    const int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    int r = fd_write_all(fd, data, n);
    if (r == 0 && fsync(fd) < 0) {
        r = -errno;
    }
    (void)close(fd);
    if (r == 0 && renameat(dir, temp, dir, name) < 0) {
        r = -errno;
    }
    if (r < 0) {
        (void)unlinkat(dir, temp, 0);
        return r;
    }
    return folder_sync(dir);
}
