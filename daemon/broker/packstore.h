/* The files behind a model: its GGUF, its packed form, the temporary one in between. Blocking:
 * called from worker threads, knows nothing of the loop. */
#ifndef BROKER_PACKSTORE_H
#define BROKER_PACKSTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "daemon/broker/scan.h"
#include "ipc/seam.h"

#define PACK_PATH_MAX 4096u

struct pack_probe {
    /* in: */
    const char *models_dir, *cache_dir, *name, *pack_id;
    uint64_t bytes_max;
    bool fresh; /* make a new packed file even if there is one */
    /* out: */
    int pack_fd;            /* >= 0: the packed file is there; the caller's */
    int source_fd, temp_fd; /* else: what a packer needs; the caller's */
    char temp[PACK_PATH_MAX], final[PACK_PATH_MAX];
    uint8_t tuning[SEAM_TUNING_MAX]; /* what is kept beside the packed file */
    size_t n_tuning;
    bool unwritable; /* what failed was the making of the temporary file */
    struct file_mark mark;
    uint64_t hash; /* of mark and pack_id */
};

enum { PACK_OK = 0, PACK_NO_SOURCE, PACK_TOO_BIG };

/**
 * pack_probe() - open the packed form of a model, or its source and a locked temporary file
 *
 * The source is a plain file directly in models_dir; links are not followed. A packed file's name
 * carries the version of its source and of the packed format, so a stale one is never opened.
 *
 * Return: PACK_OK, PACK_NO_SOURCE (no such regular file), PACK_TOO_BIG (mark.size says), or a
 * negative errno (of the cache folder, or the system).
 */
MUST_USE int pack_probe(struct pack_probe *p);

/** pack_commit() - make the temporary file durable and give it its name; older ones of the model
 * go.
 * @fd: of temp. Return: a readable descriptor, or a negative errno (temp is removed). */
MUST_USE int pack_commit(int fd, const char *temp, const char *final, const char *name);

/** pack_sweep() - remove what packers that died have left in the cache folder */
void pack_sweep(const char *cache_dir);

#endif
