/* The head in five bits, beside the head itself.
 *
 * Who looks only at the largest logits of a token need not have the others. The head's rows are
 * therefore kept a second time, in five bits (PANEL_K5), with a bound of what each row's product
 * with any input can be off by. A product with the copy then says of nearly all rows that they are
 * below the ones that count; the few that may be among them are multiplied with the head itself,
 * and these logits are the head's to the bit. The bound is proved in head.c. */
#ifndef ENGINE_HEAD_H
#define ENGINE_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/format.h"
#include "engine/product.h"

#define HEAD_LOW_FORMAT FORMAT_Q5_K
#define HEAD_BOUNDS 2u /* numbers that a row has beside its panel */

/* A smaller head is not worth a copy: it lies in a cache. */
#define HEAD_LOW_LEAST ((uint64_t)1 << 20) /* bytes of the head itself */

/* No row of a head that has a copy is longer: nothing overflows then. */
#define HEAD_NORM_MAX 0x1p40f

/* What is wanted of one row of logits, and what its input is like. */
struct head_want {
    size_t n_best;       /* 0: all */
    const int32_t *also; /* (n_also) borrowed: ids whose logits are wanted besides */
    size_t n_also;
    float x_norm, rest_norm; /* at least |x|, |x'| and |x - x'|, x' being x as quantized */
};

/* ---- packing (head_pack.c) ---- */

/** head_low_bytes() - of the copy: panels, then bounds; false where there is to be none: a head
 * that is not of floats, is small, or has no whole blocks */
MUST_USE bool head_low_bytes(enum format f, uint64_t n_cols, uint64_t n_rows, uint64_t *ret);

/** head_low_bounds_at() - offset of the bounds in the copy */
uint64_t head_low_bounds_at(uint64_t n_cols, uint64_t n_rows);

/**
 * head_survey() - read a head before it is packed
 * @data:         rows in GGUF's form
 * @ret_scale:    a power of two that the copy's weights are multiplied by
 * @ret_norm_max: see struct head_low
 *
 * Return: 1; 0: there is to be no copy, since a weight is not finite or a row too long; -ENOMEM.
 */
MUST_USE int head_survey(enum format f, const uint8_t *data, size_t n_cols, uint64_t n_rows,
                         float *ret_scale, float *ret_norm_max);

/**
 * head_pack_panel() - up to 16 rows in five bits
 * @x:      (n_rows, n_cols) floats
 * @scale:  of head_survey()
 * @panel:  format_panel_bytes(HEAD_LOW_FORMAT); written whole, rows past n_rows as zeros
 * @bounds: (HEAD_BOUNDS, PANEL_ROWS) written
 */
void head_pack_panel(const float *x, size_t n_rows, size_t n_cols, float scale, uint8_t *panel,
                     float *bounds);

/* ---- running (head.c) ---- */

/** head_floats() - floats that head_best() needs as room for each row of logits */
size_t head_floats(size_t n_vocab);

/** head_measure() - fill in want's norms from an input and what it was quantized to
 * @q, @d: in blocks of ACT_BLOCK */
void head_measure(const float *x, const int8_t *q, const float *d, size_t n,
                  struct head_want *want);

/** head_may() - does the bound hold for this input? Not where a number is not finite or huge. */
bool head_may(const struct head_low *low, const struct matrix *head, const struct head_want *want);

struct head_job {
    const struct engine *engine;
    const struct matrix *head;
    const struct head_low *low;
    const struct input *in;       /* with floats and what the copy takes */
    const struct head_want *want; /* (n) with n_best > 0 and head_may() */
    size_t n;
    float *logits; /* (n, n_vocab) written */
    float *room;   /* (n, head_floats()) */
};

/**
 * head_best() - the largest logits of n tokens
 *
 * Written are, as the head itself gives them, the n_best largest of those that are not in `also`,
 * all that come as close to the smallest of these as sampler_pick() could mistake for it, and those
 * in `also`. Whatever else is written is either right, too, or -FLT_MAX.
 * Return: bytes of the head and its copy that were read.
 */
uint64_t head_best(const struct head_job *job);

#endif
