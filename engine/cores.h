/* What this process may compute on: CPUs, and the cores that they are. */
#ifndef ENGINE_CORES_H
#define ENGINE_CORES_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

/**
 * cores_count() - physical cores among the CPUs of a set
 * @sys: a folder with cpu0, cpu1, ...: /sys/devices/system/cpu
 *
 * CPUs of one core say so in topology/thread_siblings_list. One that says nothing is a core.
 */
unsigned cores_count(const char *sys, const cpu_set_t *set);

/**
 * cores_mark() - a number for the machine that a measurement of speed holds on
 * @cpuinfo: /proc/cpuinfo
 *
 * Of the kinds of CPU that it names (on x86 the model's name; on ARM implementer, part and the
 * like), not of clocks or flags.
 */
uint64_t cores_mark(const char *cpuinfo);

/**
 * cores_busy() - ticks that the CPUs of a set have spent on anybody's work since the system's start
 * @text: what /proc/stat says, NUL-terminated; changed
 *
 * Time stolen from a virtual machine counts. Return: false where none of the set is named.
 */
MUST_USE bool cores_busy(char *text, const cpu_set_t *set, uint64_t *ret);

#endif
