/* What the engine itself does with a writer of GGUF files, besides engine.h: files made from
 * files. */
#ifndef ENGINE_GGUF_WRITER_H
#define ENGINE_GGUF_WRITER_H

#include "base/compiler.h"

struct gguf_key;
struct gguf_writer;

/** gguf_put_copy() - a key as it stands in another file. Not looked up among those that are there:
 * gguf_parse() has refused duplicates in the file that it comes from. -EINVAL once begun. */
MUST_USE int gguf_put_copy(struct gguf_writer *w, const struct gguf_key *key);

#endif
