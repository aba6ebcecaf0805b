/* Which of the chat templates we know a file's template text is. */
#ifndef ENGINE_TEXT_CHAT_H
#define ENGINE_TEXT_CHAT_H

#include "base/strview.h"
#include "engine/engine.h"

struct gguf;

#define CHAT_TEMPLATE_BYTES_MAX 65536u /* longer texts are not read; the longest known has 8 KiB */

/**
 * chat_detect() - by what a text would write, not by marks that occur in it
 * @template_text: a file's tokenizer.chat_template; any bytes
 * @arch, @pre: its general.architecture and tokenizer.ggml.pre; may be empty
 *
 * How it decides. The text is read as the template language's tokens, and what it would write for a
 * plain conversation is put down in order: its literals, and where roles, contents, BOS and EOS go.
 * White space between tokens, quotes, variables' names, `.role` for `['role']` and branches that
 * need tools or documents make no difference. The result has to be that of a known template: word
 * for word for llama3, bitnet, falcon3 and minicpm; one turn for every role and the head of an
 * answer for chatml; nothing but its marks, with its plain turn and its empty block of thoughts
 * last, for qwen3. One more literal (a system prompt of its own, another mark, another line end), a
 * filter, a test of contents, a slice of the messages, a macro or any other word that is not known
 * makes it CHAT_NONE. So a known template may go unrecognised, which an override mends; another is
 * hardly ever taken for a known one, which nothing would show.
 *
 * bitnet.cpp's converter writes one and the same placeholder ("Human: ... BITNETAssistant: ") into
 * every file it makes, whatever the model was trained with. In files of a bitnet architecture it
 * stands for BitNet b1.58 2B4T's template; in files with the tokenizer of Falcon3 or Falcon-E for
 * theirs; in others it says nothing, and is CHAT_NONE.
 *
 * Time O(n), memory some 12 KiB of stack.
 */
enum chat_template chat_detect(struct strview template_text, struct strview arch,
                               struct strview pre);

/** chat_of_gguf() - the same of a file's keys. @ret_given: does it have a template's text? */
enum chat_template chat_of_gguf(const struct gguf *g, bool *ret_given);

#endif
