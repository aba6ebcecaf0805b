/* What an engine is made of, for the parts of the engine that compute. */
#ifndef ENGINE_MACHINE_H
#define ENGINE_MACHINE_H

#include "engine/kernels/kernels.h"

struct threads;

struct engine {
    struct kernels kernels;
    struct threads *threads; /* owned */
    enum cpu_level cpu;
};

#endif
