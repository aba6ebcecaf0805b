/* A packed model, mapped and checked: pointers instead of offsets. */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/filemap.h"
#include "engine/format.h"
#include "engine/image.h"
#include "engine/shape.h"

struct diag;
struct vocab;

/* How the input of a product is quantized: in blocks of 32 or 256 columns with a scale each, or
 * with one scale for the whole token, laid out in the blocks that the matrix's kernel reads; or as
 * signs, of scale 1. */
enum act_kind {
    ACT_32 = 0,
    ACT_256,
    ACT_TOKEN_32,
    ACT_TOKEN_256,
    ACT_TOKEN,
    ACT_SIGNS_32, /* signs as int8, in blocks as above */
    ACT_SIGNS_256,
    ACT_SIGNS,
    ACT_BITS,       /* signs as bits, for PANEL_X1 */
    ACT_WIDE_32,    /* for rows of floats: ACT_32, widened again in the input's own place */
    ACT_WIDE_SIGNS, /* the same of signs */
    ACT_KINDS,
};

struct matrix {
    enum format format;
    size_t n_cols, n_rows;
    const uint8_t *data; /* borrowed from map or copy; packed form */
    size_t panel_bytes;  /* of 16 rows; 0 where the product takes floats */
    enum act_kind act;   /* of its input; where the product takes floats, as they are unless wide */
    float scale;         /* multiplies the product */
    const float *bias;   /* (n_rows) then added to it; borrowed; NULL where the graph has none */
};

struct layer {
    const float *attn_norm, *ffn_norm; /* (n_embd) borrowed as data is */
    /* NULL where the graph has none: */
    const float *q_norm, *k_norm; /* (head_dim) */
    const float *attn_sub_norm;   /* (n_head * head_dim) */
    const float *ffn_sub_norm;    /* (n_ff) */
    /* of the inputs of q, k and v; o; gate and up; down: as long as those */
    const float *attn_threshold, *o_threshold, *ffn_threshold, *down_threshold;
    struct matrix q, k, v, o, gate, up, down;
};

/* The head in fewer bits: engine/head.h. */
struct head_low {
    struct matrix rows;  /* the copy; data is NULL where there is none */
    const float *bounds; /* (panel, HEAD_BOUNDS, PANEL_ROWS) borrowed as data is */
    float norm_max;      /* no row of the head is longer */
};

/* Weights that left the map. */
struct weights_copy {
    uint8_t *data; /* owned mapping of `bytes`; NULL: there is none */
    size_t bytes, huge_bytes;
};

struct model {
    struct filemap file;               /* owned */
    int scratch_fd;                    /* owned: of `file`, where that is a scratch file; else -1 */
    struct weights_copy copy;          /* owned */
    const struct image_header *header; /* these borrow from the map */
    const struct image_meta *meta;
    const struct image_tensor *tensors;
    const struct image_info *infos;
    const char *strings;
    const double *inv_freq; /* (n_rot / 2) radians per position */
    struct shape shape;
    struct layer *layers; /* owned: (n_layer) */
    struct matrix embd, head;
    struct head_low head_low;
    const float *output_norm;
    struct vocab *vocab; /* owned */
};

/** model_use_copy() - matrices and norms are read from the copy from here on
 * @copy: taken over on MODEL_OK. Return: MODEL_OK, or what opening a packed file returns. */
MUST_USE int model_use_copy(struct model *m, const struct weights_copy *copy, struct diag *d);

#endif
