/* What an engine is made of, for the parts of the engine that compute. */
#ifndef ENGINE_MACHINE_H
#define ENGINE_MACHINE_H

#include <stdint.h>

#include "engine/kernels/kernels.h"

struct threads;

struct engine {
    struct kernels kernels;
    struct threads *threads; /* owned */
    enum cpu_level cpu;
    unsigned n_threads_max; /* that a step uses at most; 0: no limit */
    unsigned n_threads;     /* that a step uses unless it was measured that others do better */
    int stat_fd;            /* owned: /proc/stat, or -1 */
    uint64_t mark;          /* of machine, level and counts: what a measurement holds for */
};

#endif
