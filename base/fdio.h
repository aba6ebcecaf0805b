/* All of the bytes, or why not: read() and write() may do a part, or be interrupted. For files; on
 * a descriptor that does not block, -EAGAIN comes back with a part done. */
#ifndef BASE_FDIO_H
#define BASE_FDIO_H

#include <stddef.h>
#include <sys/types.h>

#include "base/compiler.h"

/** fd_read_some() - one read() that a signal does not end: bytes, 0 at the end, a negative errno */
MUST_USE ssize_t fd_read_some(int fd, void *to, size_t n);

/** fd_write_all() - n bytes where the descriptor stands: 0 or a negative errno */
MUST_USE int fd_write_all(int fd, const void *data, size_t n);

/** fd_write_all_at() - n bytes from offset @at on; the descriptor stays where it stands */
MUST_USE int fd_write_all_at(int fd, const void *data, size_t n, off_t at);

/** fd_read_all_at() - likewise: 0, -EIO where the file ends before, or another negative errno */
MUST_USE int fd_read_all_at(int fd, void *to, size_t n, off_t at);

#endif
