/* The packed form of a model: one file that is mapped and read in place.
 *
 *   header | META | VOCAB | WEIGHTS          sections begin at multiples of IMAGE_ALIGN
 *
 * META:    struct image_meta, then the arrays it counts, in its order.
 * VOCAB:   what vocab_pack() wrote.
 * WEIGHTS: matrices in the form of their kernels (engine/format.h) and norms as floats, each at a
 *          multiple of IMAGE_ALIGN; last the head's copy in five bits (engine/head.h).
 *
 * The header is written last, so an interrupted pack leaves a file without a magic. Little-endian;
 * private to one version of this program, hence structs instead of a wire format. */
#ifndef ENGINE_IMAGE_H
#define ENGINE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/shape.h"

#define IMAGE_MAGIC "ONEBITPK"
#define IMAGE_VERSION 2u
#define IMAGE_ALIGN 64u
#define IMAGE_PACK_ID "p6-" ONEBIT_VERSION
#define IMAGE_META_BYTES_MAX ((size_t)64 << 20) /* 65,536 tensors with names are 6 MiB */
#define IMAGE_VOCAB_BYTES_MAX ((size_t)1 << 30)

enum { IMAGE_META = 0, IMAGE_VOCAB, IMAGE_WEIGHTS, IMAGE_SECTIONS };

struct image_section {
    uint64_t offset, bytes;
    uint64_t hash; /* XXH3 of the bytes */
};

struct image_header {
    char magic[8];
    uint32_t version;
    uint32_t header_bytes;
    char pack_id[32]; /* NUL-padded */
    uint64_t image_bytes;
    struct image_section sections[IMAGE_SECTIONS];
    uint64_t hash; /* XXH3 of everything before */
};

_Static_assert(sizeof(struct image_header) == 136 && sizeof(IMAGE_PACK_ID) <= 32, "no gaps");

struct image_tensor {
    uint32_t format; /* enum format */
    float scale;     /* multiplies the product; 1 where the file has no number beside it */
    uint64_t offset; /* into WEIGHTS */
    uint64_t bytes;  /* 0: absent */
};

/* The head's copy: panels, then bounds. */
struct image_head {
    struct image_tensor copy;
    float norm_max; /* as in struct head_low */
    uint32_t zero;
};

enum quantization {
    QUANT_BINARY = 0,
    QUANT_TERNARY,
    QUANT_INT4,
    QUANT_INT8,
    QUANT_F16,
    QUANT_BF16,
    QUANT_F32,
    QUANT_MIXED, /* several */
    QUANT_OTHER, /* one that has no name but its formats */
    QUANT_GPTQ,  /* QUANT_INT4, and the file says that it was made so */
    QUANT_AWQ,   /* QUANT_INT8, likewise */
    QUANTS,
};

struct image_meta {
    struct shape shape;
    uint64_t n_params;
    uint64_t gguf_bytes;
    uint32_t quantization; /* enum quantization */
    uint32_t chat;         /* enum chat_template */
    uint32_t has_chat;
    int32_t top_k;
    float temperature, top_p, min_p;
    uint32_t name_at, formats_at; /* into the strings */
    /* Counts of the arrays that follow, in this order. */
    uint32_t n_inv_freq; /* double */
    uint32_t
        n_tensors;    /* struct image_tensor: globals, then layer by layer, in the order of roles */
    uint32_t n_infos; /* struct image_info */
    uint32_t n_string_bytes;
    uint32_t zero;
    struct image_head head_low;
};

_Static_assert(sizeof(struct shape) % 8 == 0, "no gap behind it");
_Static_assert(sizeof(struct image_meta) % 8 == 0, "arrays of 8-byte members follow");

struct image_info {
    uint32_t name_at;
    uint32_t id;     /* GGUF's number of the format */
    uint32_t format; /* enum format, or FORMATS where this engine cannot tell */
    uint32_t zero;
    uint64_t n_cols, n_rows;
};

/** image_tensor_count() - entries of the tensor table of a model with this many layers */
static inline size_t image_tensor_count(uint32_t n_layer)
{
    return ROLES_GLOBAL + (size_t)n_layer * ROLES_LAYER;
}

/** image_role() - what entry i of the table is for */
static inline enum role image_role(size_t i)
{
    return (enum role)(i < ROLES_GLOBAL ? i : ROLES_GLOBAL + (i - ROLES_GLOBAL) % ROLES_LAYER);
}

#endif
