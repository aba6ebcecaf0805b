/* Where the codes and scales of a GGUF block stand, for decoding and packing: one function a field.
 *
 * Layouts: ggml's block structures (Q*, TQ*), bitnet.cpp's I2_S in the layout of its published
 * files (blocks of 128 weights in 32 bytes), ik_llama.cpp's IQ2_BN. Little-endian, unaligned. */
#ifndef ENGINE_FORMAT_CODE_H
#define ENGINE_FORMAT_CODE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "weights are read in place and are little-endian"
#endif

#define Q8_BLOCK 32u
#define Q8_BYTES 34u
#define Q1_BLOCK 128u
#define Q1_BYTES 18u
#define Q2_BLOCK 64u
#define Q2_BYTES 18u
#define Q2G128_BLOCK 128u
#define Q2G128_BYTES 34u
#define T2_BLOCK 256u /* TQ2_0 */
#define T2_BYTES 66u
#define T2_SCALE_AT 64u
#define T1_BYTES 54u /* TQ1_0: blocks of T2_BLOCK weights */
#define T1_SCALE_AT 52u
#define I2S_BLOCK 128u
#define I2S_BYTES 32u
#define I2S_TAIL 32u
#define BN2_BLOCK 64u /* IQ2_BN */
#define BN2_BYTES 16u
#define BN2_HEAD 4u
#define Q4_BYTES 18u   /* blocks of Q8_BLOCK weights */
#define Q4_1_BYTES 20u /* the same */
#define Q5_0_BYTES 22u /* the same */
#define K_BLOCK 256u
#define Q4K_BYTES 144u
#define Q5K_BYTES 176u
#define Q6K_BYTES 210u
#define Q6K_SCALES_AT 192u
#define Q6K_D_AT 208u

static inline uint16_t load16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static inline void store16(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, sizeof(v));
}

static inline float load_f32(const uint8_t *p)
{
    float v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* ---- codes; i is the weight's place in its block ---- */

/* Q1_0: 1 for +d, 0 for -d */
static inline unsigned q1_code(const uint8_t *block, size_t i)
{
    return block[2 + i / 8] >> (i % 8) & 1u;
}

/* Q2_0 of either group: the weight is code - 1 */
static inline unsigned q2_code(const uint8_t *block, size_t i)
{
    return block[2 + i / 4] >> (2 * (i % 4)) & 3u;
}

/* Q4_0: signed; Q4_1's codes are the same without the 8, two bytes later */
static inline int q4_code(const uint8_t *block, size_t i)
{
    return (i < 16 ? block[2 + i] & 15 : block[2 + i - 16] >> 4) - 8;
}

static inline int q4_1_code(const uint8_t *block, size_t i)
{
    return q4_code(block + 2, i) + 8;
}

/* Q5_0: f16 d, 32 fifth bits, then Q4_0's nibbles; signed */
static inline int q5_0_code(const uint8_t *block, size_t i)
{
    const int fifth = block[2 + i / 8] >> (i % 8) & 1;

    return (q4_code(block + 4, i) + 8) + 16 * fifth - 16;
}

/* TQ2_0: the weight is code - 1 */
static inline unsigned tq2_code(const uint8_t *block, size_t i)
{
    const size_t half = i / 128, k = i % 128 / 32, m = i % 32;

    return block[32 * half + m] >> (2 * k) & 3u;
}

/* TQ1_0: digit k of a byte; the weight is digit - 1 */
static inline unsigned tq1_code(const uint8_t *block, size_t i)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    size_t byte, k;

    if (i < 160) {
        byte = i % 32;
        k = i / 32;
    } else if (i < 240) {
        byte = 32 + (i - 160) % 16;
        k = (i - 160) / 16;
    } else {
        byte = 48 + (i - 240) % 4;
        k = (i - 240) / 4;
    }
    const unsigned x = (uint8_t)(block[byte] * power[k]);
    return x * 3 >> 8;
}

/* I2_S: the first 32 weights stand in the highest bits; the weight is code - 1 */
static inline unsigned i2s_code(const uint8_t *block, size_t i)
{
    return block[i % 32] >> (6 - 2 * (i / 32)) & 3u;
}

/* IQ2_BN: the weight is code - 1 */
static inline unsigned bn2_code(const uint8_t *block, size_t i)
{
    return block[i % 16] >> (2 * (i / 16)) & 3u;
}

/* ---- K formats: block j of 32 weights has a scale and a minimum of six bits each ---- */

static inline unsigned k_scale(const uint8_t *block, size_t j)
{
    const uint8_t *s = block + 4;

    return j < 4 ? s[j] & 63u : (s[j + 4] & 15u) | (unsigned)(s[j - 4] >> 6) << 4;
}

static inline unsigned k_min(const uint8_t *block, size_t j)
{
    const uint8_t *s = block + 4;

    return j < 4 ? s[j + 4] & 63u : (unsigned)(s[j + 4] >> 4) | (unsigned)(s[j] >> 6) << 4;
}

static inline unsigned k_nibble(const uint8_t *nibbles, size_t i)
{
    const size_t pair = i / 64, m = i % 32;

    return nibbles[32 * pair + m] >> (i % 64 / 32 * 4) & 15u;
}

static inline unsigned q4k_code(const uint8_t *block, size_t i)
{
    return k_nibble(block + 16, i);
}

static inline unsigned q5k_code(const uint8_t *block, size_t i)
{
    return k_nibble(block + 48, i) | (block[16 + i % 32] >> (i / 32) & 1u) << 4;
}

/* Six bits, 0..63; the weight is code - 32. The scale of 16 weights is at Q6K_SCALES_AT + i /
 * 16. */
static inline unsigned q6k_code(const uint8_t *block, size_t i)
{
    const size_t half = i / 128, quarter = i % 128 / 32, m = i % 32;
    const unsigned low = block[64 * half + 32 * (quarter % 2) + m] >> (4 * (quarter / 2)) & 15u;
    const unsigned high = block[128 + 32 * half + m] >> (2 * quarter) & 3u;

    return low | high << 4;
}

#endif
