/* A line of a log: made whole in memory, so that one write() carries it. */
#ifndef BASE_LOGLINE_H
#define BASE_LOGLINE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOGLINE_MAX 512u   /* bytes, its newline included; what is longer is cut */
#define LOGLINE_PLAIN (-1) /* no priority in front */
#define LOGLINE_PRIORITY_MAX 7

/**
 * logline_names() - does $JOURNAL_STREAM name this file?
 * @stream: "DEVICE:INODE" in decimal, or NULL
 *
 * The service manager sets the variable for what it starts, and children inherit it: only when it
 * names our own stderr does the journal read our lines and their priorities.
 */
bool logline_names(const char *stream, uint64_t device, uint64_t inode);

/** logline_journal() - does the journal read our standard error? */
bool logline_journal(void);

/**
 * logline_make() - a line with its newline; control characters in it are written as '?'
 * @line:     room for LOGLINE_MAX bytes; not NUL-terminated
 * @priority: 0..LOGLINE_PRIORITY_MAX: "<N>" in front; or LOGLINE_PLAIN
 * @who:      stands before the text, "onebitd: " or nothing
 *
 * Return: the bytes of the line.
 */
size_t logline_make(char *line, int priority, const char *who, const char *fmt, va_list args)
    __attribute__((format(printf, 4, 0)));

#endif
