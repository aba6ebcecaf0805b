/* Who may do what. The kernel says who a peer is (uid, gids); the configuration says what those may
 * do. Pure code: no socket, no clock. */
#ifndef BROKER_POLICY_H
#define BROKER_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"

enum {
    RIGHT_USE = 1u << 0,    /* generate, list, ps, status */
    RIGHT_LOAD = 1u << 1,   /* load a model by hand */
    RIGHT_UNLOAD = 1u << 2, /* unload one */
    RIGHT_CANCEL = 1u << 3, /* cancel requests of other users */
    RIGHTS_ALL = RIGHT_USE | RIGHT_LOAD | RIGHT_UNLOAD | RIGHT_CANCEL,
};

#define POLICY_RULES_MAX 256u
#define POLICY_GIDS_MAX 1024u /* groups of one peer that count; more are not looked at */

struct policy_rule {
    bool group; /* id is a gid, else a uid */
    uint32_t id;
    unsigned rights; /* RIGHT_* */
};

struct policy {
    struct policy_rule rules[POLICY_RULES_MAX];
    size_t n_rules;
    bool has_default;        /* said in the file, 'none' included */
    unsigned default_rights; /* of a peer that no rule names; 0: such a peer is unknown */
};

/* What the policy says about one peer. */
struct grant {
    bool known;      /* false: 401 */
    unsigned rights; /* RIGHT_*; a missing one is 403 */
};

/** policy_init() - no rules; whoever can open the socket may use it */
void policy_init(struct policy *p);

/** policy_rights_parse() - "use, load" or "all" or "none"; false: not a list of rights */
MUST_USE bool policy_rights_parse(const char *text, unsigned *ret_rights);

/** policy_add() - 0, -EEXIST (the rule is there already) or -E2BIG */
MUST_USE int policy_add(struct policy *p, bool group, uint32_t id, unsigned rights);

/**
 * policy_grant() - a rule for the uid decides alone; else root and the daemon's own user may do
 * everything; else the rules for the peer's groups add up; else the default
 */
struct grant policy_grant(const struct policy *p, uid_t own, uid_t uid, const gid_t *gids,
                          size_t n_gids);

#endif
