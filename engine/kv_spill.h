/* KV blocks in a file: idle ones are written behind, and read back when a prompt wants one that is
 * gone.
 *
 * The file is a header of SPILL_HEADER_BYTES and slots of one size: struct spill_head, padding to
 * SPILL_HEAD_BYTES, the block's bytes. Numbers are the machine's own: the file never leaves it.
 * Whatever it contains is believed only where its checksum fits and it says of itself what was
 * looked for; salts are not in it. */
#ifndef ENGINE_KV_SPILL_H
#define ENGINE_KV_SPILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/engine.h"

#define SPILL_MAGIC "OBKVSPL1"
#define SPILL_HEADER_BYTES 4096u
#define SPILL_HEAD_BYTES 256u
#define SPILL_SLOTS_MAX 65536u /* bounds the memory that the index takes: some 4 MiB */

/* What the file is for; another model, another type or another size begin it anew. */
struct spill_file {
    char magic[8];
    uint64_t content; /* of the packed model: its header's hash, which covers all of it */
    uint32_t kv_type, block_positions;
    uint64_t block_bytes;
    uint64_t check; /* XXH3 of everything before */
};

struct spill_head {
    uint64_t check[2];  /* XXH3 of the rest of the head and the block */
    uint64_t hash[2];   /* struct kv_block's: of salt, chain and ids */
    uint64_t before[2]; /* the parent's; 0: none */
    int32_t ids[KV_BLOCK];
};

struct kv_spill; /* opaque: the file, an index of its slots, and a thread that writes */

/** kv_spill_new() - @fd: owned on success; @written: called by the thread after each block it
 * wrote.
 * Return: 0; -EINVAL when bytes_max has no room for a block; another negative errno. */
MUST_USE int kv_spill_new(struct kv_spill **ret, const struct spill_file *file, int fd,
                          uint64_t bytes_max, kv_written_fn *written, void *arg);
void kv_spill_free(struct kv_spill *s); /* waits for a write that runs; NULL is fine */

/** kv_spill_ready() - could kv_spill_put() take a block now? */
bool kv_spill_ready(struct kv_spill *s);
/** kv_spill_put() - copy a block for the writer, which has to be ready */
void kv_spill_put(struct kv_spill *s, const struct spill_head *head, const uint8_t *block);

/** kv_spill_has() - does the index know a block of this hash? Right after kv_spill_new() it may
 * wait a moment for the index to be whole. */
bool kv_spill_has(struct kv_spill *s, const uint64_t hash[2]);
/** kv_spill_get() - read it. @want: hash, before and ids that it must have. @block: written, also
 * on failure.
 * Return: false when it is not there, or not sound; then the index forgets it. */
MUST_USE bool kv_spill_get(struct kv_spill *s, const struct spill_head *want, uint8_t *block);

#endif
