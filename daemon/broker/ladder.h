/* The memory ladder: what the broker does as memory runs short. */
#ifndef BROKER_LADDER_H
#define BROKER_LADDER_H

struct broker;
struct memory_look;

/** ladder_look() - the sensors were looked at: every 250 ms while there is work or pressure, else
 * every second, and when a sensor calls. @look: borrowed for the call */
void ladder_look(struct broker *b, const struct memory_look *look);

#endif
