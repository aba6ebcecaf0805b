/* Merging neighbours until none can be merged: the heart of both kinds of tokenizer. */
#ifndef ENGINE_TEXT_MERGE_H
#define ENGINE_TEXT_MERGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/text/vocab_view.h"

#define MERGE_BYTES_MAX ((size_t)1 << 30) /* of one run: positions are 32 bits */

struct symbol {
    uint32_t at, n;     /* bytes of the run it covers; n == 0: merged away */
    int32_t prev, next; /* indices, -1 at the ends */
    int32_t id;         /* the token it is, -1: none */
};

struct candidate {
    uint64_t key;         /* what is merged first: rank or score above, left symbol below */
    uint32_t right, size; /* right symbol; bytes of both when this was noted */
    int32_t id;           /* what they become */
};

/* Scratch that grows to the largest run seen. A zeroed one is ready. */
struct merger {
    struct symbol *symbols; /* owned */
    size_t n_symbols, symbols_room;
    struct candidate *heap; /* owned: a binary heap, smallest key first */
    size_t n_heap, heap_room;
};

void merger_deinit(struct merger *m);

/** merger_begin() - forget the last run and make room for one of @n symbols: 0 or -ENOMEM */
MUST_USE int merger_begin(struct merger *m, size_t n);
/** merger_add() - the next symbol of the run, covering n bytes at `at`; within the room asked
 * for */
void merger_add(struct merger *m, uint32_t at, uint32_t n, int32_t id);
/** merger_run() - merge until nothing merges; symbols with n > 0 remain, in order: 0 or -ENOMEM */
MUST_USE int merger_run(struct merger *m, const struct vocab *v, const char *text);

#endif
