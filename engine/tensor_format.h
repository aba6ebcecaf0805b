/* Which format a tensor of a file has. The type number alone does not say: 42 is Q2_0 in groups of
 * 64, of 128 in older files, and STQ1_0 in others still. The number of bytes decides. */
#ifndef ENGINE_TENSOR_FORMAT_H
#define ENGINE_TENSOR_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "engine/format.h"

struct gguf;
struct gguf_tensor_info;

/* The offsets of all tensors of a file, ascending. */
struct tensor_spaces {
    uint64_t *offsets; /* owned */
    size_t n;
};

/** tensor_spaces_init() - 0 or -ENOMEM; undo with tensor_spaces_deinit() */
MUST_USE int tensor_spaces_init(struct tensor_spaces *ret, const struct gguf *g);
void tensor_spaces_deinit(struct tensor_spaces *s);

/**
 * tensor_format() - decide by type number and bytes
 *
 * A reading fits when its bytes, aligned, reach just to the next tensor, or to the end of the file.
 * Bytes after the file's last tensor are allowed where the number has one reading only.
 *
 * Return: MODEL_OK; MODEL_UNSUPPORTED: a format by name that this engine does not run;
 * MODEL_MALFORMED: no reading fits, or more than one does, diag names them with their bytes.
 */
MUST_USE int tensor_format(const struct gguf *g, const struct tensor_spaces *spaces,
                           const struct gguf_tensor_info *t, enum format *ret,
                           struct diag *ret_diag);

#endif
