/* identity: a table of who is served, bounded, with entries that vanish when nothing would be lost.
 *
 * Salts live apart and longer: they cost 40 bytes and a name, and whoever comes back within the
 * hour should find what it computed. */
#include "daemon/broker/identity.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void identities_init(struct identities *t)
{
    *t = (struct identities){0};
    list_init(&t->all);
    salts_init(&t->salts);
}

static void forget(struct identities *t, struct identity *id)
{
    assert(sched_account_idle(&id->account));
    list_remove(&id->link);
    t->n--;
    free(id);
}

void identities_deinit(struct identities *t)
{
    list_for_each (id, next, &t->all, struct identity, link) {
        forget(t, id);
    }
    salts_deinit(&t->salts);
}

struct identity *identity_find(const struct identities *t, uid_t uid, const char *unit)
{
    list_for_each (id, next, &t->all, struct identity, link) {
        if (id->uid == uid && strcmp(id->unit, unit) == 0) {
            return id;
        }
    }
    return NULL;
}

static bool make_room(struct identities *t)
{
    struct identity *oldest = NULL;

    if (t->n < IDENTITIES_MAX) {
        return true;
    }
    list_for_each (id, next, &t->all, struct identity, link) {
        if (id->n_conns == 0 && (!oldest || id->used_ns < oldest->used_ns)) {
            oldest = id;
        }
    }
    if (oldest) {
        forget(t, oldest);
    }
    return oldest != NULL;
}

static struct identity *identity_new(struct identities *t, uid_t uid, const char *unit)
{
    struct identity *id = make_room(t) ? calloc(1, sizeof(*id)) : NULL;

    if (!id) {
        return NULL;
    }
    id->uid = uid;
    strview_copy(id->unit, sizeof(id->unit), strview_of(unit));
    sched_account_init(&id->account);
    gate_line_init(&id->line);
    if (!salts_get(&t->salts, uid, id->unit, id->salt)) {
        free(id);
        return NULL;
    }
    list_push(&t->all, &id->link);
    t->n++;
    return id;
}

struct identity *identity_get(struct identities *t, uid_t uid, const char *unit,
                              const struct grant *grant, const struct moment *at)
{
    struct identity *id = identity_find(t, uid, unit);

    if (!id && !(id = identity_new(t, uid, unit))) {
        return NULL;
    }
    id->n_conns++;
    identity_grant(id, grant, at);
    return id;
}

void identity_put(struct identity *id, const struct moment *at)
{
    assert(id->n_conns > 0);
    id->n_conns--;
    id->used_ns = at->now_ns;
}

void identity_grant(struct identity *id, const struct grant *grant, const struct moment *at)
{
    id->grant = *grant;
    id->account.weight = grant->weight;
    id->account.running_max = grant->running_max;
    buckets_set(&id->line.own, &grant->rates, at);
}

uint64_t identities_sweep(struct identities *t, const struct moment *at)
{
    uint64_t nearest = UINT64_MAX;

    list_for_each (id, next, &t->all, struct identity, link) {
        const uint64_t idle = at->now_ns > id->used_ns ? at->now_ns - id->used_ns : 0;
        uint64_t again = IDENTITY_IDLE_NS;

        if (id->n_conns > 0) {
            continue;
        }
        if (idle < IDENTITY_IDLE_NS) {
            again = IDENTITY_IDLE_NS - idle;
        } else if (gate_line_idle(&id->line, at)) {
            forget(t, id);
            continue;
        }
        nearest = again < nearest ? again : nearest;
    }
    return nearest;
}
