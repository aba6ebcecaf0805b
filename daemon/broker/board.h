/* The board as the daemon sees it: its heat, which holds work back, and the energy that work takes.
 * Looked at once a second while there is work or it is warm, else every five. */
#ifndef BROKER_BOARD_H
#define BROKER_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/broker/energy.h"
#include "daemon/broker/heat.h"

struct broker;

/* What is known of it now. */
struct board_now {
    bool known; /* it was looked at */
    struct heat_look look;
    struct heat heat;
    bool has_power;
    double watts, joules, joules_per_token; /* the last: 0: not known */
};

/** board_start() - find the sensors and look at them from here on. Without any nothing runs. */
void board_start(struct broker *b);
/** board_stop() - the broker ends: its handles close. Twice is harmless. */
void board_stop(struct broker *b);
/** board_free() - after the loop has ended */
void board_free(struct broker *b);

void board_take(const struct broker *b, struct board_now *ret);

/** board_warm() - is the machine slower than usual for its heat? */
bool board_warm(const struct broker *b);

#endif
