/* Reading one value of the configuration. Pure code. */
#ifndef BROKER_CONFIG_VALUE_H
#define BROKER_CONFIG_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

/* Each is false when the text is no such value; *ret is then untouched. */
MUST_USE bool value_uint(const char *text, uint64_t *ret); /* decimal digits */
MUST_USE bool value_bytes(const char *text,
                          uint64_t *ret); /* digits and K, M or G (powers of 1024) */
MUST_USE bool value_octal(const char *text, uint64_t *ret); /* 0660 */
MUST_USE bool value_bool(const char *text, bool *ret);      /* yes no true false on off 1 0 */
MUST_USE bool value_number(const char *text, double *ret);  /* plain decimal: 0.7 */

#endif
