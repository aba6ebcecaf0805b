/* Tiny models with seeded random weights, written into memory: what the engine's tests run on. */
#ifndef TESTS_UNIT_ENGINE_TINY_H
#define TESTS_UNIT_ENGINE_TINY_H

#include "engine/engine.h"

#define TINY_VOCAB 264u /* three control tokens, the bytes, five words */

struct tiny {
    const char *arch;   /* llama, qwen2, qwen3, minicpm, bitnet, bitnet-b1.58 or bitnet-25 */
    const char *format; /* of the layers' matrices */
    const char *head;   /* of embedding and head */
    const char *const
        *each;        /* NULL, or formats that all matrices have in turn instead of these two;
                                ends with NULL */
    uint32_t n_layer; /* 0: TINY_LAYERS */
    bool untied;
    bool uneven;            /* heads and feed-forward wider than the embedding */
    bool scales;            /* a .scale tensor beside every matrix of a layer */
    const char *activation; /* hidden_activation, or NULL */
    const char *inputs;     /* onebit.activations, or NULL; "binary" brings its thresholds */
    float eps;              /* of the norms; 0: 1e-5 */
    const char *scaling;    /* rope.scaling.type, or NULL; longrope brings its factors */
    uint32_t n_ctx_old;     /* the original context of a scaling; 0: 64 */
    bool factors;           /* rope_freqs.weight */
    const char *skip_key, *skip_tensor; /* left out, or NULL */
    const char *extra_tensor;           /* an F32 vector of four more, or NULL */
    const char *extra_key;              /* a u32 key of one more, by its full name, or NULL */
    uint32_t extra_value;
    uint32_t n_vocab; /* rows of the embedding; 0: as many as there are tokens */
    uint32_t n_words; /* tokens besides TINY_VOCAB */
};

#define TINY_LAYERS 2u
#define TINY_CTX 256u
#define TINY_EMBEDDING_SCALE 3.0f /* of minicpm */
#define TINY_RESIDUAL_SCALE 0.6f
#define TINY_LOGIT_SCALE 2.5f

/** tiny_write() - a GGUF in a memfd that the caller closes; never fails */
int tiny_write(const struct tiny *t);

/** tiny_open() - the same, packed and opened; never fails */
struct model *tiny_open(const struct tiny *t);

/** tiny_random() - floats in (-1, 1) from a counter, the same everywhere */
float tiny_random(uint64_t i);

/** tiny_slurp() - a file's bytes, which the caller frees */
uint8_t *tiny_slurp(int fd, size_t *ret_n);

/** tiny_file() - a memfd of these bytes, at offset 0 */
int tiny_file(const void *data, size_t n);

#endif
