/* board_files: which of the kernel's sensors speak of this board.
 *
 * Zones of batteries and radios are left out: what we do does not cool them. Of power one source is
 * taken, not the sum of several that measure the same: the packages of RAPL, else the input of an
 * ina3221, else what another meter of the whole board says. */
#include "daemon/broker/board_files.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/whole_file.h"
#include "daemon/broker/memory_text.h"

#define ENTRIES_MAX 64u /* of a class that are tried, by number */
#define TRIPS_MAX 16u
#define TRIP_LEAST_MC 40000 /* lower ones are a driver's way to say "none" */
#define CHANNELS 3u         /* of an ina3221 */

/* ---- texts ---- */

bool board_temp(int32_t *ret, const char *text)
{
    const bool minus = text[0] == '-';
    uint64_t n;

    if (!text_number(&n, text + minus) || n > (minus ? 100000 : 300000)) {
        return false;
    }
    *ret = minus ? -(int32_t)n : (int32_t)n;
    return true;
}

bool board_flags(uint32_t *ret, const char *text)
{
    const char *at = text + (strncmp(text, "0x", 2) == 0 ? 2 : 0);
    uint32_t bits = 0;
    size_t n = 0;

    for (; at[n] && strchr("0123456789abcdefABCDEF", at[n]); n++) {
        const char c = at[n] | 0x20; /* digits are as they are */
        bits = bits << 4 | (uint32_t)(c >= 'a' ? c - 'a' + 10 : c - '0');
    }
    if (n == 0 || n > 8) {
        return false;
    }
    *ret = bits;
    return true;
}

/* ---- files ---- */

/* The text of folder/name without its newline; false: there is none. */
static bool read_text(char *ret, size_t room, const char *folder, const char *name)
{
    char path[BOARD_PATH_MAX + 64];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (whole_file_head(ret, room, AT_FDCWD, path, 0) <= 0) {
        return false;
    }
    ret[strcspn(ret, "\n")] = '\0';
    return true;
}

static char *joined(const char *folder, const char *name)
{
    char *path = NULL;

    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

static bool read_number(uint64_t *ret, const char *path)
{
    char text[32];

    return path && whole_file_head(text, sizeof(text), AT_FDCWD, path, 0) > 0 &&
           text_number(ret, text);
}

/* ---- heat ---- */

static bool of_no_use(const char *type)
{
    static const char *const words[] = {"bat", "wifi", "charger"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcasestr(type, words[i])) {
            return true;
        }
    }
    return false;
}

static void find_limit(struct board_zone *z, const char *folder)
{
    char name[64], text[64];

    for (unsigned i = 0; i < TRIPS_MAX; i++) {
        int32_t mc;
        (void)snprintf(name, sizeof(name), "trip_point_%u_type", i);
        if (!read_text(text, sizeof(text), folder, name)) {
            return;
        }
        if (strcmp(text, "passive") != 0 && strcmp(text, "hot") != 0) {
            continue;
        }
        (void)snprintf(name, sizeof(name), "trip_point_%u_temp", i);
        if (read_text(text, sizeof(text), folder, name) && board_temp(&mc, text) &&
            mc >= TRIP_LEAST_MC && (!z->has_limit || mc < z->limit_mc)) {
            z->has_limit = true;
            z->limit_mc = mc;
        }
    }
}

static void find_zones(struct board_files *f, const char *root)
{
    char folder[BOARD_PATH_MAX], text[64];

    for (unsigned i = 0; i < ENTRIES_MAX && f->n_zones < BOARD_ZONES_MAX; i++) {
        (void)snprintf(folder, sizeof(folder), "%s/sys/class/thermal/thermal_zone%u", root, i);
        if (read_text(text, sizeof(text), folder, "type") && !of_no_use(text)) {
            struct board_zone *z = &f->zones[f->n_zones];
            z->temp = joined(folder, "temp");
            find_limit(z, folder);
            f->n_zones += z->temp != NULL;
        }
    }
}

static void find_throttled(struct board_files *f, const char *root)
{
    char pattern[BOARD_PATH_MAX];
    glob_t found;

    (void)snprintf(pattern, sizeof(pattern), "%s/sys/devices/platform/*/*firmware/get_throttled",
                   root);
    if (glob(pattern, 0, NULL, &found) == 0) {
        f->throttled = strdup(found.gl_pathv[0]);
        globfree(&found);
    }
}

void board_heat(struct heat_look *ret, const struct board_files *f)
{
    struct heat_look l = {0};
    char text[32];

    for (size_t i = 0; i < f->n_zones; i++) {
        const struct board_zone *z = &f->zones[i];
        int32_t mc;
        if (whole_file_head(text, sizeof(text), AT_FDCWD, z->temp, 0) <= 0 ||
            !board_temp(&mc, text)) {
            continue;
        }
        l.temp_mc = l.has_temp && l.temp_mc > mc ? l.temp_mc : mc;
        l.has_temp = true;
        if (z->has_limit && (!l.has_room || z->limit_mc - mc < l.room_mc)) {
            l.has_room = true;
            l.room_mc = z->limit_mc - mc;
        }
    }
    l.has_flags = f->throttled &&
                  whole_file_head(text, sizeof(text), AT_FDCWD, f->throttled, 0) > 0 &&
                  board_flags(&l.flags, text);
    *ret = l;
}

