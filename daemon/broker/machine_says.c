/* machine_says: one list of figures, written as a map or as metrics. */
#include "daemon/broker/machine_says.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "daemon/broker/board.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/memory_sense.h"

#define FIGURES_MAX 32u

enum family {
    F_NONE,
    F_SENSOR,
    F_CALLS,
    F_STALL,
    F_AVAILABLE,
    F_AVAILABLE_BYTES,
    F_REFAULTS,
    F_FAULTS,
    F_TEMPERATURE,
    F_FIRMWARE,
    F_HEAT,
    F_HEAT_CHANGES,
    F_THREADS,
    F_POWER,
    F_ENERGY,
    F_PER_TOKEN,
    FAMILIES
};

/* clang-format off */
static const struct {
    const char *name, *type, *help;
} families[FAMILIES] = {
    [F_SENSOR] = {"onebit_memory_sensor", "gauge", "Always 1: what calls when memory runs short."},
    [F_CALLS] = {"onebit_memory_sensor_calls_total", "counter", "Times that it has called."},
    [F_STALL] = {"onebit_memory_stall_ratio", "gauge", "Share of the time of late that some task, or all tasks, stood still for memory."},
    [F_AVAILABLE] = {"onebit_memory_available_ratio", "gauge", "Share of the memory that can be had, within the limits of all cgroups; page cache can be had."},
    [F_AVAILABLE_BYTES] = {"onebit_memory_available_bytes", "gauge", "Bytes of memory that can be had, within the limits of all cgroups."},
    [F_REFAULTS] = {"onebit_memory_refaults_per_second", "gauge", "Pages of files that are read again after they were dropped, of late."},
    [F_FAULTS] = {"onebit_engine_major_faults_per_step", "gauge", "Faults of the engine for pages that had been dropped, in a step, of late."},
    [F_TEMPERATURE] = {"onebit_temperature_celsius", "gauge", "Of the warmest thermal zone."},
    [F_FIRMWARE] = {"onebit_firmware_throttled", "gauge", "The firmware's flags: 1 low voltage, 2 capped, 4 throttled, 8 soft limit; times 65536: since the start."},
    [F_HEAT] = {"onebit_heat_level", "gauge", "0 cool, 1 warm (requests of class low wait), 2 hot (fewer threads)."},
    [F_HEAT_CHANGES] = {"onebit_heat_changes_total", "counter", "Times that a level of heat was entered."},
    [F_THREADS] = {"onebit_heat_threads", "gauge", "Threads that steps may take for the heat; 0: as many as are best."},
    [F_POWER] = {"onebit_power_watts", "gauge", "Power that the board takes, of late."},
    [F_ENERGY] = {"onebit_energy_joules_total", "counter", "Energy that the board took while the engine worked."},
    [F_PER_TOKEN] = {"onebit_energy_per_token_joules", "gauge", "Energy for a token of an answer, prompts included, of late."},
};
/* clang-format on */

struct figure {
    const char *key;    /* in status; NULL: not there */
    enum family family; /* in metrics; F_NONE: not there */
    const char *labels;
    double value;
};

struct figures {
    struct figure all[FIGURES_MAX];
    size_t n;
};

static void add(struct figures *f, const struct figure *one)
{
    if (f->n < FIGURES_MAX) {
        f->all[f->n++] = *one;
    }
}

#define ADD(f, ...) add(f, &(struct figure){__VA_ARGS__})

static void of_memory(struct figures *f, const struct memory_look *l)
{
    ADD(f, "pressure_calls", F_CALLS, "", (double)l->n_calls);
    if (l->has_psi) {
        ADD(f, "stall_some", F_STALL, "{tasks=\"some\"}", l->some_ms / 1e3);
        ADD(f, "stall_full", F_STALL, "{tasks=\"full\"}", l->full_ms / 1e3);
    }
    if (l->has_available) {
        ADD(f, "available", F_AVAILABLE, "", l->available);
        ADD(f, "available_bytes", F_AVAILABLE_BYTES, "", (double)l->available_bytes);
        ADD(f, "total_bytes", F_NONE, "", (double)l->total_bytes);
    }
    ADD(f, "refaults_per_s", F_REFAULTS, "", l->refaults);
    ADD(f, "major_faults_per_step", F_FAULTS, "", l->major_faults);
}

