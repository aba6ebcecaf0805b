/* The vocabulary's packed form: built once from a GGUF, read in place from a packed file. */
#ifndef ENGINE_TEXT_VOCAB_H
#define ENGINE_TEXT_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/diag.h"

struct gguf;
struct vocab;

/**
 * vocab_pack() - check a GGUF's tokenizer keys and append the packed vocabulary to @out
 *
 * Deterministic: the same file gives the same bytes. All offsets inside are relative to the first
 * byte appended; @out->n is a multiple of 8 on entry.
 * Return: MODEL_OK, MODEL_MALFORMED, MODEL_UNSUPPORTED (diag names the tokenizer), MODEL_TOO_BIG
 * (too many tokens, a token too long) or -ENOMEM.
 */
MUST_USE int vocab_pack(const struct gguf *g, struct buf *out, struct diag *ret_diag);

/**
 * vocab_open_view() - read a packed vocabulary in place
 * @data: n bytes, 8-byte aligned; borrowed for the vocab's life
 *
 * Every count and offset is checked against n, so that a damaged file cannot lead outside.
 * Return: MODEL_OK, MODEL_MALFORMED or -ENOMEM. Free with vocab_free().
 */
MUST_USE int vocab_open_view(struct vocab **ret, const uint8_t *data, size_t n,
                             struct diag *ret_diag);

#endif
