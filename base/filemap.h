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
 * (the workbench, the packer) maps files it did not write.
 *
 * Return: 0, or a negative errno (-EINVAL when fd is not a regular file).
 */
MUST_USE int filemap_open(struct filemap *ret, int fd);

/** filemap_close() - unmap; a zeroed or closed map is fine */
void filemap_close(struct filemap *map);

#endif
