/* policy: from a peer's uid and groups to its rights. */
#include "daemon/broker/policy.h"

#include <errno.h>
#include <string.h>

static const struct {
    const char *name;
    unsigned right;
} rights_table[] = {
    {"use", RIGHT_USE},       {"load", RIGHT_LOAD}, {"unload", RIGHT_UNLOAD},
    {"cancel", RIGHT_CANCEL}, {"all", RIGHTS_ALL},
};

void policy_init(struct policy *p)
{
    *p = (struct policy){.default_rights = RIGHT_USE};
}

static bool right_by_name(const char *name, size_t n, unsigned *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(rights_table); i++) {
        if (strlen(rights_table[i].name) == n && memcmp(rights_table[i].name, name, n) == 0) {
            *ret = rights_table[i].right;
            return true;
        }
    }
    return false;
}

bool policy_rights_parse(const char *text, unsigned *ret_rights)
{
    unsigned rights = 0;

    if (strcmp(text, "none") == 0) {
        *ret_rights = 0;
        return true;
    }
    for (const char *at = text;;) {
        unsigned right;

        at += strspn(at, " \t");
        const size_t n = strcspn(at, ", \t");
        if (!right_by_name(at, n, &right)) {
            return false;
        }
        rights |= right;
        at += n;
        at += strspn(at, " \t");
        if (*at == '\0') {
            break;
        }
        if (*at++ != ',') {
            return false;
        }
    }
    *ret_rights = rights;
    return true;
}

int policy_add(struct policy *p, bool group, uint32_t id, unsigned rights)
{
    for (size_t i = 0; i < p->n_rules; i++) {
        if (p->rules[i].group == group && p->rules[i].id == id) {
            return -EEXIST;
        }
    }
    if (p->n_rules == POLICY_RULES_MAX) {
        return -E2BIG;
    }
    p->rules[p->n_rules++] = (struct policy_rule){.group = group, .id = id, .rights = rights};
    return 0;
}

static bool among(const gid_t *gids, size_t n_gids, uint32_t id)
{
    for (size_t i = 0; i < n_gids; i++) {
        if (gids[i] == id) {
            return true;
        }
    }
    return false;
}

struct grant policy_grant(const struct policy *p, uid_t own, uid_t uid, const gid_t *gids,
                          size_t n_gids)
{
    struct grant g = {0};

    for (size_t i = 0; i < p->n_rules; i++) {
        const struct policy_rule *rule = &p->rules[i];

        if (!rule->group && rule->id == uid) {
            return (struct grant){.known = true, .rights = rule->rights};
        }
        if (rule->group && among(gids, n_gids, rule->id)) {
            g.known = true;
            g.rights |= rule->rights;
        }
    }
    if (uid == 0 || uid == own) {
        return (struct grant){.known = true, .rights = RIGHTS_ALL};
    }
    if (g.known) {
        return g;
    }
    return (struct grant){.known = p->default_rights != 0, .rights = p->default_rights};
}
