/* How short memory is, in five levels: a table of conditions over what the sensors saw. Pure: time
 * comes in with each look. Up at once, down one level at a time and slowly. */
#ifndef BROKER_PRESSURE_H
#define BROKER_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/broker/memory_sense.h"

enum pressure_level {
    PRESSURE_NORMAL,
    PRESSURE_TRIM,
    PRESSURE_SHED,
    PRESSURE_PAUSE,
    PRESSURE_SURVIVE,
    PRESSURE_LEVELS
};

#define PRESSURE_ROWS_MAX 20u

/* Since when a condition has held without a gap, and when it was last seen. */
struct pressure_row {
    uint64_t since_ns, seen_ns; /* since_ns 0: it does not hold */
};

/* Zeroed: normal, nothing seen yet. */
struct pressure {
    enum pressure_level level;
    const char *cause;       /* of the latest rise, static; NULL: there was none */
    double some_ms, full_ms; /* stalled per second, over the last second or so */
    uint64_t at_ns;          /* of the last look; 0: none yet */
    uint64_t quiet_ns;       /* since when the level's own conditions are gone; 0: they hold */
    uint64_t pressed_ns;     /* since when they hold without a break; 0: they do not */
    struct pressure_row rows[PRESSURE_ROWS_MAX];
};

/** pressure_name() - "normal", "trim", "shed", "pause", "survive". Static. */
const char *pressure_name(enum pressure_level level);

/**
 * pressure_look() - the level after one more look
 * @calm_ns: without its conditions and with room to spare so long, a level is left for the one
 *           below
 */
enum pressure_level pressure_look(struct pressure *p, const struct memory_look *l, uint64_t now_ns,
                                  uint64_t calm_ns);

/** pressure_down_ns() - when at the earliest the level can be `to` or lower, ns from now */
uint64_t pressure_down_ns(const struct pressure *p, enum pressure_level to, uint64_t now_ns,
                          uint64_t calm_ns);

#endif
