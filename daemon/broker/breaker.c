/* breaker: closed, open, and half open with one probe on its way. */
#include "daemon/broker/breaker.h"

#define PROBE_WAIT_NS UINT64_C(1000000000) /* a probe takes a request's time; ask again in 1 s */

enum breaker_verdict breaker_ask(struct breaker *b, uint64_t now_ns, uint64_t *ret_wait_ns)
{
    if (!b->open) {
        return BREAKER_PASS;
    }
    if (now_ns < b->until_ns) {
        *ret_wait_ns = b->until_ns - now_ns;
        return BREAKER_REFUSE;
    }
    if (b->probing) {
        *ret_wait_ns = PROBE_WAIT_NS;
        return BREAKER_REFUSE;
    }
    b->probing = true;
    return BREAKER_PROBE;
}

bool breaker_success(struct breaker *b, bool probe)
{
    if (!b->open) {
        b->faults = 0;
        return false;
    }
    if (!probe) {
        return false;
    }
    *b = (struct breaker){0};
    return true;
}

bool breaker_fault(struct breaker *b, const struct breaker_limits *limits, bool probe,
                   uint64_t now_ns)
{
    if (b->open && !probe) {
        return false;
    }
    if (b->faults < UINT64_MAX) {
        b->faults++;
    }
    b->probing = false;
    if (limits->faults == 0) {
        *b = (struct breaker){0};
        return false;
    }
    if (b->open || b->faults >= limits->faults) {
        b->open = true;
        b->until_ns = now_ns + limits->open_ns;
        return true;
    }
    return false;
}

void breaker_no_word(struct breaker *b, bool probe)
{
    if (probe) {
        b->probing = false;
    }
}

bool breaker_calm(const struct breaker *b)
{
    return !b->open && b->faults == 0;
}
