/* Reader of GGUF v3 files (the format of ggml, docs/gguf.md there). It finds and bounds everything
 * and interprets nothing: what a key or tensor means is its user's business. */
#ifndef ENGINE_GGUF_H
#define ENGINE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "base/strview.h"

#define GGUF_KEYS_MAX 65536u
#define GGUF_TENSORS_MAX 65536u
#define GGUF_KEY_BYTES_MAX 65535u
#define GGUF_NAME_BYTES_MAX 63u
#define GGUF_DIMS_MAX 4u

enum gguf_value {
    GGUF_U8 = 0,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STR,
    GGUF_ARR,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_VALUES,
};

struct gguf_key {
    struct strview name;  /* borrowed from the file; any bytes but never empty */
    enum gguf_value type; /* of the value */
    enum gguf_value elem; /* of an array's elements (never GGUF_ARR) */
    uint64_t n;           /* elements: 1 for a scalar */
    const uint8_t
        *data;       /* first element (a string begins with its u64 length); checked to the end */
    uint64_t offset; /* of data in the file */
};

struct gguf_tensor_info {
    struct strview name;
    uint32_t type;                /* the file's number, unchecked */
    uint32_t n_dims;              /* 0..GGUF_DIMS_MAX */
    uint64_t dims[GGUF_DIMS_MAX]; /* fastest first, 1 beyond n_dims; their product fits int64 */
    uint64_t offset;              /* of the data in the file; <= size; aligned */
    uint64_t info_offset;         /* of this record in the file, for diagnoses */
};

struct gguf {
    const uint8_t *data; /* borrowed: the whole file */
    size_t size;
    uint32_t alignment;
    struct gguf_key *keys; /* owned */
    size_t n_keys;
    uint64_t keys_end;                /* offset in the file: where a missing key is missed */
    struct gguf_tensor_info *tensors; /* owned */
    size_t n_tensors;
    uint64_t infos_end;   /* where a missing tensor is missed */
    size_t *tensor_order; /* owned: indices sorted by name, for gguf_tensor_find */
};

enum { GGUF_OK = 0, GGUF_MALFORMED };

/**
 * gguf_parse() - check header, keys and tensor infos whole
 * @ret: on GGUF_OK; undo with gguf_deinit(). Borrows @data for its life.
 *
 * Keys: a duplicate is malformed. Tensors: duplicates and misaligned offsets are malformed, ranges
 * that overlap are allowed.
 * Return: GGUF_OK, GGUF_MALFORMED (diag has what and where), -ENOMEM.
 */
MUST_USE int gguf_parse(struct gguf *ret, const void *data, size_t size, struct diag *ret_diag);
void gguf_deinit(struct gguf *g);

/** gguf_find() - NULL when absent; borrowed from g */
const struct gguf_key *gguf_find(const struct gguf *g, const char *name);
const struct gguf_tensor_info *gguf_tensor_find(const struct gguf *g, const char *name);

/** gguf_key_offset() - for diagnoses: of the key's value, or the end of the keys when it is
 * absent */
uint64_t gguf_key_offset(const struct gguf *g, const char *name);

enum { GGUF_FOUND = 0, GGUF_ABSENT, GGUF_WRONG_TYPE };

/* Typed reads of one key. A wrong type fills diag; outputs are written only on GGUF_FOUND. Unsigned
 * reads accept any non-negative integer type that fits, floats f32 and f64. */
MUST_USE int gguf_u32(const struct gguf *g, const char *name, uint32_t *ret, struct diag *d);
MUST_USE int gguf_f32(const struct gguf *g, const char *name, float *ret, struct diag *d);
MUST_USE int gguf_bool(const struct gguf *g, const char *name, bool *ret, struct diag *d);
MUST_USE int gguf_str(const struct gguf *g, const char *name, struct strview *ret, struct diag *d);
/** gguf_array() - the key when it is an array of exactly this element type */
MUST_USE int gguf_array(const struct gguf *g, const char *name, enum gguf_value elem,
                        const struct gguf_key **ret, struct diag *d);

/* Walks an array of strings that gguf_parse() has checked. */
struct gguf_str_iter {
    const uint8_t *at;
    uint64_t left;
};
struct gguf_str_iter gguf_strings(const struct gguf_key *key);
/** gguf_str_next() - false at the end */
bool gguf_str_next(struct gguf_str_iter *it, struct strview *ret);

#endif
