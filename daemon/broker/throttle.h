/* Less work at once, because memory or the temperature asks for it: each says what it wants, and
 * the strictest of it counts. */
#ifndef BROKER_THROTTLE_H
#define BROKER_THROTTLE_H

#include <stdint.h>

#include "ipc/message.h"

struct broker;
struct request;

enum throttle_who { THROTTLE_MEMORY, THROTTLE_HEAT, THROTTLES };

/* Zeroed: nothing is asked for. */
struct throttle_wish {
    enum request_class lowest; /* classes below are paused at a step border, and not started */
    uint32_t streams_cap;      /* that run at once, at most; 0: as configured */
    uint32_t threads;          /* that a step takes, at most; 0: as many as are best */
    uint32_t chunk_part; /* prompts get so many times less of a step's time; 0 and 1: all of it */
};

struct throttle {
    struct throttle_wish wishes[THROTTLES];
};

/** throttle_strictest() - of all that is asked for. Pure. */
struct throttle_wish throttle_strictest(const struct throttle *t);

/** throttle_reason() - why a class is paused: "memory", "heat"; NULL: it is not. Pure, static. */
const char *throttle_reason(const struct throttle *t, enum request_class class_);

/** throttle_set() - from now on this is what it wants; NULL: nothing. The scheduler has it with the
 * next plan, and clients of classes that are paused by it hear so. */
void throttle_set(struct broker *b, enum throttle_who who, const struct throttle_wish *wish);

/** throttle_apply() - the scheduler's limits were set anew */
void throttle_apply(struct broker *b);

/** throttle_tell() - a request of a class that is paused now: its client hears why it waits */
void throttle_tell(struct request *r);

#endif
