/* Who may do what, and how much of it. The kernel says who a peer is (uid, gids, and by its cgroup
 * the unit it belongs to); the configuration's [peer ...] sections say what those may do. Pure
 * code: no socket, no clock. */
#ifndef BROKER_POLICY_H
#define BROKER_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "base/strview.h"
#include "daemon/broker/bucket.h"
#include "ipc/message.h"

enum {
    RIGHT_USE = 1u << 0,     /* generate, list, ps, status */
    RIGHT_LOAD = 1u << 1,    /* load a model by hand */
    RIGHT_UNLOAD = 1u << 2,  /* unload one */
    RIGHT_CANCEL = 1u << 3,  /* cancel requests of other users */
    RIGHT_METRICS = 1u << 4, /* read the metrics; in ps see what others do */
    RIGHTS_ALL = RIGHT_USE | RIGHT_LOAD | RIGHT_UNLOAD | RIGHT_CANCEL | RIGHT_METRICS,
};

#define POLICY_RULES_MAX 256u
#define POLICY_GIDS_MAX 1024u /* groups of one peer that count; more are not looked at */
#define POLICY_WEIGHT_MAX 100u
#define UNIT_MAX 255u /* bytes of a unit's name, as systemd bounds it */

/* Whom a section names: [peer default], [peer gid.44], [peer uid.1000], [peer unit.NAME]; in the
 * order in which they decide, the last one first. */
enum peer_kind { PEER_DEFAULT = 0, PEER_GID, PEER_UID, PEER_UNIT, PEER_KINDS };

/* What a section may say. A key that is not said is decided by the next kind of section. */
enum peer_key {
    PEER_RIGHTS,
    PEER_CLASS,
    PEER_WEIGHT,
    PEER_MODELS,
    PEER_REQUESTS_PER_S,
    PEER_TOKENS_PER_S,
    PEER_BURST_S,
    PEER_TOKENS_PER_DAY,
    PEER_RUNNING_MAX,
    PEER_QUEUE_MAX,
    PEER_KEYS,
};

struct policy_rule {
    enum peer_kind kind;
    uint32_t id;                /* of a uid or gid */
    char *unit;                 /* owned: of a unit; else NULL */
    unsigned said;              /* bits of enum peer_key */
    char *models;               /* owned: names with a blank between them, or "*" */
    uint64_t number[PEER_KEYS]; /* all but the models; rights as RIGHT_*, the class as its number */
};

struct policy {
    struct policy_rule *rules; /* owned */
    size_t n_rules;
};

/* Who a peer is. */
struct policy_peer {
    uid_t uid;
    const gid_t *gids; /* borrowed */
    size_t n_gids;
    const char *unit; /* borrowed; "": none of its own */
};

/* What the policy says about one peer. */
struct grant {
    bool known;                /* false: 401 */
    unsigned rights;           /* RIGHT_*; a missing one is 403 */
    enum request_class class_; /* the highest; above it is 403 */
    uint32_t weight;           /* 1..POLICY_WEIGHT_MAX */
    struct rates rates;
    uint32_t running_max; /* requests in the engine at once; 0: as many as run at all */
    bool has_queue_max;   /* else the bound for everybody counts */
    uint64_t queue_max;   /* requests that wait */
};

void policy_deinit(struct policy *p); /* a zeroed one is fine, and is a policy without rules */

/** policy_rights_parse() - "use, load" or "all" or "none"; false: not a list of rights */
MUST_USE bool policy_rights_parse(const char *text, unsigned *ret_rights);

/**
 * policy_rule() - the rule of a section's name ("uid.1000"), made when absent
 *
 * Return: 0; -EINVAL: no such name; -E2BIG: more than POLICY_RULES_MAX; -ENOMEM. The pointer holds
 * until the next call.
 */
MUST_USE int policy_rule(struct policy *p, const char *name, struct policy_rule **ret);

/**
 * policy_grant() - what the policy says about a peer, key by key
 *
 * A rule for its unit decides; else one for its uid; else those for its groups together (rights and
 * models add up, of the others the largest counts, and "no limit" is the largest); else the default
 * rule; else: use, class high, weight 1, every model, no limits. But root and the daemon's own user
 * (@own) have all rights, classes and models unless a rule for their uid or unit says otherwise.
 */
struct grant policy_grant(const struct policy *p, uid_t own, const struct policy_peer *peer);

/** policy_model_allowed() - may this peer use the model? By the same order. */
MUST_USE bool policy_model_allowed(const struct policy *p, uid_t own,
                                   const struct policy_peer *peer, struct strview model);

#endif
