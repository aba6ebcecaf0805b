/* log_gate: windows of time, a number of lines in each, and a count of the rest. */
#include "daemon/broker/log_gate.h"

uint64_t log_gate_close(struct log_gate *g, uint64_t now_ns, bool force)
{
    const uint64_t more = g->more;

    if (!force && now_ns < g->until_ns) {
        return 0;
    }
    *g = (struct log_gate){0};
    return more;
}

bool log_gate_pass(struct log_gate *g, uint64_t now_ns, uint64_t *ret_more)
{
    *ret_more = log_gate_close(g, now_ns, false);
    if (g->until_ns == 0) {
        g->until_ns = now_ns + LOG_GATE_NS;
    }
    if (g->n >= LOG_GATE_LINES) {
        g->more++;
        return false;
    }
    g->n++;
    return true;
}
