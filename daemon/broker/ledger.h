/* The ledger: which bytes of both processes are whose. The engine's part is what the kernel says is
 * in memory, as it was last asked; the broker's own is counted as it comes and goes. */
#ifndef BROKER_LEDGER_H
#define BROKER_LEDGER_H

#include <stdint.h>

#include "ipc/seam.h"

struct broker;

/* Sums over all models, and what belongs to none. Bytes. */
struct ledger {
    uint64_t budget, charged;                  /* what may be planned with (0: no limit is known),
                                                * and what is */
    uint64_t mapped, private_, huge, resident; /* of weights, as in struct seam_memory */
    uint64_t kv_resident, scratch_resident;
    uint64_t heap;            /* of the engine's process, since it said hello */
    uint64_t programs;        /* of the engine's process when it said hello: code, stacks, tables */
    uint64_t engine;          /* of these, what the engine's process has by this account */
    uint64_t engine_resident; /* what it has by the kernel's; 0: not known */
};

/** ledger_hello() - an engine has come up */
void ledger_hello(struct broker *b);
/** ledger_memory() - its answer to ledger_ask() */
void ledger_memory(struct broker *b, const struct seam_memory *m);
/** ledger_ask() - have it look, unless it did a quarter of a second ago. What it says comes later:
 * whoever wants it as of now asks again. */
void ledger_ask(struct broker *b);
/** ledger_take() - as far as it is known */
void ledger_take(const struct broker *b, struct ledger *ret);
/** ledger_residents() - bytes of both processes in memory now, by the kernel's account; 0: not
 * known */
uint64_t ledger_residents(const struct broker *b);

#endif
