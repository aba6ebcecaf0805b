/* What the formats of a model's matrices add up to: the names that clients know it by. */
#ifndef ENGINE_PACK_FACTS_H
#define ENGINE_PACK_FACTS_H

#include <stddef.h>

#include "engine/format.h"
#include "engine/image.h"

struct image_parts;

#define PACK_FORMATS_BYTES ((size_t)FORMATS * 12 + 20) /* all names, with a plus, and a NUL */

/** pack_quantization() - of the layers' matrices; the embedding and head do not count. Two-bit
 * formats are ternary only when no weight of them is +2, so the codes are looked at. */
enum quantization pack_quantization(const struct image_parts *p);

/** pack_made_as() - the name beyond its family that a file's key onebit.quantize.method gives: int4
 * by gptq, int8 by awq; otherwise q */
enum quantization pack_made_as(const struct gguf *g, enum quantization q);

/** pack_formats() - "I2_S+F16": the layers' formats, the one with most bytes first, then those that
 * only the embedding and head have; last "binary-activations" or "int8-activations", where the
 * inputs are not those that the formats take */
void pack_formats(const struct image_parts *p, enum input_form inputs,
                  char ret[PACK_FORMATS_BYTES]);

#endif
