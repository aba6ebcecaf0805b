/* CPU levels: named sets of instructions, each on top of the lower ones of its architecture. */
#ifndef ENGINE_KERNELS_CPU_H
#define ENGINE_KERNELS_CPU_H

#include <stdbool.h>

#include "base/compiler.h"

/* The order inside one architecture is the order of capability. */
enum cpu_level {
    CPU_SCALAR =
        0,       /* portable C, every machine; fused multiply-add by libm where the chip lacks it */
    CPU_AVX2,    /* AVX2 + FMA + F16C */
    CPU_AVX512,  /* AVX-512 F, BW, DQ, VL, VNNI */
    CPU_NEON,    /* any aarch64 */
    CPU_DOTPROD, /* + sdot */
    CPU_I8MM,    /* + smmla */
    CPU_LEVELS,  /* count */
};

/** cpu_level_name() - "scalar", "avx2", ...: static, never NULL */
const char *cpu_level_name(enum cpu_level level);

/** cpu_level_parse() - false when the name is no level */
MUST_USE bool cpu_level_parse(const char *name, enum cpu_level *ret);

/**
 * cpu_level_present() - can this machine run the level?
 *
 * Asks the chip and the operating system (wide registers need both), and whether this build holds
 * the kernels.
 */
bool cpu_level_present(enum cpu_level level);

/** cpu_counts_bits() - has an AVX-512 chip vector counts of bits (VPOPCNTDQ)? No level of its own:
 * the first chips of the level lack it, and it matters to products of bits by bits alone. */
bool cpu_counts_bits(void);

/** cpu_level_best() - the highest level present */
enum cpu_level cpu_level_best(void);

#endif
