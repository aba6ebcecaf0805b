/* The kernel's counters of memory, all that this machine shows, read from files that stay open. */
#ifndef BROKER_MEMORY_COUNTS_H
#define BROKER_MEMORY_COUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "daemon/broker/memory_sense.h"
#include "daemon/broker/memory_text.h"

#define MEMORY_LEVELS_MAX 16u /* of cgroups from ours up; what is above is not looked at */
#define MEMORY_PATH_MAX 1024u

/* A file of the kernel's, opened when it is first read. */
struct memory_file {
    char *path; /* owned; NULL: there is none */
    int fd;     /* owned; -1: not open */
};

/* One cgroup: ours or one above it. Of those above, the limits are looked up now and then, and
 * nothing stays open. */
struct memory_level {
    uint64_t limit; /* as last looked up; UINT64_MAX: none */
    struct memory_file max, high, current, stat, events;
};

struct memory_files {
    bool replaced; /* below a sysroot files may be replaced: they are opened at each look */
    bool v1;       /* cgroup version 1 */
    struct memory_file meminfo, vmstat, pressure;
    bool own_pressure; /* of our cgroup, not of the machine */
    struct memory_level levels[MEMORY_LEVELS_MAX];
    size_t n_levels;
    uint32_t n_looks;
    struct memory_file runner; /* /proc/PID/stat of @runner_pid */
    int runner_pid;
    char root[MEMORY_PATH_MAX];
    char own[2 * MEMORY_PATH_MAX]; /* the folder of our cgroup in version 2; "": none */
};

/* As read at one moment; what could not be read is 0. */
struct memory_counts {
    uint64_t now_ns;
    bool has_stall, has_available, has_refaults;
    struct memory_stall stall;
    uint64_t available_bytes, total_bytes;
    double available; /* of all memory, the least of what each limit leaves */
    uint64_t refaults, oom_kills, own_oom_kills, high_events;
    int runner_pid;
    uint64_t runner_faults;
    uint64_t steps; /* of the runner */
};

/** memory_files_open() - find what there is. @root: "" or a sysroot. Cannot fail: what is missing
 * is not read. */
void memory_files_open(struct memory_files *f, const char *root);
void memory_files_close(struct memory_files *f);

/** memory_counts_read() - one look at all of them. @runner_pid: 0: none runs */
void memory_counts_read(struct memory_counts *ret, struct memory_files *f, int runner_pid);

/** memory_figures() - what happened between two readings. Pure. All but source, told and slow is
 * filled in. @working: the runner had something to do */
void memory_figures(struct memory_look *ret, const struct memory_counts *before,
                    const struct memory_counts *now, bool working);

/* ---- how slow steps are ---- */

#define MEMORY_PACES 16u /* kinds of steps that are told apart */

/* Times of steps with no prompt in them, against the same model's and size's before. */
struct memory_pace {
    uint32_t model, streams;
    double usual_us; /* follows down fast and up slowly; 0: free */
    uint32_t n;      /* steps seen */
};

struct memory_paces {
    struct memory_pace paces[MEMORY_PACES];
    double slow; /* the slowest since it was last taken; 0: none was seen */
};

/** memory_pace_step() - a step took so long */
void memory_pace_step(struct memory_paces *p, uint32_t model, uint32_t streams, uint64_t us);

/** memory_pace_take() - the slowest step since the last call, against what is usual; 0: none */
double memory_pace_take(struct memory_paces *p);

#endif
