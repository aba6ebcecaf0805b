/* Can clients be told apart? */
#ifndef BROKER_USERNS_H
#define BROKER_USERNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

/** userns_users() - how many users a uid_map(5) of a user namespace has; pure */
uint64_t userns_users(const char *text, size_t n);

/**
 * userns_check() - whether this process sees its clients' users
 *
 * In a user namespace with a user or two (PrivateUsers=yes of a unit, before systemd 257) the
 * kernel shows every other client as 65534: all of them would share limits, sessions and cached
 * prompts. Said in the log. @service: a service manager started us for others; then that is
 * refused.
 *
 * Return: 0; -EPERM when it is refused.
 */
MUST_USE int userns_check(bool service);

#endif