/* ---- power ---- */

static void meter_add(struct board_files *f, enum meter_kind kind, char *path, char *times,
                      uint64_t range)
{
    uint64_t n;

    if (f->n_meters < BOARD_METERS_MAX && read_number(&n, path) &&
        (kind != METER_PRODUCT || read_number(&n, times))) {
        f->meters[f->n_meters++] =
            (struct board_meter){.kind = kind, .path = path, .times = times, .range = range};
        return;
    }
    free(path);
    free(times);
}

/* The packages; what is inside of them is in them, and the platform's holds them. */
static void find_rapl(struct board_files *f, const char *root)
{
    char folder[BOARD_PATH_MAX], text[64];

    for (unsigned i = 0; i < BOARD_METERS_MAX; i++) {
        uint64_t range;
        (void)snprintf(folder, sizeof(folder), "%s/sys/class/powercap/intel-rapl:%u", root, i);
        if (!read_text(text, sizeof(text), folder, "name") || strncmp(text, "package", 7) != 0) {
            continue;
        }
        if (!read_text(text, sizeof(text), folder, "max_energy_range_uj") ||
            !text_number(&range, text)) {
            range = 0;
        }
        meter_add(f, METER_COUNTER, joined(folder, "energy_uj"), NULL, range);
    }
}

/* The channel that feeds the board: "VDD_IN", "POM_5V_IN"; without such a label the first. */
static void find_ina3221(struct board_files *f, const char *folder)
{
    char name[64], text[64], current[64];
    unsigned channel = 1;

    for (unsigned i = CHANNELS; i > 0; i--) {
        (void)snprintf(name, sizeof(name), "in%u_label", i);
        const size_t n = read_text(text, sizeof(text), folder, name) ? strlen(text) : 0;
        if (n >= 3 && strcmp(text + n - 3, "_IN") == 0) {
            channel = i;
        }
    }
    (void)snprintf(name, sizeof(name), "in%u_input", channel);
    (void)snprintf(current, sizeof(current), "curr%u_input", channel);
    meter_add(f, METER_PRODUCT, joined(folder, current), joined(folder, name), 0);
}

static void find_hwmon(struct board_files *f, const char *root, bool ina3221)
{
    static const char *const others[] = {"ina219", "ina220", "ina226",     "ina230",
                                         "ina231", "ina238", "power_meter"};
    char folder[BOARD_PATH_MAX], text[64];

    for (unsigned i = 0; i < ENTRIES_MAX && f->n_meters == 0; i++) {
        (void)snprintf(folder, sizeof(folder), "%s/sys/class/hwmon/hwmon%u", root, i);
        if (!read_text(text, sizeof(text), folder, "name")) {
            continue;
        }
        if (ina3221 && strcmp(text, "ina3221") == 0) {
            find_ina3221(f, folder);
        }
        for (size_t k = 0; k < ARRAY_SIZE(others) && !ina3221 && f->n_meters == 0; k++) {
            if (strcmp(text, others[k]) == 0) {
                meter_add(f, METER_POWER, joined(folder, "power1_input"), NULL, 0);
            }
            if (strcmp(text, others[k]) == 0 && f->n_meters == 0) {
                meter_add(f, METER_POWER, joined(folder, "power1_average"), NULL, 0);
            }
        }
    }
}

void board_power(struct board_power *ret, const struct board_files *f)
{
    *ret = (struct board_power){.n = f->n_meters};
    for (size_t i = 0; i < f->n_meters; i++) {
        const struct board_meter *m = &f->meters[i];
        uint64_t n, times = 1;

        ret->sound[i] = read_number(&n, m->path) &&
                        (m->kind != METER_PRODUCT || read_number(&times, m->times)) &&
                        !__builtin_mul_overflow(n, times, &ret->value[i]); /* mA x mV: uW */
    }
}

void board_files_open(struct board_files *f, const char *root)
{
    *f = (struct board_files){0};
    find_zones(f, root);
    find_throttled(f, root);
    find_rapl(f, root);
    find_hwmon(f, root, true);
    find_hwmon(f, root, false);
}

void board_files_close(struct board_files *f)
{
    for (size_t i = 0; i < f->n_zones; i++) {
        free(f->zones[i].temp);
    }
    for (size_t i = 0; i < f->n_meters; i++) {
        free(f->meters[i].path);
        free(f->meters[i].times);
    }
    free(f->throttled);
    *f = (struct board_files){0};
}
