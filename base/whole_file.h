/* Small files that are read, or replaced, as a whole. Where they lie others may have had a hand in:
 * nothing here waits for a pipe, goes through a link unasked or takes more memory than it was told
 * to. */
#ifndef BASE_WHOLE_FILE_H
#define BASE_WHOLE_FILE_H

#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/compiler.h"

/* What reading can tell its caller besides "the system failed". */
enum {
    WHOLE_FILE_OK = 0,
    WHOLE_FILE_NONE,     /* it is a pipe, a device */
    WHOLE_FILE_EXPOSED,  /* it is not ours, or others may read or write it */
    WHOLE_FILE_TOO_LONG, /* it is longer than asked for */
};

/* How to read; 0: a regular file, of anybody's, and no symbolic link. */
enum {
    WHOLE_FILE_FOLLOW = 1,  /* its name may be a symbolic link: for paths that the operator gave */
    WHOLE_FILE_DEVICE = 2,  /* it may be a character device: /dev/null stands for an empty file */
    WHOLE_FILE_PRIVATE = 4, /* it has to be ours, with no permission for group and others */
};

/**
 * whole_file_read() - append a file's bytes to a buffer
 * @out:  its ceiling is the file's; unchanged where this fails, but for the room it has
 * @dir:  borrowed; a folder that a relative @path begins at, or AT_FDCWD
 * @how:  WHOLE_FILE_FOLLOW and the like
 *
 * Reads to the file's end, whatever its size was said to be: the kernel's files say 0.
 *
 * Return: WHOLE_FILE_OK, another WHOLE_FILE_*, or a negative errno (-ELOOP: it is a symbolic link;
 * -EISDIR).
 */
MUST_USE int whole_file_read(struct buf *out, int dir, const char *path, unsigned how);

/** whole_file_why() - words for what whole_file_read() returned, if not 0; valid until strerror()
 * is called again */
const char *whole_file_why(int r);

/**
 * whole_file_head() - the first bytes of a small text, such as the kernel's files are, as a string
 * @ret:  NUL-terminated, also where this fails: then it is empty
 * @room: bytes of @ret, at least 1; what does not fit is left out
 *
 * Return: the number of bytes before the NUL, or a negative errno (-EINVAL: a pipe, a device).
 */
ssize_t whole_file_head(char *ret, size_t room, int dir, const char *path, unsigned how);

/**
 * whole_file_write() - have a file hold these bytes and nothing else
 * @dir:  borrowed; the folder of both names
 * @temp: a name for while it is written. One writer at a time uses it; what is left under it by one
 *        that was interrupted goes. Untouched where it is a folder: then this fails.
 *
 * The file is this user's alone (0600). It is made under the other name, synced, renamed,
 * and the folder synced: whoever reads, also after the power went, finds the old bytes or the new,
 * never half. Where this fails the old file stands and nothing is left behind; only if the folder
 * could not be synced the new one may stand. Waits for the disk: never on a loop.
 *
 * Return: 0 or a negative errno.
 */
MUST_USE int whole_file_write(int dir, const char *name, const char *temp, const void *data,
                              size_t n);

/** folder_sync() - make what was renamed or removed in a folder durable: 0, also where the file
 * system knows no such thing, or a negative errno */
MUST_USE int folder_sync(int dir);

#endif
