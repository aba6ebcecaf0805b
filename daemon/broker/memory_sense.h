/* What is known of the machine's memory: one look at whatever sensors it has. */
#ifndef BROKER_MEMORY_SENSE_H
#define BROKER_MEMORY_SENSE_H

#include <stdbool.h>
#include <stdint.h>

struct broker;
struct memory_sense;
struct seam_stats;

/* What wakes the broker when memory runs short; each look reads whatever else there is, too. */
enum memory_source { SOURCE_SYSTEMD, SOURCE_CGROUP_PSI, SOURCE_SYSTEM_PSI, SOURCE_POLL };

struct memory_look { /* one look at the sensors, over the window since the last one */
    enum memory_source source;
    uint64_t n_calls; /* times that it has, ever */
    bool called;      /* it does: else all is looked at from time to time alone */
    bool forbidden;   /* the service manager wants nothing to be watched */
    bool told;        /* systemd's protocol (MEMORY_PRESSURE_WATCH) has spoken */
    bool has_psi;
    double some_ms, full_ms; /* stalled per second of the window */
    bool has_available;
    double available; /* 0..1 of all memory, limits of the cgroup and its ancestors included; page
                       * cache counts as available */
    uint64_t available_bytes, total_bytes;
    double major_faults; /* of runner, per decode step in the window; 0 without steps */
    double refaults;     /* workingset_refault_file a second */
    double slow;         /* the runner's step time against its moving baseline; 0: not known */
    uint64_t oom_kills;  /* in the window (vmstat oom_kill, memory.events oom_kill) */
    bool high_events;    /* memory.events high rose in the window */
};

/** memory_source_name() - "systemd", "cgroup", "system", "poll". Static. */
const char *memory_source_name(enum memory_source source);

/** memory_sense_start() - find the sensors and look at them from here on. Where there is no memory
 * for that, or nothing to look at, the log says so and nobody looks. */
void memory_sense_start(struct broker *b);

/** memory_sense_stop() - the broker ends: its handles close. Twice is harmless. */
void memory_sense_stop(struct broker *b);

/** memory_sense_free() - after the loop has ended */
void memory_sense_free(struct broker *b);

/** memory_sense_work() - there may be work now: look more often while there is. Cheap. */
void memory_sense_work(struct broker *b);

/** memory_sense_step() - the runner's last step, of this model alone, in its words */
void memory_sense_step(struct broker *b, uint32_t model, const struct seam_stats *st);

/** memory_sense_latest() - the last look; NULL: there was none */
const struct memory_look *memory_sense_latest(const struct broker *b);

#endif
