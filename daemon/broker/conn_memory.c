/* conn_memory: three sums of the same bytes (connection, identity, all), and the choice of who
 * goes. */
#include "daemon/broker/conn_memory.h"

#include <stddef.h>

#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/identity.h"

static uint64_t *ledger(struct identity *id, enum conn_memory kind)
{
    return kind == MEMORY_OUTPUT ? &id->output_bytes : &id->input_bytes;
}

void conn_charge(struct conn *c, enum conn_memory kind, uint64_t bytes)
{
    if (c->identity) {
        *ledger(c->identity, kind) += bytes - c->held[kind]; /* wraps and unwraps */
    }
    c->broker->held[kind] += bytes - c->held[kind];
    c->held[kind] = bytes;
}

static uint64_t bound(const struct broker *b, enum conn_memory kind)
{
    return kind == MEMORY_OUTPUT ? b->config.output_total_bytes : b->config.input_total_bytes;
}

struct conn *conn_to_shed(const struct broker *b, enum conn_memory kind)
{
    const struct identity *worst = NULL;
    struct conn *victim = NULL;
    double most = 0;

    if (b->held[kind] <= bound(b, kind)) {
        return NULL;
    }
    list_for_each (id, next_id, &b->identities.all, struct identity, link) {
        const double over = (double)*ledger(id, kind) / id->account.weight;
        if (over > most) {
            most = over;
            worst = id;
        }
    }
    list_for_each (c, next, &b->conns, struct conn, link) {
        if (c->identity == worst && c->held[kind] > (victim ? victim->held[kind] : 0)) {
            victim = c;
        }
    }
    return victim;
}
