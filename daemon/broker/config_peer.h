/* One key of a [peer NAME] section: checked and put into its rule. Pure code. */
#ifndef BROKER_CONFIG_PEER_H
#define BROKER_CONFIG_PEER_H

#include <stddef.h>

#include "base/compiler.h"
#include "daemon/broker/policy.h"

enum { CONFIG_PEER_OK = 0, CONFIG_PEER_BAD };

/**
 * config_peer_key() - take over one key
 * @ret_text: on CONFIG_PEER_BAD what is wrong, without the line
 *
 * Return: CONFIG_PEER_OK, CONFIG_PEER_BAD or -ENOMEM.
 */
MUST_USE int config_peer_key(struct policy_rule *r, const char *name, const char *value,
                             char *ret_text, size_t room);

#endif
