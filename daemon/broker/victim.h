/* Which model makes room for another, and when. Pure: time and bytes come in, a verdict goes out.
 *
 * A model that is in memory is worth what it would take to load it again, as often as that is
 * likely to happen: (microseconds that its load took) x (requests of late) for each byte that it
 * gives back. The one that is worth least goes; never one that is pinned, and one that has work
 * only after that work has drained. */
#ifndef BROKER_VICTIM_H
#define BROKER_VICTIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "ipc/message.h"

#define USE_HALF_LIFE_S 600u /* after so long without requests a model is half as likely used */
#define STAY_LOADS 20u       /* a model stays so many times as long as its load took, at most ... */
#define SWAPS_MAX 120u       /* in a minute: what the window has room for */

/* How often a model is asked for. */
struct use {
    double n;       /* requests, decayed, as of at_ns */
    uint64_t at_ns; /* monotonic */
};

/** use_count() - a request came */
void use_count(struct use *u, uint64_t now_ns);
/** use_now() - requests of late; never zero, so that of unused ones the cheaper load goes */
double use_now(const struct use *u, uint64_t now_ns);

/** stay_ns() - how long a model stays at least once it is loaded: the configured time, or less
 * where a load is quick, so that loads take a twentieth of the time at most */
uint64_t stay_ns(uint64_t load_us, uint64_t stay_max_ns);

/* Who wants a model loaded. */
struct claim {
    enum request_class class_; /* the highest of those who wait for it */
    uint64_t since_ns;         /* the first of them came then; UINT64_MAX: there is none */
};

/* After so long nobody is overtaken, nor kept from taking a place, for his class's sake. */
#define CLAIM_PATIENCE_S 60u

/** claim_before() - is a's model loaded before b's? By class, then by who came first */
bool claim_before(const struct claim *a, const struct claim *b, uint64_t now_ns);

/* Whose a model is that is loaded. */
struct standing {
    int used_by;               /* the highest class that uses it or waits for it; -1: nobody does */
    uint64_t left_ns[CLASSES]; /* when a request of the class last ended; 0: none did */
};

/** standing_ns() - until when it stays because of higher classes than the claim's; 0: it does not
 * @stay: how long it stays once the last request of a higher class has ended */
uint64_t standing_ns(const struct standing *s, const struct claim *c, uint64_t stay,
                     uint64_t now_ns);

/* The loads of the last minute that made another model leave. */
struct swaps {
    uint64_t at_ns[SWAPS_MAX]; /* a ring */
    size_t n, next;
    uint64_t n_ever;
};

/** swaps_wait_ns() - 0: one more is within the bound; else how long until it is; UINT64_MAX: never
 * @per_minute: the bound, at most SWAPS_MAX */
MUST_USE uint64_t swaps_wait_ns(const struct swaps *s, uint64_t per_minute, uint64_t now_ns);
void swaps_count(struct swaps *s, uint64_t now_ns);

/* A model in the engine. */
struct candidate {
    uint64_t bytes;    /* of the budget, that it gives back */
    uint64_t until_ns; /* it stays until then */
    double worth;      /* see above: per byte */
    bool pinned;
    bool used;     /* requests use it or wait for it */
    bool held;     /* the engine works for some of them */
    bool draining; /* it was to drain already */
};

/** worth_of() - per byte, as struct candidate has it */
double worth_of(uint64_t load_us, const struct use *u, uint64_t bytes, uint64_t now_ns);

struct room_need {
    uint64_t bytes;        /* that the model takes at least */
    uint64_t bytes_free;   /* of the budget */
    size_t places_free;    /* models */
    uint64_t swap_wait_ns; /* as swaps_wait_ns() says */
    uint64_t now_ns;
};

enum room_verdict {
    ROOM_NOW = 0, /* there is room */
    ROOM_DROP,    /* unload `victim`, then ask again */
    ROOM_DRAIN,   /* start nothing more of `victim`; ask again when something of it has ended */
    ROOM_WAIT,    /* ask again at `at_ns` */
    ROOM_NEVER,   /* not even if all that are not pinned left: `bytes` would be there */
};

struct room {
    enum room_verdict verdict;
    size_t victim;
    uint64_t at_ns, bytes;
};

/** room_find() - how room for one more model comes about */
struct room room_find(const struct candidate *c, size_t n, const struct room_need *need);

/** victim_idle() - the one of least worth that nobody uses; n: none. @now_ns: those that are to
 * stay are passed over; UINT64_MAX: they are not */
size_t victim_idle(const struct candidate *c, size_t n, uint64_t now_ns);

#endif
