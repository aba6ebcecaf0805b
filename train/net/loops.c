/* Which compilation of the loops runs here. */
#include "train/net/loops.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#define LEVEL(name)                                                                                \
    void loops_rows_##name(struct loops *l);                                                       \
    void loops_soft_##name(struct loops *l);                                                       \
    void loops_quant_##name(struct loops *l);                                                      \
    static void fill_##name(struct loops *l)                                                       \
    {                                                                                              \
        loops_rows_##name(l);                                                                      \
        loops_soft_##name(l);                                                                      \
        loops_quant_##name(l);                                                                     \
    }

LEVEL(base)
#if NET_HAVE_V3
LEVEL(v3)
#endif
#if NET_HAVE_V4
LEVEL(v4)
#endif

static struct loops tables[LOOPS_LEVELS];
static bool present[LOOPS_LEVELS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void)
{
    fill_base(&tables[0]);
    present[0] = true;
#if NET_HAVE_V3
    if (__builtin_cpu_supports("avx2")) {
        fill_v3(&tables[1]);
        present[1] = true;
    }
#endif
#if NET_HAVE_V4
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
        fill_v4(&tables[2]);
        present[2] = true;
    }
#endif
}

const struct loops *loops_at(unsigned level)
{
    pthread_once(&once, fill);
    return present[level] ? &tables[level] : NULL;
}

const struct loops *loops_pick(void)
{
    for (unsigned level = LOOPS_LEVELS; level-- > 1;) {
        if (loops_at(level)) {
            return loops_at(level);
        }
    }
    return loops_at(0);
}

float loops_f16(float x)
{
    uint32_t u;

    if (!(fabsf(x) >= 0x1p-14f)) { /* subnormal there: multiples of 2^-24. A NaN stays one. */
        return rintf(x * 0x1p24f) * 0x1p-24f;
    }
    if (fabsf(x) >= 65520.0f) {
        return copysignf(INFINITY, x);
    }
    memcpy(&u, &x, sizeof(u));
    u = (u + 0xfff + (u >> 13 & 1)) & ~(uint32_t)0x1fff;
    memcpy(&x, &u, sizeof(x));
    return x;
}
