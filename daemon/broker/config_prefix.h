/* One key of a [prefix NAME] section: checked and put into its options. Pure code. */
#ifndef BROKER_CONFIG_PREFIX_H
#define BROKER_CONFIG_PREFIX_H

#include <stddef.h>

#include "base/compiler.h"
#include "daemon/broker/config.h"

enum { CONFIG_PREFIX_OK = 0, CONFIG_PREFIX_BAD };

/** config_prefix_enter() - the options of a section, made when absent; NULL: too many, or no plain
 * name */
struct prefix_options *config_prefix_enter(struct config *c, const char *name);

/**
 * config_prefix_key() - take over one key
 * @ret_text: on CONFIG_PREFIX_BAD what is wrong, without the line
 *
 * Return: CONFIG_PREFIX_OK, CONFIG_PREFIX_BAD or -ENOMEM.
 */
MUST_USE int config_prefix_key(struct prefix_options *p, const char *name, const char *value,
                               char *ret_text, size_t room);

#endif
