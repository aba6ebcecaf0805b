/* Sixteen numbers at a time, in the vector types of gcc and clang: one source for every width of
 * registers, where the order of every sum is written down. */
#ifndef TRAIN_NET_VEC_H
#define TRAIN_NET_VEC_H

#include <math.h>
#include <stdint.h>

#include "train/net/loops.h"

/* Vectors wider than registers are passed in other ways: between functions of one file alone. */
#pragma GCC diagnostic ignored "-Wpsabi"

#ifdef NET_DOUBLE
typedef int64_t net_int;
#define VEC_MAGIC 0x1.8p52 /* added and taken away: rounds to nearest even */
#else
typedef int32_t net_int;
#define VEC_MAGIC 0x1.8p23f
#endif

typedef net_real vec __attribute__((vector_size(LANES * sizeof(net_real))));
typedef net_int ivec __attribute__((vector_size(LANES * sizeof(net_int))));
/* The same in memory, wherever it begins. */
typedef net_real vec_lax
    __attribute__((vector_size(LANES * sizeof(net_real)), aligned(sizeof(net_real)), may_alias));

static inline vec vec_load(const net_real *p)
{
    return *(const vec_lax *)p;
}

static inline void vec_store(net_real *p, vec v)
{
    *(vec_lax *)p = v;
}

static inline vec vec_set(net_real x)
{
    return (vec){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

/* Where the mask is set a, elsewhere b. */
static inline vec vec_pick(ivec mask, vec a, vec b)
{
    return (vec)(((ivec)a & mask) | ((ivec)b & ~mask));
}

static inline vec vec_abs(vec v)
{
    const vec minus = vec_set((net_real)-0.0);

    return (vec)((ivec)v & ~(ivec)minus);
}

/* b where it is greater, else a: a NaN in a stays, one in b is passed over. vec_min() alike. */
static inline vec vec_max(vec a, vec b)
{
    return vec_pick(b > a, b, a);
}

static inline vec vec_min(vec a, vec b)
{
    return vec_pick(b < a, b, a);
}

static inline vec vec_round(vec v) /* |v| < 2^22 */
{
    const vec magic = vec_set(VEC_MAGIC);

    return (v + magic) - magic;
}

/* ((0 + 8) + (4 + 12)) + ...: the tree of engine/NUMERICS.md. */
static inline net_real vec_sum(vec v)
{
    net_real p[LANES];

    vec_store(p, v);
    for (unsigned half = LANES / 2; half > 0; half /= 2) {
        for (unsigned j = 0; j < half; j++) {
            p[j] += p[j + half];
        }
    }
    return p[0];
}

static inline net_real vec_top(vec v)
{
    net_real p[LANES];

    vec_store(p, v);
    for (unsigned half = LANES / 2; half > 0; half /= 2) {
        for (unsigned j = 0; j < half; j++) {
            p[j] = p[j + half] > p[j] ? p[j + half] : p[j];
        }
    }
    return p[0];
}

/* e^x within 2 ulp; 0 below -87 and the value at 88 above it. A NaN stays one. */
static inline vec vec_exp(vec x)
{
#ifdef NET_DOUBLE
    vec y;
    for (unsigned j = 0; j < LANES; j++) {
        y[j] = exp(x[j]);
    }
    return y;
#else
    const ivec tiny = x < vec_set(-87.0f);
    const vec v = vec_min(vec_max(x, vec_set(-87.0f)), vec_set(88.0f));
    const vec n = vec_round(v * vec_set(0x1.715476p0f));                          /* / ln 2 */
    const vec f = (v - n * vec_set(0x1.62e4p-1f)) - n * vec_set(0x1.7f7d1cp-20f); /* ln 2 in two */
    vec p = vec_set(1.0f / 5040.0f);
    p = p * f + vec_set(1.0f / 720.0f);
    p = p * f + vec_set(1.0f / 120.0f);
    p = p * f + vec_set(1.0f / 24.0f);
    p = p * f + vec_set(1.0f / 6.0f);
    p = p * f + vec_set(0.5f);
    p = p * f + vec_set(1.0f);
    p = p * f + vec_set(1.0f);
    const ivec power = (__builtin_convertvector(n, ivec) + 127) << 23;
    return vec_pick(tiny, vec_set(0.0f), p * (vec)power);
#endif
}

#endif
