/* filemap: the one place that maps files for reading. */
#include "base/filemap.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

int filemap_open(struct filemap *ret, int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return -EINVAL;
    }
    if (st.st_size == 0) {
        *ret = (struct filemap){0};
        return 0;
    }
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        return -errno;
    }
    *ret = (struct filemap){.data = p, .size = (size_t)st.st_size};
    return 0;
}

void filemap_close(struct filemap *map)
{
    if (map->data) {
        (void)munmap((void *)(uintptr_t)map->data, map->size);
    }
    *map = (struct filemap){0};
}
