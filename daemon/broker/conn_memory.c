/* conn_memory: three sums of the same bytes (connection, identity, all), and the choice of who
 * goes. */
#include "daemon/broker/conn_memory.h"

#include <stddef.h>

#include "daemon/broker/broker.h"
#include "daemon/broker/conn.h"
#include "daemon/broker/identity.h"
#include "daemon/broker/share.h"

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

static uint64_t held(const struct conn *c, unsigned kinds)
{
    return (kinds & SHARE_OUTPUT ? c->held[MEMORY_OUTPUT] : 0) +
           (kinds & SHARE_INPUT ? c->held[MEMORY_INPUT] : 0);
}

struct conn *conn_most_over(const struct broker *b, unsigned kinds, uint64_t least,
                            const struct conn *keep)
{
    struct conn *worst = NULL;
    double most = 0;

    list_for_each (c, next, &b->conns, struct conn, link) {
        const double over = share_taken(c->identity, kinds);
        const uint64_t own = held(c, kinds);
        if (c != keep && own >= least &&
            (!worst || over > most || (over == most && own > held(worst, kinds)))) {
            worst = c;
            most = over;
        }
    }
    return worst;
}

struct conn *conn_to_shed(const struct broker *b, enum conn_memory kind)
{
    const unsigned kinds = kind == MEMORY_OUTPUT ? SHARE_OUTPUT : SHARE_INPUT;

    return b->held[kind] > bound(b, kind) ? conn_most_over(b, kinds, 1, NULL) : NULL;
}
