/* Time that the daemon was kept from running: stopped by a signal or a freezer, starved, or in a
 * machine that was. (CLOCK_MONOTONIC stands still while the machine itself sleeps.) */
#ifndef BROKER_GAP_H
#define BROKER_GAP_H

#include <stdint.h>
#include <uv.h>

struct broker;

#define GAP_MIN_NS (UINT64_C(500) * 1000000) /* less is an ordinary delay */

struct gap {
    uv_check_t check;
    uint64_t begin_ns; /* when the loop went to sleep */
    int timeout_ms;    /* for how long at most; < 0: until something happens */
};

/** gap_of() - by how much a sleep that began at begin_ns took longer than it should have; 0: by
 * nothing to speak of. Pure. */
uint64_t gap_of(uint64_t begin_ns, int timeout_ms, uint64_t now_ns);

void gap_init(struct broker *b);
/** gap_sleep() - the loop is about to */
void gap_sleep(struct broker *b);
void gap_close(struct broker *b);

#endif
