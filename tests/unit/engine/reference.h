/* A forward pass as the papers write it, in double precision and without a thought for speed: what the
 * engine's graphs are held to. It reads the GGUF itself and shares with the engine only the reader of
 * the file and the decoders of weight formats, which have tests of their own. */
#ifndef TESTS_UNIT_ENGINE_REFERENCE_H
#define TESTS_UNIT_ENGINE_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

/**
 * reference_logits() - every row of logits of one prompt
 * @gguf: (n_bytes) a sound model of an architecture that the engine reads
 * @ret:  (n_ids, vocabulary) written
 *
 * Weights are taken as their decoded values and activations are never quantized. Of rope scalings it
 * knows none and linear. Fails the test on a file that it cannot follow.
 */
void reference_logits(const uint8_t *gguf, size_t n_bytes, const int32_t *ids, size_t n_ids,
                      double *ret);

#endif
