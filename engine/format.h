/* Weight formats: the bytes of a GGUF tensor, and the panels that the kernels read.
 *
 * A tensor in GGUF's form is n_rows rows and then, for I2_S, a tail that holds one scale for all of
 * them. A row is a head (IQ2_BN's scale) and whole blocks. Floating formats keep their rows as they
 * are; all others are interleaved 16 rows at a time into the panels of engine/kernels/kernels.h. */
#ifndef ENGINE_FORMAT_H
#define ENGINE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/kernels/kernels.h"

enum format {
    FORMAT_F32 = 0,
    FORMAT_F16,
    FORMAT_BF16,
    FORMAT_Q8_0,
    FORMAT_Q1_0,
    FORMAT_TQ2_0,
    FORMAT_TQ1_0,
    FORMAT_Q2_0,
    FORMAT_Q2_0_G128, /* the number of Q2_0 with groups of 128, as PrismML first wrote it */
    FORMAT_PQ2_0,     /* the same bytes under a number of their own */
    FORMAT_I2_S,
    FORMAT_IQ2_BN,
    FORMAT_Q4_0,
    FORMAT_Q4_1,
    FORMAT_Q5_0,
    FORMAT_Q4_K,
    FORMAT_Q5_K,
    FORMAT_Q6_K,
    FORMATS, /* count */
};

struct format_info {
    const char *name;
    uint32_t id;          /* GGUF's number */
    uint32_t block;       /* weights in a block: a row is a whole number of them */
    uint32_t block_bytes; /* of a row in GGUF's form */
    uint32_t head_bytes;  /* of a row, before its blocks */
    uint32_t tail_bytes;  /* of a tensor, after its rows */
    enum panel_kind panel;
    bool two_bit; /* made for ternary weights: -1, 0, +1 and a scale; most can also say +2 */
};

/** format_info() - static facts of a format */
const struct format_info *format_info(enum format f);

/** format_of_id() - the first format with this GGUF number: Q2_0 for 42, which has two, and a
 * tensor's bytes decide between them (engine/tensor_format.h); false when this engine reads none */
MUST_USE bool format_of_id(uint32_t id, enum format *ret);
MUST_USE bool format_of_name(const char *name, enum format *ret);

/** format_foreign_name() - the name other engines gave to a number this one does not read; NULL
 * when nobody did, or when the number was withdrawn. Static. */
const char *format_foreign_name(uint32_t id);

/** format_row_bytes() - bytes of a GGUF row; n_cols a multiple of the block, at most
 * KERN_COLS_MAX */
size_t format_row_bytes(enum format f, size_t n_cols);

/** format_tensor_bytes() - bytes of a tensor in GGUF's form; false when a row is no whole number of
 * blocks or longer than KERN_COLS_MAX, or on overflow */
MUST_USE bool format_tensor_bytes(enum format f, uint64_t n_cols, uint64_t n_rows, uint64_t *ret);

/** format_packed_bytes() - bytes of a packed matrix; false like format_tensor_bytes() */
MUST_USE bool format_packed_bytes(enum format f, uint64_t n_cols, uint64_t n_rows, uint64_t *ret);

/** format_panel_bytes() - bytes of one panel of 16 rows; only for formats with panels */
size_t format_panel_bytes(enum format f, size_t n_cols);

/* ---- GGUF's form and floats (format_decode.c, format_encode.c) ---- */

/** format_tensor_scale() - what every weight of a tensor is multiplied by besides its row's and
 * block's scales: I2_S keeps it behind the rows, and for all others it is 1.
 * @tensor: format_tensor_bytes(), in GGUF's form */
float format_tensor_scale(enum format f, const uint8_t *tensor, size_t n_cols, uint64_t n_rows);

/**
 * format_decode_row() - one GGUF row as floats
 * @row:   format_row_bytes(); any alignment
 * @scale: format_tensor_scale() of its tensor
 * @ret:   (n_cols) written; for block formats the nearest float to the formula's value (layouts:
 *         docs of the format's authors, as engine/format_code.h names them)
 */
void format_decode_row(enum format f, const uint8_t *row, float scale, size_t n_cols, float *ret);

/** format_row_is_ternary() - has a row of a two-bit or ternary format no weight of +2? */
bool format_row_is_ternary(enum format f, const uint8_t *row, size_t n_cols);

/** format_can_encode() - is this a format that format_encode_row() writes? */
bool format_can_encode(enum format f);

/**
 * format_encode_row() - floats to one GGUF row, byte for byte as the format's usual encoder writes
 * it (formulas and rounding: engine/NUMERICS.md, "Encoding")
 * @scale: of the tensor: for I2_S the largest magnitude of all its weights; else ignored
 * @ret:   format_row_bytes() written. NaN and infinities give a scale that is none of either's
 *         business to hide: it becomes NaN or infinite.
 */
void format_encode_row(enum format f, const float *x, float scale, size_t n_cols, uint8_t *ret);

/** format_encode_tail() - the bytes after the rows: format_info()->tail_bytes of them */
void format_encode_tail(enum format f, float scale, uint8_t *ret);

/* ---- panels (format_panel.c) ---- */

/**
 * format_pack_panel() - interleave up to 16 GGUF rows
 * @rows:   n_rows rows in GGUF's form, one after another
 * @scale:  format_tensor_scale() of their tensor
 * @n_rows: 1..16; the others get a scale of zero
 * @panel:  format_panel_bytes(); written whole
 */
void format_pack_panel(enum format f, const uint8_t *rows, float scale, size_t n_rows,
                       size_t n_cols, uint8_t *panel);

/** format_panel_for_signs() - a panel of B1 becomes one of X1, which has the same bits elsewhere */
void format_panel_for_signs(uint8_t *panel, size_t n_cols);

/** format_unpack_row() - one row of a packed matrix as floats, equal to format_decode_row() of the
 * GGUF row */
void format_unpack_row(enum format f, const uint8_t *packed, size_t row, size_t n_cols, float *ret);

#endif
