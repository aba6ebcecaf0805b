/* What the kernel's files about memory say: pure functions over their text, which may be anything,
 * since a sysroot's files are anybody's. Texts are strings; nothing is allocated. */
#ifndef BROKER_MEMORY_TEXT_H
#define BROKER_MEMORY_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

/* Time that tasks stood still for want of memory, microseconds since the machine started. */
struct memory_stall {
    uint64_t some_us, full_us;
};

/** text_number() - the decimal number that @text begins with, after blanks. False: there is none,
 * or it is too large: @ret is untouched. */
MUST_USE bool text_number(uint64_t *ret, const char *text);

/** text_keyed() - the number of the line that begins with @key and a blank or colon, as in
 * /proc/vmstat, memory.stat, memory.events, /proc/meminfo ("MemTotal:"). False: no such line. */
MUST_USE bool text_keyed(uint64_t *ret, const char *text, const char *key);

/** text_kilobytes() - text_keyed() in bytes, as /proc/meminfo has them */
MUST_USE bool text_kilobytes(uint64_t *ret, const char *text, const char *key);

/** text_stall() - the totals of a memory.pressure file; without a line "full" that is 0. False: it
 * is no such file. */
MUST_USE bool text_stall(struct memory_stall *ret, const char *text);

/** text_limit() - of a cgroup: UINT64_MAX for "max", for what is no number, and for version 1's
 * very large numbers that mean none */
uint64_t text_limit(const char *text);

/**
 * text_cgroup() - a process's cgroup, of /proc/PID/cgroup
 * @controller: "memory" for the hierarchy of version 1 that has it; "" for version 2
 * @room:       of @ret; a path that does not fit is none
 * Return: true when ret is a path that begins with '/' and has no ".." in it
 */
MUST_USE bool text_cgroup(char *ret, size_t room, const char *text, const char *controller);

/** text_major_faults() - of /proc/PID/stat, whatever the program calls itself */
MUST_USE bool text_major_faults(uint64_t *ret, const char *text);

/** text_base64() - decode; returns the number of bytes, or -1 when it is no base64 or does not fit.
 * @ret: (room) bytes, no NUL is added */
int text_base64(uint8_t *ret, size_t room, const char *text);

#endif
