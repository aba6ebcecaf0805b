/* The names a client may use for the quantization it expects. Pure code. */
#ifndef BROKER_QUANTIZATION_H
#define BROKER_QUANTIZATION_H

#include <stdbool.h>

/** quantization_known() - a name, an alias or a GGUF type */
bool quantization_known(const char *name);

/** quantization_names() - all of them, for a message */
const char *quantization_names(void);

/**
 * quantization_fits() - is `expected` what a model has?
 * @quantization: of the model, as the engine names it ("binary")
 * @formats:      its tensor types, the weights' first ("Q1_0+Q8_0")
 */
bool quantization_fits(const char *expected, const char *quantization, const char *formats);

#endif
