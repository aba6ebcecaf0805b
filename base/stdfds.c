/* A path descriptor of "/" holds a missing number: reading and writing it fail with EBADF, as on
 * the closed descriptor, and it is there even where /dev is not. */
#include "base/stdfds.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int stdfds_reserve(void)
{
    for (int want = STDIN_FILENO; want <= STDERR_FILENO; want++) {
        if (fcntl(want, F_GETFD) >= 0) {
            continue;
        }
        /* The lowest free number, which is this one: those below are taken. */
        if (open("/", O_PATH) != want) {
            return errno ? -errno : -EBADF;
        }
    }
    return 0;
}

bool stdfds_out_writable(void)
{
    const int flags = fcntl(STDOUT_FILENO, F_GETFL);

    return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}
