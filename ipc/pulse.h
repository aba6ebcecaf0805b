/* The pulse: one page that the runner writes and the broker reads, beside the seam. A runner that
 * is stuck sends nothing, so whether it works is not for messages to say.
 *
 * The broker makes the page and seals its size; the runner maps it once and only ever stores
 * numbers in it. The broker believes none of them: the worst that they can do is to have their
 * runner killed, or not. */
#ifndef IPC_PULSE_H
#define IPC_PULSE_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

enum pulse_phase {
    PULSE_IDLE,  /* waits for the broker */
    PULSE_ORDER, /* carries out what the broker said */
    PULSE_LOAD,  /* makes a loaded model ready */
    PULSE_STEP,
    PULSE_TUNE,
    PULSE_REPORT, /* waits for the broker to read */
    PULSE_PHASES,
};

struct pulse {
    _Atomic uint64_t beats;   /* one more with each piece of work: a layer, an order, a report */
    _Atomic uint64_t request; /* what it works for, the first of several; 0: for none */
    _Atomic uint32_t phase;   /* enum pulse_phase */
};

static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "two processes share these without a lock");

/** pulse_phase_name() - a word for people; also of a number that is no phase */
static inline const char *pulse_phase_name(uint32_t phase)
{
    static const char *const names[PULSE_PHASES] = {"idleness", "an order", "a load",
                                                    "a step",   "tuning",   "a report"};

    return phase < PULSE_PHASES ? names[phase] : "an unknown phase";
}

/* ---- the runner's side ---- */

static inline void pulse_beat(struct pulse *p)
{
    atomic_fetch_add_explicit(&p->beats, 1, memory_order_relaxed);
}

static inline void pulse_set(struct pulse *p, enum pulse_phase phase, uint64_t request)
{
    atomic_store_explicit(&p->request, request, memory_order_relaxed);
    atomic_store_explicit(&p->phase, phase, memory_order_relaxed);
    pulse_beat(p);
}

#endif
