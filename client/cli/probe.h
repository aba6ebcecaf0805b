/* Small text files of /proc and /sys, read with bounds and below a root that a test can choose. */
#ifndef CLIENT_CLI_PROBE_H
#define CLIENT_CLI_PROBE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"

#define PROBE_BYTES_MAX                                                                            \
    ((size_t)64 << 10)      /* of one file; /proc/cpuinfo of many processors is cut */
#define PROBE_NAMES_MAX 64u /* of one folder */

struct probe {
    const char *root; /* borrowed; "" is the machine itself */
};

/**
 * probe_text() - the beginning of a file, ended with a NUL
 * @path: absolute; looked up below the root
 * @ret:  room for n bytes; "" when the file cannot be read
 *
 * Never waits: a FIFO or a terminal at path gives nothing.
 *
 * Return: 0, or a negative errno.
 */
int probe_text(const struct probe *p, const char *path, char *ret, size_t n);

/** probe_exists() - is there anything at path? */
bool probe_exists(const struct probe *p, const char *path);

/**
 * probe_each() - what matches a pattern of glob(7), absolute, below the root; at most
 * PROBE_NAMES_MAX
 * @each: gets the path without the root; false ends
 */
void probe_each(const struct probe *p, const char *pattern,
                bool (*each)(const struct probe *p, const char *path, void *user), void *user);

/** has_word() - is word one of those in text that blanks, tabs and newlines part? */
bool has_word(const char *text, const char *word);

#endif
