/* Writing GGUF files: the workbench's `make`, the trainer, tests. */
#ifndef ENGINE_GGUF_OUT_H
#define ENGINE_GGUF_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "base/strview.h"

struct gguf_writer; /* opaque */

/** gguf_writer_new() - collect keys and tensor infos; writes nothing before gguf_writer_begin() */
MUST_USE int gguf_writer_new(struct gguf_writer **ret);
void gguf_writer_free(struct gguf_writer *w);
MUST_USE int gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v);
MUST_USE int gguf_put_f32(struct gguf_writer *w, const char *key, float v);
MUST_USE int gguf_put_bool(struct gguf_writer *w, const char *key, bool v);
MUST_USE int gguf_put_str(struct gguf_writer *w, const char *key, struct strview v);
MUST_USE int gguf_put_str_array(struct gguf_writer *w, const char *key, const struct strview *v,
                                size_t n);
MUST_USE int gguf_put_i32_array(struct gguf_writer *w, const char *key, const int32_t *v, size_t n);
MUST_USE int gguf_put_f32_array(struct gguf_writer *w, const char *key, const float *v, size_t n);
/**
 * gguf_put_from() - copy keys out of another file, as they stand there
 * @fd:     a GGUF file, borrowed for the call
 * @prefix: of the names of the keys that are copied, "tokenizer."
 *
 * None of them may be there already. Return: MODEL_OK; MODEL_MALFORMED: that is no sound GGUF
 * file, diag says where; a negative errno.
 */
MUST_USE int gguf_put_from(struct gguf_writer *w, int fd, const char *prefix,
                           struct diag *ret_diag);
/** gguf_writable() - the i-th format that tensors can be written in; false past the last. Its name
 * is static, and a row is a whole number of blocks. */
struct gguf_writable {
    const char *name;
    uint32_t block; /* weights */
    bool encodes;   /* gguf_writer_rows() takes floats for it; else only gguf_writer_raw() serves */
};
MUST_USE bool gguf_writable(size_t i, struct gguf_writable *ret);
/** gguf_put_tensor() - announce a tensor of n_rows rows of n_cols; data follows in this order.
 * @format: a name of gguf_writable(); -EINVAL for another or a broken row */
MUST_USE int gguf_put_tensor(struct gguf_writer *w, const char *name, const char *format,
                             uint64_t n_cols, uint64_t n_rows, bool vector);
/** gguf_writer_begin() - write header and infos to fd (borrowed) */
MUST_USE int gguf_writer_begin(struct gguf_writer *w, int fd);
/** gguf_writer_scale() - the scale of the tensor whose turn it is, before its first row. Only I2_S
 * has one: the largest magnitude of all its weights. -EINVAL when rows of it are written. */
MUST_USE int gguf_writer_scale(struct gguf_writer *w, float scale);
/** gguf_writer_rows() - encode and append rows of the tensor whose turn it is; rows may come in
 * pieces. -EINVAL for a format without an encoder. */
MUST_USE int gguf_writer_rows(struct gguf_writer *w, const float *x, uint64_t n_rows);
/** gguf_writer_raw() - the same for rows that are already in the tensor's format */
MUST_USE int gguf_writer_raw(struct gguf_writer *w, const void *rows, uint64_t n_rows);
/** gguf_writer_end() - -EINVAL when a tensor is incomplete; else flush, pad, sync */
MUST_USE int gguf_writer_end(struct gguf_writer *w);

#endif
