/* Chance that is the same everywhere: whole numbers alone, no clock, no library (splitmix64, public
 * domain: S. Vigna). */
#ifndef TRAIN_RNG_H
#define TRAIN_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t state;
};

/** rng_mix() - splitmix64's last step: near inputs give far outputs */
static inline uint64_t rng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline uint64_t rng_next(struct rng *r)
{
    r->state += UINT64_C(0x9e3779b97f4a7c15);
    return rng_mix(r->state);
}

/** rng_below() - from 0 to n - 1; n is at least 1 */
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)(((rng_next(r) >> 32) * n) >> 32);
}

/** rng_chance() - true in @permille of 1000 cases */
static inline bool rng_chance(struct rng *r, uint32_t permille)
{
    return rng_below(r, 1000) < permille;
}

#endif
