/* The three standard descriptors, for programs that may be started without some of them. */
#ifndef BASE_STDFDS_H
#define BASE_STDFDS_H

#include <stdbool.h>

#include "base/compiler.h"

/**
 * stdfds_reserve() - give each missing standard descriptor a place that refuses reading and writing
 *
 * Else the next socket or file opened would become standard input, output or error, and be written
 * to. First thing in main(). Return: 0 or a negative errno.
 */
MUST_USE int stdfds_reserve(void);

/** stdfds_out_writable() - was standard output given, and for writing? */
bool stdfds_out_writable(void);

#endif
