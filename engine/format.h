/* Weight formats: the bytes of a GGUF row, and the panels that the kernels read.
 *
 * Floating formats keep their rows as they are. Block formats are interleaved 16 rows at a time into
 * the panels of engine/kernels/kernels.h. */
#ifndef ENGINE_FORMAT_H
#define ENGINE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/strview.h"

enum format {
    FORMAT_F32 = 0,
    FORMAT_F16,
    FORMAT_BF16,
    FORMAT_Q8_0,
    FORMAT_Q1_0,
    FORMAT_TQ2_0,
    FORMAT_Q4_0, /* read only, in embeddings and heads: packs exactly into the panels of Q8_0 */
    FORMATS,     /* count */
};

struct format_info {
    const char *name;
    uint32_t id;    /* GGUF's number */
    uint32_t block; /* weights in a block: a row is a whole number of them */
    uint32_t block_bytes;
    uint32_t panel_bytes; /* of one block of 16 rows in a panel; 0: rows stay as they are */
    uint32_t act_block;   /* block of quantized activations; 0: the product takes floats */
    void (*decode)(const uint8_t *row, size_t n, float *ret);
    void (*encode)(const float *x, size_t n, uint8_t *ret); /* NULL: never written */
};

/** format_info() - static facts of a format */
const struct format_info *format_info(enum format f);

/** format_of_id() - the format with this GGUF number; false when this engine does not read it */
MUST_USE bool format_of_id(uint32_t id, enum format *ret);
MUST_USE bool format_of_name(const char *name, enum format *ret);

/** format_foreign_name() - the name other engines gave to a number this one does not read; NULL when
 * nobody did, or when the number was withdrawn. Static. */
const char *format_foreign_name(uint32_t id);

/** format_row_bytes() - bytes of a GGUF row; n_cols a multiple of the block, at most KERN_COLS_MAX */
size_t format_row_bytes(enum format f, size_t n_cols);

/** format_packed_bytes() - bytes of a packed matrix; false on overflow */
MUST_USE bool format_packed_bytes(enum format f, uint64_t n_cols, uint64_t n_rows, uint64_t *ret);

/** format_panel_bytes() - bytes of one panel of 16 rows; only for formats with panels */
size_t format_panel_bytes(enum format f, size_t n_cols);

/**
 * format_pack_panel() - interleave up to 16 GGUF rows
 * @rows:   n_rows rows in GGUF's form, one after another
 * @n_rows: 1..16; the others get a scale of zero
 * @panel:  format_panel_bytes(); written whole
 */
void format_pack_panel(enum format f, const uint8_t *rows, size_t n_rows, size_t n_cols,
                       uint8_t *panel);

/** format_unpack_row() - one row of a packed matrix as floats, equal to decode() of the GGUF row */
void format_unpack_row(enum format f, const uint8_t *packed, size_t row, size_t n_cols, float *ret);

#endif
