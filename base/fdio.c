/* fdio: one loop for each direction; what makes no progress and has no reason is an -EIO. */
#include "base/fdio.h"

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

ssize_t fd_read_some(int fd, void *to, size_t n)
{
    ssize_t got;

    do {
        got = read(fd, to, n);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

/* After one call that moved `done` bytes: 0 to go on, or a negative errno. */
static int judge(ssize_t done)
{
    if (done < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    return done == 0 ? -EIO : 0;
}

int fd_write_all(int fd, const void *data, size_t n)
{
    const uint8_t *p = data;
    int r = 0;

    while (r == 0 && n > 0) {
        const ssize_t done = write(fd, p, n);
        r = judge(done);
        p += done > 0 ? done : 0;
        n -= done > 0 ? (size_t)done : 0;
    }
    return r;
}

int fd_write_all_at(int fd, const void *data, size_t n, off_t at)
{
    const uint8_t *p = data;
    int r = 0;

    for (size_t i = 0; r == 0 && i < n;) {
        const ssize_t done = pwrite(fd, p + i, n - i, at + (off_t)i);
        r = judge(done);
        i += done > 0 ? (size_t)done : 0;
    }
    return r;
}

int fd_read_all_at(int fd, void *to, size_t n, off_t at)
{
    uint8_t *p = to;
    int r = 0;

    for (size_t i = 0; r == 0 && i < n;) {
        const ssize_t done = pread(fd, p + i, n - i, at + (off_t)i);
        r = judge(done);
        i += done > 0 ? (size_t)done : 0;
    }
    return r;
}
