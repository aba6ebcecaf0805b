/* Writes packed images (engine/image.h). */
#ifndef ENGINE_IMAGE_WRITE_H
#define ENGINE_IMAGE_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/format.h"

struct buf;
struct gguf_tensor_info;
struct image_tensor;

/* Where the bytes of a tensor come from. */
struct image_source {
    const struct gguf_tensor_info *info; /* borrowed; NULL: absent */
    enum format format;                  /* of the file; the image's may differ */
    bool signs;                          /* binary weights, packed for signs: PANEL_X1 */
};

/* What an image is made of, found and checked. All borrowed. */
struct image_parts {
    const struct buf *meta, *vocab;     /* the sections as they are */
    const struct image_tensor *tensors; /* (n_tensors) */
    const struct image_source *source;  /* (n_tensors) */
    size_t n_tensors;
    const struct image_head *head_low; /* copy.bytes is 0 where there is none */
    const uint8_t *data;               /* the GGUF file that the sources lie in */
};

/**
 * image_write() - write the image, see it on disk and read it back
 * @fd: a regular file, empty, readable too; borrowed. On failure it is garbage.
 *
 * Return: 0 or a negative errno (-EIO: what is read back is not what was written).
 */
MUST_USE int image_write(const struct image_parts *p, int fd);

#endif
