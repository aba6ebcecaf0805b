/* The vocabulary that a model is trained with: the tokenizer's keys of a GGUF file, without the
 * rest of it. A checkpoint carries them, and the exported model has them as they were.
 *
 * Rows are laid out in ChatML, and the daemon asks by the template that a file names: so a file
 * that names none is given ChatML's, and one that names another is refused, because its model would
 * be asked in a way that it never saw. */
#ifndef TRAIN_LOOP_VOCABULARY_H
#define TRAIN_LOOP_VOCABULARY_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "engine/engine.h"

#define VOCABULARY_BYTES_MAX ((size_t)64 << 20)

/* Zeroed is none. */
struct vocabulary {
    int fd;         /* owned: in memory, a GGUF file with these keys alone */
    uint8_t *bytes; /* (n) owned: what it holds */
    size_t n;
    struct vocab *vocab;     /* owned */
    int32_t end;             /* the token that ends a turn, <|im_end|> */
    enum chat_template chat; /* CHAT_CHATML or CHAT_QWEN3 */
};

/**
 * vocabulary_open() - @fd: a GGUF file, a model or a vocabulary alone; borrowed for the call
 *
 * Return: MODEL_OK; MODEL_MALFORMED, MODEL_UNSUPPORTED (its vocabulary has no <|im_end|>, or its
 * template is neither chatml nor qwen3), MODEL_TOO_BIG, with a reason in diag; a negative errno.
 */
MUST_USE int vocabulary_open(struct vocabulary *ret, int fd, struct diag *ret_diag);
/** vocabulary_read() - the same, of bytes that a checkpoint has */
MUST_USE int vocabulary_read(struct vocabulary *ret, const void *bytes, size_t n,
                             struct diag *ret_diag);
void vocabulary_close(struct vocabulary *v);

#endif
