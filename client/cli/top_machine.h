/* The board in one line: what its sensors say, of `status`. */
#ifndef CLIENT_CLI_TOP_MACHINE_H
#define CLIENT_CLI_TOP_MACHINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/**
 * machine_line() - temperature, what the heat holds back, the firmware's flags, power and energy
 *
 * @machine: the `machine` of a status; NULL is fine
 * @ret:     "" where the board has no such sensors
 * Return:   true when something of it slows the work down.
 */
bool machine_line(const json_t *machine, char *ret, size_t room);

#endif
