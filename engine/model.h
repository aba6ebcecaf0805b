/* A packed model, mapped and checked: pointers instead of offsets. */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/filemap.h"
#include "engine/format.h"
#include "engine/image.h"
#include "engine/shape.h"

struct vocab;

struct matrix {
    enum format format;
    size_t n_cols, n_rows;
    const uint8_t *data; /* borrowed from the map; packed form */
    bool act_per_token;  /* ternary in a BitNet graph: activations have one scale a token */
    float scale;         /* multiplies the product */
    const float *bias;   /* (n_rows) then added to it; borrowed; NULL where the graph has none */
};

struct layer {
    const float *attn_norm, *ffn_norm; /* (n_embd) borrowed from the map */
    /* NULL where the graph has none: */
    const float *q_norm, *k_norm; /* (head_dim) */
    const float *attn_sub_norm;   /* (n_head * head_dim) */
    const float *ffn_sub_norm;    /* (n_ff) */
    struct matrix q, k, v, o, gate, up, down;
};

struct model {
    struct filemap file;               /* owned */
    const struct image_header *header; /* these borrow from the map */
    const struct image_meta *meta;
    const struct image_tensor *tensors;
    const struct image_info *infos;
    const char *strings;
    const double *inv_freq; /* (n_rot / 2) radians per position */
    struct shape shape;
    struct layer *layers; /* owned: (n_layer) */
    struct matrix embd, head;
    const float *output_norm;
    struct vocab *vocab; /* owned */
};

#endif
