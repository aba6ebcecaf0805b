/* What clients make the broker hold: output that they have not taken, frames that have not come
 * whole. Both have a bound for all clients together; past it somebody has to go: the largest
 * connection of the identity most over its share, and nobody else. */
#ifndef BROKER_CONN_MEMORY_H
#define BROKER_CONN_MEMORY_H

#include <stdint.h>

struct broker;
struct conn;

enum conn_memory { MEMORY_OUTPUT, MEMORY_INPUT, MEMORIES };

/** conn_charge() - the connection now holds so many bytes of a kind; the ledgers follow */
void conn_charge(struct conn *c, enum conn_memory kind, uint64_t bytes);

/**
 * conn_most_over() - the largest connection of the identity most over its share (share.h)
 * @kinds: SHARE_OUTPUT, SHARE_INPUT or both: what counts
 * @least: bytes of these kinds; connections with less are passed over, and so is @keep
 *
 * NULL: there is none. One that has no identity comes last.
 */
struct conn *conn_most_over(const struct broker *b, unsigned kinds, uint64_t least,
                            const struct conn *keep);

/**
 * conn_to_shed() - past the bound: who has to go; NULL: nobody
 *
 * An identity's share grows with its weight. Call again after conn_charge(..., 0) of the one given,
 * until NULL. Cost: one walk over identities and connections, and only past the bound.
 */
struct conn *conn_to_shed(const struct broker *b, enum conn_memory kind);

#endif
