/* Quantization of activations once for every instruction set: what decides, and what goes over the
 * blocks. A level gives its two loops, which are inlined. scalar.c has its own, which is the
 * definition. */
#ifndef ENGINE_KERNELS_QUANT_H
#define ENGINE_KERNELS_QUANT_H

#include <assert.h>
#include <string.h>

#include "engine/kernels/levels.h"

#define QUANT_INLINE static inline __attribute__((always_inline))

/* The largest magnitude's bits: magnitudes order like their bits, NaN above infinity. */
typedef uint32_t top_bits_fn(const float *x, size_t n);

/* q = x * factor, rounded to nearest even and clamped to +-127; returns the sum of q. */
typedef int32_t quant_block_fn(const float *x, size_t n, float factor, int8_t *q);

QUANT_INLINE float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* What fills no register, for a level's top_bits_fn: the larger of `top` and the n values' top. */
QUANT_INLINE uint32_t top_of_rest(const float *x, size_t n, uint32_t top)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof(bits));
        bits &= 0x7fffffff;
        top = bits > top ? bits : top;
    }
    return top;
}

/* quant_fn: a scale per block */
QUANT_INLINE void quant_blocks(const float *x, size_t n, size_t block, int8_t *q, float *d,
                               int32_t *s, top_bits_fn *top_bits, quant_block_fn *quant_block)
{
    assert(block >= 1 && n % block == 0 && n <= KERN_COLS_MAX);

    for (size_t b = 0; b < n / block; b++) {
        const uint32_t top = top_bits(x + b * block, block);
        const float amax = float_of(top);
        if (top >= 0x7f800000 || amax < 0x1p-100f) {
            d[b] = float_of(top >= 0x7f800000 ? 0x7fc00000 : 0);
            memset(q + b * block, 0, block);
            s[b] = 0;
            continue;
        }
        d[b] = amax / 127.0f;
        s[b] = quant_block(x + b * block, block, 127.0f / amax, q + b * block);
    }
}

/* quant_fn: one scale for the token, given as its inverse in every block */
QUANT_INLINE void quant_whole(const float *x, size_t n, size_t block, int8_t *q, float *d,
                              int32_t *s, top_bits_fn *top_bits, quant_block_fn *quant_block)
{
    assert(block >= 1 && n % block == 0 && n <= KERN_COLS_MAX);

    const uint32_t top = top_bits(x, n);
    const bool broken = top >= 0x7f800000;
    const float a = float_of(top) > 1e-5f ? float_of(top) : 1e-5f;
    if (broken) {
        memset(q, 0, n);
    }
    for (size_t b = 0; b < n / block; b++) {
        d[b] = broken ? float_of(0x7fc00000) : 127.0f / a;
        s[b] = broken ? 0 : quant_block(x + b * block, block, 127.0f / a, q + b * block);
    }
}

/* The two quant_fn of a level. */
#define QUANT(blocks_name, token_name, top_bits, quant_block)                                      \
    void blocks_name(const float *x, size_t n, size_t block, int8_t *q, float *d, int32_t *s)      \
    {                                                                                              \
        quant_blocks(x, n, block, q, d, s, top_bits, quant_block);                                 \
    }                                                                                              \
    void token_name(const float *x, size_t n, size_t block, int8_t *q, float *d, int32_t *s)       \
    {                                                                                              \
        quant_whole(x, n, block, q, d, s, top_bits, quant_block);                                  \
    }

#endif
