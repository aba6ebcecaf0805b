/* A file mapped read-only, whole. */
#ifndef BASE_FILEMAP_H
#define BASE_FILEMAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

struct filemap {
    const uint8_t *data; /* owned mapping; NULL when empty or unmapped */
    size_t size;         /* bytes */
};

/**
 * filemap_open() - map a regular file
 * @ret: written only on success; undo with filemap_close()
 * @fd:  readable. Borrowed: the caller may close it on return.
 *
 * A file that another process truncates later raises SIGBUS on access: only a process that may die
 * (the workbench, the packer) maps files without a guard.
 *
 * Return: 0, or a negative errno (-EINVAL when fd is not a regular file).
 */
MUST_USE int filemap_open(struct filemap *ret, int fd);

/**
 * filemap_own() - the first bytes are read from the file once, and are ours from here on
 * @fd: of the file that is mapped. Borrowed.
 * @n:  at most map->size; as memory comes in pages, some bytes more are taken along
 *
 * They stay where they are mapped. Whatever befalls the file, reading them is safe, and they are
 * the same at every look.
 * Return: 0, or a negative errno (-EIO where the file has become shorter); the map is as it was.
 */
MUST_USE int filemap_own(struct filemap *map, int fd, size_t n);

/** filemap_tail() - where what filemap_own() left to the file begins: in bytes from the start */
size_t filemap_tail(size_t n);

/** filemap_close() - unmap; a zeroed or closed map is fine */
void filemap_close(struct filemap *map);

#endif
