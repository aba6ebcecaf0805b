/* Who has more than a fair share. Whenever something of somebody's has to go for want of memory,
 * it is the one idea here that says whose: his who holds most bytes for his weight. */
#ifndef BROKER_SHARE_H
#define BROKER_SHARE_H

#include <stdint.h>

struct identity;

/* What of the ledger counts; bits. */
enum share_kind { SHARE_OUTPUT = 1, SHARE_INPUT = 2, SHARE_QUEUE = 4, SHARE_KV = 8 };

/** share_taken() - bytes of these kinds for each unit of its weight. The larger, the further it is
 * over its share. @id: NULL: nobody's, which is least; @kinds: of enum share_kind */
double share_taken(const struct identity *id, unsigned kinds);

#endif
