/* filemap: the one place that maps files for reading. */
#include "base/filemap.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fdio.h"

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

size_t filemap_tail(size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (n + page - 1) & ~(page - 1);
}

int filemap_own(struct filemap *map, int fd, size_t n)
{
    const size_t room = filemap_tail(n), bytes = room < map->size ? room : map->size;

    if (n == 0) {
        return 0;
    }
    void *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return -errno;
    }
    int r = fd_read_all_at(fd, p, bytes, 0);
    if (r == 0 && mprotect(p, room, PROT_READ) < 0) {
        r = -errno;
    }
    if (r == 0 && mremap(p, room, room, MREMAP_MAYMOVE | MREMAP_FIXED,
                         (void *)(uintptr_t)map->data) == MAP_FAILED) {
        r = -errno;
    }
    if (r < 0) {
        (void)munmap(p, room);
    }
    return r;
}

void filemap_close(struct filemap *map)
{
    if (map->data) {
        (void)munmap((void *)(uintptr_t)map->data, map->size);
    }
    *map = (struct filemap){0};
}
