/* The model folder as it is on disk. Blocking: called from a worker thread. */
#ifndef BROKER_SCAN_H
#define BROKER_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/compiler.h"
#include "base/strview.h"
#include "daemon/broker/config.h"

#define LISTING_MAX 1024u /* models in the folder that are seen */

/* Which version of a file: it changes with every rewrite. A program can set size and mtime to what
 * they were; ctime is the kernel's alone. */
struct file_mark {
    uint64_t dev, ino, size, mtime_ns, ctime_ns;
};

/** file_mark_of() - from fstat() */
struct file_mark file_mark_of(const struct stat *st);

struct listed_model {
    char name[MODEL_NAME_MAX + 1];
    struct file_mark mark;
};

struct model_listing {
    size_t n;
    struct listed_model models[]; /* sorted by name */
};

/** model_listing_read() - regular files NAME.gguf in `dir`: 0 or a negative errno. Free with
 * free(). */
MUST_USE int model_listing_read(struct model_listing **ret, const char *dir);

/** model_listing_find() - or NULL; a NULL listing is empty */
const struct listed_model *model_listing_find(const struct model_listing *l, struct strview name);

#endif
