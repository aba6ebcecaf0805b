/* Heat: what the board does when it grows too warm for what it is asked to do.
 *
 * Pure: readings and time come as arguments. On level 1 work of class low waits, on level 2 steps
 * take fewer threads. Up at once, down after a time of being cooler by a margin. Numbers do not
 * depend on threads, so answers stay the same. */
#ifndef BROKER_HEAT_H
#define BROKER_HEAT_H

#include <stdbool.h>
#include <stdint.h>

/* Raspberry Pi's firmware, as get_throttled has them; 16 bits higher: since the machine started. */
#define FIRMWARE_LOW_VOLTAGE 0x1u
#define FIRMWARE_CAPPED 0x2u
#define FIRMWARE_THROTTLED 0x4u
#define FIRMWARE_SOFT_LIMIT 0x8u
#define FIRMWARE_SLOWED (FIRMWARE_CAPPED | FIRMWARE_THROTTLED | FIRMWARE_SOFT_LIMIT)

enum heat_level { HEAT_COOL, HEAT_WARM, HEAT_HOT, HEAT_LEVELS };

/* The sensors at one moment. Thousandths of a degree Celsius. */
struct heat_look {
    bool has_temp;
    int32_t temp_mc; /* of the warmest zone */
    bool has_room;
    int32_t room_mc; /* the least that a zone has to where the kernel slows the machine down */
    bool has_flags;
    uint32_t flags; /* FIRMWARE_* */
};

struct heat_rules {
    uint64_t warm_c;  /* level 1 from here on; 0: by the machine's own limits alone */
    uint64_t hot_ms;  /* what goes on so long on level 1 is level 2, and so on */
    uint64_t cool_ms; /* before a level is left */
    uint32_t threads; /* that steps take when it is cool; 0: not known yet */
};

struct heat {
    enum heat_level level;
    uint32_t threads;        /* that steps may take; 0: as many as they like */
    uint64_t hot_ns;         /* too hot without a break since then; 0: it is not */
    uint64_t cool_ns;        /* cooler than this level needs since then; 0: it is not */
    uint64_t n[HEAT_LEVELS]; /* times that each level was entered */
};

/** heat_step() - take a look into account. True: the level or the threads have changed. */
bool heat_step(struct heat *h, const struct heat_look *look, const struct heat_rules *rules,
               uint64_t now_ns);

/** heat_level_name() - "cool", "warm", "hot". Static. */
const char *heat_level_name(enum heat_level level);

#endif
