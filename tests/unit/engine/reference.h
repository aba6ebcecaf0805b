/* A forward pass as the papers write it, in double precision and without a thought for speed: what
 * the engine's graphs are held to. It reads the GGUF itself, keeps no cache and takes a whole
 * prompt at once; with the engine it shares only the reader of the file and the decoders of weight
 * formats, which have tests of their own.
 *
 * Architectures: llama, qwen2, qwen3, minicpm, bitnet, bitnet-b1.58, bitnet-25. */
#ifndef TESTS_UNIT_ENGINE_REFERENCE_H
#define TESTS_UNIT_ENGINE_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

enum reference_activations {
    REFERENCE_FLOATS, /* never quantized */
    REFERENCE_INT8,   /* as engine/NUMERICS.md has them for the format of each matrix */
};

/**
 * reference_logits() - every row of logits of one prompt
 * @gguf: (n_bytes) a sound model
 * @ret:  (n_ids, vocabulary) written
 * @ret_tie: (n_ids) how near a token's quantized activations came to a rounding tie, in int8 steps;
 *        0.5 when nothing was quantized. Where it is small, arithmetic that rounds otherwise may
 *        take another integer, and other logits from that token on. May be NULL.
 *
 * Fails the test on a file that it cannot follow.
 */
void reference_logits(const uint8_t *gguf, size_t n_bytes, const int32_t *ids, size_t n_ids,
                      enum reference_activations activations, double *ret, double *ret_tie);

#endif