static void of_board(struct figures *f, const struct board_now *b)
{
    if (b->look.has_temp) {
        ADD(f, "temperature_c", F_TEMPERATURE, "", (double)b->look.temp_mc / 1e3);
    }
    if (b->look.has_flags) {
        ADD(f, "firmware_flags", F_FIRMWARE, "", b->look.flags);
    }
    if (b->look.has_temp || b->look.has_flags) {
        ADD(f, NULL, F_HEAT, "", b->heat.level);
        ADD(f, NULL, F_HEAT_CHANGES, "{level=\"cool\"}", (double)b->heat.n[HEAT_COOL]);
        ADD(f, NULL, F_HEAT_CHANGES, "{level=\"warm\"}", (double)b->heat.n[HEAT_WARM]);
        ADD(f, NULL, F_HEAT_CHANGES, "{level=\"hot\"}", (double)b->heat.n[HEAT_HOT]);
        ADD(f, "heat_threads", F_THREADS, "", b->heat.threads);
    }
    if (b->has_power) {
        ADD(f, "watts", F_POWER, "", b->watts);
        ADD(f, "joules", F_ENERGY, "", b->joules);
    }
    if (b->has_power && b->joules_per_token > 0) {
        ADD(f, "joules_per_token", F_PER_TOKEN, "", b->joules_per_token);
    }
}

static void take(struct figures *f, const struct broker *b, struct board_now *board)
{
    const struct memory_look *look = memory_sense_latest(b);

    f->n = 0;
    board_take(b, board);
    if (look) {
        of_memory(f, look);
    }
    if (board->known) {
        of_board(f, board);
    }
}

static bool whole(double v)
{
    return v >= 0 && v < 9e15 && (double)(uint64_t)v >= v;
}

void machine_pack(struct packer *p, const struct broker *b)
{
    const struct memory_look *look = memory_sense_latest(b);
    struct board_now board;
    struct figures f;
    uint32_t n = 0;

    take(&f, b, &board);
    for (size_t i = 0; i < f.n; i++) {
        n += f.all[i].key != NULL;
    }
    const bool heat = board.look.has_temp || board.look.has_flags;
    pack_map(p, n + 2 * (look != NULL) + heat);
    if (look) {
        pack_z(p, "pressure_source");
        pack_z(p, memory_source_name(look->source));
        pack_z(p, "pressure_watch");
        pack_z(p, look->forbidden ? "forbidden" : look->called ? "called" : "polled");
    }
    if (heat) {
        pack_z(p, "heat");
        pack_z(p, heat_level_name(board.heat.level));
    }
    for (size_t i = 0; i < f.n; i++) {
        if (!f.all[i].key) {
            continue;
        }
        pack_z(p, f.all[i].key);
        if (whole(f.all[i].value)) {
            pack_uint(p, (uint64_t)f.all[i].value);
        } else {
            pack_f64(p, f.all[i].value);
        }
    }
}

static int PRINTF_LIKE(2, 3) put(struct buf *out, const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return n < 0 || (size_t)n >= sizeof(text) ? -E2BIG : buf_append(out, text, (size_t)n);
}

int machine_metrics(struct buf *out, const struct broker *b)
{
    const struct memory_look *look = memory_sense_latest(b);
    struct board_now board;
    struct figures f;
    int r = 0;

    take(&f, b, &board);
    for (enum family k = F_SENSOR; k < FAMILIES && r == 0; k++) {
        r = put(out, "# HELP %s %s\n# TYPE %s %s\n", families[k].name, families[k].help,
                families[k].name, families[k].type);
        if (k == F_SENSOR && look && r == 0) {
            r = put(out, "%s{source=\"%s\"} 1\n", families[k].name,
                    memory_source_name(look->source));
        }
        for (size_t i = 0; i < f.n && r == 0; i++) {
            if (f.all[i].family == k) {
                r = put(out, "%s%s %.9g\n", families[k].name, f.all[i].labels, f.all[i].value);
            }
        }
    }
    return r;
}
