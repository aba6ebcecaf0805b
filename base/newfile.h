/* A large file that appears whole or not at all: written under a temporary name beside its own,
 * synced and renamed. For files that a person names.
 *
 * A rename puts the file in the place of whatever has its name, a device node as well as a file. So
 * only a regular file is replaced; through a symbolic link, the file that it leads to, and the link
 * stays. */
#ifndef BASE_NEWFILE_H
#define BASE_NEWFILE_H

#include <limits.h>

#include "base/compiler.h"

/* Zeroed: none. Not to be moved while it is written if a signal's handler knows `temporary`. */
struct newfile {
    char target[PATH_MAX];    /* where it will be: no symbolic link */
    char temporary[PATH_MAX]; /* empty, or what the file is called meanwhile */
    int fd;                   /* owned, from begin to commit or abort */
};

/* What stands in a new file's place, besides "the system failed". */
enum {
    NEWFILE_OK = 0,
    NEWFILE_FOLDER,
    NEWFILE_DEVICE,
    NEWFILE_PIPE,
    NEWFILE_SOCKET,
    NEWFILE_DANGLING, /* a symbolic link to nothing */
};

/** newfile_check() - may a file of this name be made, as far as can be seen? For before long work.
 * Return: NEWFILE_OK, another NEWFILE_*, or a negative errno. */
MUST_USE int newfile_check(const char *path);

/** newfile_begin() - the same check, then the temporary file. Return as newfile_check(); on
 * NEWFILE_OK one of the next two is called. */
MUST_USE int newfile_begin(struct newfile *f, const char *path);

/** newfile_commit() - check again what stands there, sync the file, give it its name and the
 * permissions that a new file has, sync the folder. Closes it; where this fails nothing is left,
 * but if the folder alone could not be synced the file stands. Return as newfile_check(). */
MUST_USE int newfile_commit(struct newfile *f);
void newfile_abort(struct newfile *f);

/** newfile_why() - words for what one of these returned, if not 0; valid until strerror() is called
 * again */
const char *newfile_why(int r);

#endif
