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

static struct loops table;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void pick(void)
{
    fill_base(&table);
#if NET_HAVE_V3
    if (__builtin_cpu_supports("avx2")) {
        fill_v3(&table);
    }
#endif
#if NET_HAVE_V4
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
        fill_v4(&table);
    }
#endif
}

const struct loops *loops_pick(void)
{
    pthread_once(&once, pick);
    return &table;
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
