/* A value of a daemon's answer as text for people. */
#ifndef CLIENT_CLI_CELL_H
#define CLIENT_CLI_CELL_H

#include <stddef.h>

#include <jansson.h>

#define CELL_BYTES_MAX 512u

/**
 * cell_text() - a value as one line, harmless for a terminal
 *
 * The key's ending (bytes, _us, _ms, _s) tells the unit of a number. An absent value is "-".
 *
 * Return: malloc'ed, NULL without memory.
 */
char *cell_text(const char *key, const json_t *value);

/** cell_bytes() - "12.3 MB" */
void cell_bytes(char *ret, size_t n, double bytes);

/** cell_seconds() - "4.20 s", "17 min", "3.5 h" */
void cell_seconds(char *ret, size_t n, double s);

#endif
