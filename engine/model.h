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
};

struct layer {
    const float *attn_norm, *ffn_norm; /* (n_embd) borrowed from the map */
    const float *q_norm, *k_norm;      /* (head_dim) borrowed; NULL where the graph has none */
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
