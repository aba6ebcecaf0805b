/* How often lines of one kind may be logged. Pure code: time is an argument. */
#ifndef BROKER_LOG_GATE_H
#define BROKER_LOG_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

#define LOG_GATE_LINES 10u               /* in each window */
#define LOG_GATE_NS UINT64_C(5000000000) /* a window */

/* A zeroed one is open. */
struct log_gate {
    uint64_t until_ns; /* end of the window; 0: none has begun */
    uint32_t n;        /* lines in it */
    uint64_t more;     /* left out in it */
};

/**
 * log_gate_pass() - may a line be written now?
 * @ret_more: lines left out in the window before this one, to be told first; 0: none
 */
MUST_USE bool log_gate_pass(struct log_gate *g, uint64_t now_ns, uint64_t *ret_more);

/** log_gate_close() - the window's time is over (or @force): how many lines it left out; 0: none,
 * or not yet */
MUST_USE uint64_t log_gate_close(struct log_gate *g, uint64_t now_ns, bool force);

#endif
