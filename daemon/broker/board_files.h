/* The board's own sensors: temperatures, the firmware's flags, power. Found once, read when asked;
 * what is not there is not said. */
#ifndef BROKER_BOARD_FILES_H
#define BROKER_BOARD_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "daemon/broker/heat.h"

#define BOARD_ZONES_MAX 32u  /* thermal zones that are looked at */
#define BOARD_METERS_MAX 8u  /* of power or energy */
#define BOARD_PATH_MAX 1200u /* a sysroot and a name below it */

struct board_zone {
    char *temp; /* owned: the path */
    bool has_limit;
    int32_t limit_mc; /* the lowest trip point of type passive or hot */
};

enum meter_kind { METER_COUNTER, METER_POWER, METER_PRODUCT };

/* One meter: a counter of microjoules (RAPL), microwatts (hwmon's power*_*), or milliamperes and
 * millivolts (ina3221, as on a Jetson). */
struct board_meter {
    enum meter_kind kind;
    char *path, *times; /* owned; times: of METER_PRODUCT */
    uint64_t range;     /* where METER_COUNTER begins again; 0: nowhere */
};

struct board_files {
    struct board_zone zones[BOARD_ZONES_MAX];
    size_t n_zones;
    char *throttled; /* owned; NULL: no such firmware */
    struct board_meter meters[BOARD_METERS_MAX];
    size_t n_meters;
};

/* What the meters say at one moment. */
struct board_power {
    size_t n;
    bool sound[BOARD_METERS_MAX];
    uint64_t value[BOARD_METERS_MAX]; /* uJ of a METER_COUNTER, else uW */
};

/** board_files_open() - find them below @root ("": the machine's) */
void board_files_open(struct board_files *f, const char *root);
void board_files_close(struct board_files *f);

void board_heat(struct heat_look *ret, const struct board_files *f);
void board_power(struct board_power *ret, const struct board_files *f);

/* ---- of texts; pure ---- */

/** board_temp() - thousandths of a degree, within -100 and 300 degrees. False: no such number. */
MUST_USE bool board_temp(int32_t *ret, const char *text);
/** board_flags() - of get_throttled: hexadecimal, with or without 0x */
MUST_USE bool board_flags(uint32_t *ret, const char *text);

#endif
