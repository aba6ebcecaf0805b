/* Reading the keys below "<architecture>." of a GGUF file: typed, bounded, each failure told with
 * the key and its place. */
#ifndef ENGINE_KEYS_H
#define ENGINE_KEYS_H

#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"

struct gguf;

struct keys {
    const struct gguf *g; /* borrowed */
    const char *arch;     /* static */
    struct diag *d;       /* borrowed; may be NULL */
    char key[96];         /* the full name of the last key asked for */
};

/** keys_name() - "<arch>.<key>", kept in k->key and valid until the next call on k */
const char *keys_name(struct keys *k, const char *key);

/** keys_offset() - in the file, of the last key's value, or the end of the keys when it is
 * absent */
uint64_t keys_offset(const struct keys *k);

/* MODEL_OK with the value or `otherwise`, or MODEL_MALFORMED for another type. */
MUST_USE int keys_u32(struct keys *k, const char *key, uint32_t otherwise, uint32_t *ret);
MUST_USE int keys_f32(struct keys *k, const char *key, float otherwise, float *ret);

/** keys_u32_within() - a number that must be there, in 1..max: MODEL_OK, MODEL_MALFORMED or
 * MODEL_TOO_BIG */
MUST_USE int keys_u32_within(struct keys *k, const char *key, uint32_t max, uint32_t *ret);

/** keys_unsupported() - MODEL_UNSUPPORTED, saying that `what` of the last key is */
int keys_unsupported(struct keys *k, const char *what);

#endif
