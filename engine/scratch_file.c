/* A folder without O_TMPFILE (some network file systems) gets a named file that loses its name at
 * once. */
#include "engine/scratch_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PART_OF_MEMORY 4u

static int in_folder(const char *dir)
{
    char path[4096];
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0) {
        return fd;
    }
    if (errno != EOPNOTSUPP && errno != EISDIR) {
        return -errno;
    }
    const int n = snprintf(path, sizeof(path), "%s/onebit-XXXXXX", dir);
    if (n < 0 || (size_t)n >= sizeof(path)) {
        return -ENAMETOOLONG;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    (void)unlink(path);
    return fd;
}

int scratch_file(uint64_t bytes)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const char *dir = getenv("TMPDIR");

    if (pages > 0 && page > 0 && bytes > (uint64_t)pages * (uint64_t)page / PART_OF_MEMORY) {
        return in_folder(dir && dir[0] ? dir : "/var/tmp");
    }
    const int fd = memfd_create("onebit", MFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}
