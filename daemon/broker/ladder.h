/* The memory ladder: what the broker does as memory runs short, cheap before costly. */
#ifndef BROKER_LADDER_H
#define BROKER_LADDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "daemon/broker/pressure.h"
#include "ipc/seam.h"

struct broker;
struct memory_look;
struct request;

/* In the order in which they are taken. */
enum ladder_act {
    LADDER_ANSWERS,  /* kept answers */
    LADDER_HEAP,     /* the engine's scratch, free memory of both processes' allocators */
    LADDER_KV_SOME,  /* idle KV, until a tenth of the budget is free by it */
    LADDER_KV_ALL,   /* all idle KV */
    LADDER_UNLOAD,   /* a model that nobody uses */
    LADDER_QUEUED,   /* waiting requests past the halved bounds, of whom is most over his share */
    LADDER_PAUSE,    /* low, then normal, at a step border */
    LADDER_PAGE_OUT, /* the pages of a model that nobody uses */
    LADDER_EVICT,    /* every request but the oldest high one */
    LADDER_CONNS,    /* the largest connection of the identity most over its share */
    LADDER_ACTS
};

struct ladder_count {
    uint64_t n, bytes; /* times; bytes that were in memory before and not after, as measured */
};

struct ladder {
    struct pressure pressure;
    enum request_class lowest;     /* paused are the classes below, from level pause on */
    uint64_t done_ns[LADDER_ACTS]; /* when each was last done; 0: never at this stay */
    uint64_t unloaded_ns;          /* when a model was last unloaded; 0: never */
    uint64_t some_bytes;           /* of KV that LADDER_KV_SOME has asked for in this stay */

    /* The action whose effect has not been measured yet. */
    bool open, answers; /* there is one; the engine will say what it came to */
    enum ladder_act act;
    char what[96];             /* of it, for the log */
    enum pressure_level level; /* that it was done for */
    uint64_t begun_ns;
    uint64_t resident; /* of both processes, before it */

    struct ladder_count counts[LADDER_ACTS];
    uint64_t n_rises;
    uint64_t engine_killed_ns; /* when the engine was last killed from outside; 0: settled */
};

/** ladder_look() - the sensors were looked at: every 250 ms while there is work or pressure, else
 * every second, and when a sensor calls. @look: borrowed for the call */
void ladder_look(struct broker *b, const struct memory_look *look);

/** ladder_level() - as of the last look */
enum pressure_level ladder_level(const struct broker *b);
/** ladder_act_name() - for metrics and logs. Static. */
const char *ladder_act_name(enum ladder_act act);

/** ladder_admit() - may a new request begin to wait? Else it has been refused, and is gone. */
MUST_USE bool ladder_admit(struct request *r);
/** ladder_refuse() - `overloaded` for want of memory, until level @to can be reached at the
 * earliest; @why: what, for its text */
void ladder_refuse(struct request *r, enum pressure_level to, const char *why);
/** ladder_queue_max() - of a bound on what waits, in requests or bytes: what it is at this level */
uint64_t ladder_queue_max(const struct broker *b, uint64_t most);
/** ladder_keeps() - may something new be kept or computed for later? */
bool ladder_keeps(const struct broker *b);

/** ladder_gave() - the engine has given back */
void ladder_gave(struct broker *b, const struct seam_gave *g);
/** ladder_engine_up() - a new engine hears how things stand */
void ladder_engine_up(struct broker *b);
/** ladder_engine_gone() - @killed: by a SIGKILL that was not ours */
void ladder_engine_gone(struct broker *b, bool killed);

/* ---- ladder_acts.c ---- */

enum ladder_done { LADDER_NOTHING, LADDER_DONE, LADDER_ASKED };

/** ladder_do() - do it, unless there is nothing to be had by it; l->what says what
 * Return: LADDER_ASKED: the engine will answer. */
enum ladder_done ladder_do(struct broker *b, enum ladder_act act, uint64_t now_ns);
/** ladder_throttle() - the scheduler and the engine have what the level asks for */
void ladder_throttle(struct broker *b);

#endif
