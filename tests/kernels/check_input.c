/* What the kernel check feeds its functions, and how it compares what comes back: random and
 * extreme numbers, buffers of the exact size on the heap (a sanitizer sees an over-read), results
 * that are equal bit by bit; only NaN counts as equal to any other NaN. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/check.h"

static uint64_t rng;

void random_seed(uint64_t seed)
{
    rng = seed;
}

uint32_t random_u32(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)(rng >> 16);
}

/* ---- buffers ---- */

#define HEAD 64 /* room in front of a buffer, so that its start can be put off an alignment */

/* n bytes that end where the allocation ends and start `off` bytes past a 64-byte boundary. */
void *buffer_new(size_t n, size_t off)
{
    void *p = NULL;

    if (posix_memalign(&p, 64, HEAD + off + n) != 0) {
        abort();
    }
    return (uint8_t *)p + HEAD + off;
}

void buffer_free(void *buffer, size_t off)
{
    free((uint8_t *)buffer - HEAD - off);
}

void fill_bytes(void *buffer, size_t n, int value) /* value < 0: random */
{
    uint8_t *p = buffer;

    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)(value < 0 ? random_u32() : (uint32_t)value);
    }
}

/* ---- numbers ---- */

float random_float(int magnitude) /* +-[1, 2) * 2^(-magnitude..magnitude) */
{
    const float m = 1.0f + (float)(random_u32() >> 9) * 0x1p-23f;
    const int e = magnitude ? (int)(random_u32() % (2 * (unsigned)magnitude + 1)) - magnitude : 0;

    return ldexpf(random_u32() & 1 ? m : -m, e);
}

/* What hurts: signed zeros, subnormals, the largest, infinities, NaN. */
float extreme_float(void)
{
    static const float values[] = {0.0f,     -0.0f,     0x1p-149f, -0x1.8p-130f, 0x1p-100f,
                                   0x1p-24f, 0x1p-126f, 65504.0f,  65520.0f,     -0x1.fffffep127f,
                                   INFINITY, -INFINITY, NAN,       1.0f,         0x1.ffcp-15f};

    return values[random_u32() % ARRAY_SIZE(values)];
}

uint16_t extreme_f16(void)
{
    static const uint16_t values[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff,
                                      0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0x3c00};

    return values[random_u32() % ARRAY_SIZE(values)];
}

void float_input(float *x, size_t n, size_t round)
{
    for (size_t i = 0; i < n; i++) {
        const bool extreme = round % 4 == 3 && random_u32() % 16 == 0;
        x[i] = extreme ? extreme_float() : random_float(round % 4 == 2 ? 70 : 3);
    }
}

void half_input(uint16_t *h, size_t n, size_t round)
{
    for (size_t i = 0; i < n; i++) {
        if (round % 4 == 3) {
            h[i] = random_u32() % 16 == 0 ? extreme_f16() : (uint16_t)random_u32();
        } else {
            h[i] = f16_from_f32(random_float(round % 4 == 2 ? 14 : 3));
        }
    }
}

/* ---- comparing ---- */

bool same_floats(const float *want, const float *got, size_t n, size_t *ret_at)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&want[i], &got[i], sizeof(float)) != 0 && !(isnan(want[i]) && isnan(got[i]))) {
            *ret_at = i;
            return false;
        }
    }
    return true;
}
