/* A trained vocabulary as the keys of a GGUF file. */
#ifndef TRAIN_BPE_KEYS_H
#define TRAIN_BPE_KEYS_H

#include "base/compiler.h"

struct bpe;
struct gguf_writer;

/* Control tokens, behind all others: "<|endoftext|>", "<|im_start|>", "<|im_end|>". */
#define BPE_CONTROLS 3u

/* ChatML as a template's text. */
extern const char bpe_chatml[];

/**
 * bpe_put_keys() - tokenizer.ggml.* and the ChatML template, tokenizer.chat_template
 * @pre: the pre-tokenizer that the corpus was cut with
 *
 * A text is not begun with a token of its own; <|im_end|> ends a turn, <|endoftext|> pads.
 * Return: 0 or a negative errno.
 */
MUST_USE int bpe_put_keys(struct gguf_writer *w, const struct bpe *b, const char *pre);

#endif
