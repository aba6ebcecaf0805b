/* Tables that describe the keys of a message: one row serves reading, checking and packing. Inside
 * this room only. */
#ifndef IPC_FIELD_H
#define IPC_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/cursor.h"
#include "base/diag.h"
#include "ipc/message.h"
#include "ipc/pack.h"

enum field_kind {
    FIELD_BOOL,
    FIELD_U16,
    FIELD_U32,
    FIELD_U64,
    FIELD_I32,
    FIELD_F32,
    FIELD_TEXT,  /* struct strview, a string: valid UTF-8 */
    FIELD_BYTES, /* struct strview, a string or a bin: words out of files, which may be anything */
    FIELD_WORD,  /* an enum, written as its word */
    FIELD_TEXTS, /* struct strview[items_max], with their count at n_at */
    FIELD_IDS,   /* struct msg_ids */
    FIELD_OWN,   /* read and written by the row's own functions */
};

#define TEMPERATURE_RANGE "[0, " DIGITS_OF(MSG_TEMPERATURE_MAX) "]"
#define DIGITS_OF(n) DIGITS_OF_(n)
#define DIGITS_OF_(n) #n

#define FIELD_REQUIRED 1u /* refused when missing; always written */
#define FIELD_ALWAYS 2u   /* written even when it is zero */

/* What a put function has beside the struct: arrays that reading gives as views. */
struct field_extra {
    const int32_t *ids; /* borrowed */
    size_t n_ids;
    const struct msg_logprob *logprobs; /* borrowed: n_ids x n_alternatives, or NULL */
    size_t n_alternatives;
};

/* Where a reader stands. `base` is the start of the body, for offsets in what diag says. */
struct field_in {
    struct cursor c;
    const uint8_t *base; /* borrowed */
    struct diag *diag;   /* borrowed; may be NULL */
};

struct field {
    const char *key;
    enum field_kind kind;
    unsigned flags;
    size_t at;     /* of the member in the struct */
    size_t has_at; /* of its bool "was given"; 0: none (no such bool is a struct's first member) */
    size_t n_at;   /* FIELD_TEXTS: of the size_t count */
    uint32_t items_max; /* FIELD_TEXTS */
    uint64_t min,
        max; /* whole numbers: the value; texts: bytes; ids: how many; words: first, past last */
    float lo, hi;                                 /* FIELD_F32 */
    const char *range;                            /* FIELD_F32: the same for people, "(0, 1]" */
    const char *(*word)(unsigned i);              /* FIELD_WORD */
    bool (*read)(struct field_in *in, void *obj); /* FIELD_OWN */
    void (*write)(struct packer *p, const void *obj, const struct field_extra *x); /* FIELD_OWN */
    bool (*when)(const void *obj, const struct field_extra *x); /* write it? NULL: when not zero */
};

/** field_refuse() - say what is wrong with the value before the cursor; always false */
bool field_refuse(struct field_in *in, const char *key, const char *want);

/**
 * fields_read() - read the pairs of a map whose head was taken
 * @pairs: of the map; the body was checked by mp_valid()
 * @obj:   the struct the rows speak of
 * @ret_seen: bit i is set when row i's key was there
 *
 * Unknown keys are skipped. False, with diag naming the key: a known key twice, missing, ill-typed
 * or out of bounds, or a key that is no string.
 */
MUST_USE bool fields_read(struct field_in *in, uint32_t pairs, const struct field *rows, size_t n,
                          void *obj, uint64_t *ret_seen);

/** fields_count()/fields_write() - how many pairs will be written, and the pairs */
uint32_t fields_count(const struct field *rows, size_t n, const void *obj,
                      const struct field_extra *x);
void fields_write(struct packer *p, const struct field *rows, size_t n, const void *obj,
                  const struct field_extra *x);

/* The logprobs of a delta, which the seam's tokens share: rows of equal length, one per id. */
bool logprobs_read(struct field_in *in, struct cursor *ret_at, uint32_t *ret_rows);
bool logprobs_given(const struct field_extra *x);
void logprobs_write(struct packer *p, const struct field_extra *x);

#endif
