/* FNV-1a, 64 bits: finds rot and spreads keys. It defends nothing: whoever chooses the bytes can
 * make them collide. */
#ifndef BASE_FNV_H
#define BASE_FNV_H

#include <stddef.h>
#include <stdint.h>

#define FNV_START UINT64_C(0xcbf29ce484222325)

/** fnv_add() - @h: FNV_START, or what came of the bytes before */
static inline uint64_t fnv_add(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < n; i++) {
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    }
    return h;
}

#endif
