/* share: bytes by weight. Whoever is furthest over his part of a sum is whoever has most for his
 * weight, so neither the sum nor the number of the others is needed. */
#include "daemon/broker/share.h"

#include <stddef.h>

#include "daemon/broker/identity.h"

double share_taken(const struct identity *id, unsigned kinds)
{
    if (!id) {
        return 0;
    }
    const uint64_t bytes = (kinds & SHARE_OUTPUT ? id->output_bytes : 0) +
                           (kinds & SHARE_INPUT ? id->input_bytes : 0) +
                           (kinds & SHARE_QUEUE ? id->queue_bytes : 0) +
                           (kinds & SHARE_KV ? id->kv_bytes : 0);
    return (double)bytes / id->account.weight;
}
