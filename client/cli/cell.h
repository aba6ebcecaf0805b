/* A value of a daemon's answer as text for people. */
#ifndef CLIENT_CLI_CELL_H
#define CLIENT_CLI_CELL_H

#include <stddef.h>

#include <jansson.h>

#define CELL_BYTES_MAX 512u

/**
 * cell_text() - a value as one line, harmless for a terminal
 *
 * The key's ending (bytes, _us, _ms, _s) tells the unit of a number; created_s and used_s are
 * moments. An absent value is "-".
 *
 * Return: malloc'ed, NULL without memory.
 */
char *cell_text(const char *key, const json_t *value);

/** cell_bytes() - "12.3 MB" */
void cell_bytes(char *ret, size_t n, double bytes);

/** cell_moment() - "3 min ago", or the local date and time when that is two days ago or more, or
 * to come
 * @unix_s, @now_s: seconds since 1970 */
void cell_moment(char *ret, size_t n, double unix_s, double now_s);

/** cell_label() - a key without the unit that cell_text() writes: "uptime" of "uptime_ms" */
void cell_label(char *ret, size_t n, const char *key);

/** cell_seconds() - "4.20 s", "17 min", "3.5 h" */
void cell_seconds(char *ret, size_t n, double s);

#endif
