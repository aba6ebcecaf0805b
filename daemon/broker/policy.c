/* policy: from a peer's uid, groups and unit to what it may do.
 *
 * Every key is looked up by itself: a section that only sets a weight takes nothing away. Rules are
 * few and looked at when a peer connects, so they are a plain list. */
#include "daemon/broker/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/config_value.h"

static const struct {
    const char *name;
    unsigned right;
} rights_table[] = {
    {"use", RIGHT_USE},       {"load", RIGHT_LOAD},       {"unload", RIGHT_UNLOAD},
    {"cancel", RIGHT_CANCEL}, {"metrics", RIGHT_METRICS}, {"all", RIGHTS_ALL},
};

void policy_deinit(struct policy *p)
{
    for (size_t i = 0; i < p->n_rules; i++) {
        free(p->rules[i].unit);
        free(p->rules[i].models);
    }
    free(p->rules);
    *p = (struct policy){0};
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

/* ---- the rules ---- */

static bool unit_name_valid(const char *name)
{
    const size_t n = strlen(name);

    return n > 0 && n <= UNIT_MAX &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_.\\-@") ==
               n;
}

static bool rule_name_parse(const char *name, enum peer_kind *ret_kind, uint32_t *ret_id,
                            const char **ret_unit)
{
    uint64_t id;

    if (strcmp(name, "default") == 0) {
        *ret_kind = PEER_DEFAULT;
        return true;
    }
    if (strncmp(name, "unit.", 5) == 0) {
        *ret_kind = PEER_UNIT;
        *ret_unit = name + 5;
        return unit_name_valid(name + 5);
    }
    if (strncmp(name, "uid.", 4) != 0 && strncmp(name, "gid.", 4) != 0) {
        return false;
    }
    *ret_kind = name[0] == 'u' ? PEER_UID : PEER_GID;
    if (!value_uint(name + 4, &id) || id >= UINT32_MAX) {
        return false;
    }
    *ret_id = (uint32_t)id;
    return true;
}

int policy_rule(struct policy *p, const char *name, struct policy_rule **ret)
{
    struct policy_rule fresh = {0};
    const char *unit = NULL;

    if (!rule_name_parse(name, &fresh.kind, &fresh.id, &unit)) {
        return -EINVAL;
    }
    for (size_t i = 0; i < p->n_rules; i++) {
        struct policy_rule *r = &p->rules[i];
        if (r->kind == fresh.kind && r->id == fresh.id && (!unit || strcmp(r->unit, unit) == 0)) {
            *ret = r;
            return 0;
        }
    }
    if (p->n_rules == POLICY_RULES_MAX) {
        return -E2BIG;
    }
    struct policy_rule *more = realloc(p->rules, (p->n_rules + 1) * sizeof(*more));
    if (!more) {
        return -ENOMEM;
    }
    p->rules = more;
    if (unit) {
        const size_t n = strlen(unit) + 1;
        if (!(fresh.unit = malloc(n))) {
            return -ENOMEM;
        }
        memcpy(fresh.unit, unit, n);
    }
    more[p->n_rules] = fresh;
    *ret = &more[p->n_rules++];
    return 0;
}

/* ---- what they say ---- */

static bool among(const gid_t *gids, size_t n_gids, uint32_t id)
{
    for (size_t i = 0; i < n_gids; i++) {
        if (gids[i] == id) {
            return true;
        }
    }
    return false;
}

static bool applies(const struct policy_rule *r, const struct policy_peer *peer)
{
    switch (r->kind) {
    case PEER_UNIT:
        return strcmp(r->unit, peer->unit) == 0;
    case PEER_UID:
        return r->id == peer->uid;
    case PEER_GID:
        return among(peer->gids, peer->n_gids, r->id);
    default:
        return true;
    }
}

/* May everything unless a rule for its uid or unit says otherwise. */
static bool trusted(uid_t own, uid_t uid)
{
    return uid == 0 || uid == own;
}

static bool is_permission(enum peer_key key)
{
    return key == PEER_RIGHTS || key == PEER_CLASS || key == PEER_MODELS;
}

/* The kind of rule that decides a key, and *ret_n: how many such rules say it; 0: nobody does. */
static enum peer_kind decides(const struct policy *p, uid_t own, const struct policy_peer *peer,
                              enum peer_key key, size_t *ret_n)
{
    const enum peer_kind lowest =
        is_permission(key) && trusted(own, peer->uid) ? PEER_UID : PEER_DEFAULT;
    enum peer_kind best = lowest;
    size_t n = 0;

    for (size_t i = 0; i < p->n_rules; i++) {
        const struct policy_rule *r = &p->rules[i];

        if (!(r->said & 1u << key) || r->kind < best || !applies(r, peer)) {
            continue;
        }
        n = r->kind > best ? 1 : n + 1;
        best = r->kind;
    }
    *ret_n = n;
    return best;
}

/* Of two groups' words the more generous one; 0 means no limit where it is a limit. */
static uint64_t generous(enum peer_key key, uint64_t a, uint64_t b)
{
    switch (key) {
    case PEER_RIGHTS:
        return a | b;
    case PEER_REQUESTS_PER_S:
    case PEER_TOKENS_PER_S:
    case PEER_TOKENS_PER_DAY:
    case PEER_RUNNING_MAX:
        return a == 0 || b == 0 ? 0 : a > b ? a : b;
    default:
        return a > b ? a : b;
    }
}

/* The number that counts for a key, or @preset when nobody says it. */
static uint64_t number_of(const struct policy *p, uid_t own, const struct policy_peer *peer,
                          enum peer_key key, uint64_t preset)
{
    size_t n;
    const enum peer_kind kind = decides(p, own, peer, key, &n);
    uint64_t value = preset;
    bool any = false;

    for (size_t i = 0; n > 0 && i < p->n_rules; i++) {
        const struct policy_rule *r = &p->rules[i];

        if ((r->said & 1u << key) && r->kind == kind && applies(r, peer)) {
            value = any ? generous(key, value, r->number[key]) : r->number[key];
            any = true;
        }
    }
    return value;
}

static bool named(const struct policy *p, const struct policy_peer *peer)
{
    for (size_t i = 0; i < p->n_rules; i++) {
        if (p->rules[i].kind != PEER_DEFAULT && applies(&p->rules[i], peer)) {
            return true;
        }
    }
    return false;
}

struct grant policy_grant(const struct policy *p, uid_t own, const struct policy_peer *peer)
{
    const bool all = trusted(own, peer->uid);
    size_t n;
    struct grant g = {
        .rights = (unsigned)number_of(p, own, peer, PEER_RIGHTS, all ? RIGHTS_ALL : RIGHT_USE),
        .class_ = (enum request_class)number_of(p, own, peer, PEER_CLASS, CLASS_HIGH),
        .weight = (uint32_t)number_of(p, own, peer, PEER_WEIGHT, 1),
        .rates = {.requests_per_s = number_of(p, own, peer, PEER_REQUESTS_PER_S, 0),
                  .tokens_per_s = number_of(p, own, peer, PEER_TOKENS_PER_S, 0),
                  .burst_s = number_of(p, own, peer, PEER_BURST_S, RATES_BURST_S),
                  .tokens_per_day = number_of(p, own, peer, PEER_TOKENS_PER_DAY, 0)},
        .running_max = (uint32_t)number_of(p, own, peer, PEER_RUNNING_MAX, 0),
        .queue_max = number_of(p, own, peer, PEER_QUEUE_MAX, 0),
    };

    g.known = g.rights != 0 || named(p, peer);
    (void)decides(p, own, peer, PEER_QUEUE_MAX, &n);
    g.has_queue_max = n > 0;
    return g;
}

static bool lists(const char *models, struct strview model)
{
    for (const char *at = models; *at; at += strspn(at, " ")) {
        const size_t n = strcspn(at, " ");

        if ((n == 1 && *at == '*') || (n == model.n && memcmp(at, model.data, n) == 0)) {
            return true;
        }
        at += n;
    }
    return false;
}

bool policy_model_allowed(const struct policy *p, uid_t own, const struct policy_peer *peer,
                          struct strview model)
{
    size_t n;
    const enum peer_kind kind = decides(p, own, peer, PEER_MODELS, &n);

    for (size_t i = 0; n > 0 && i < p->n_rules; i++) {
        const struct policy_rule *r = &p->rules[i];

        if ((r->said & 1u << PEER_MODELS) && r->kind == kind && applies(r, peer) &&
            lists(r->models, model)) {
            return true;
        }
    }
    return n == 0;
}
