/* The inner products, behind a table filled for one CPU level.
 *
 * Every slot is defined by its scalar twin in scalar.c; engine/NUMERICS.md gives the order of every
 * float operation. All implementations return the same bits for the same bytes.
 *
 * Packed weights. Rows are taken 16 at a time (a panel); the last panel is filled up with rows of
 * zero scale. Inside a panel the columns are walked in tiles of 16 rows x 4 columns, so that a 32-bit
 * lane of a register is one row and four neighbouring columns: no horizontal sums, one chain per row.
 *
 *   B1 (from Q1_0), per group of 128 columns, 288 bytes:
 *       uint16_t scale[16]      f16, one per row
 *       uint8_t  tile[32][8]    tile c covers columns 4c..4c+3; bit (4 * row + column % 4), counted from
 *                               bit 0 of byte 0, set means +1, clear means -1
 *   I8 (from Q8_0), per group of 32 columns, 544 bytes:
 *       uint16_t scale[16]
 *       int8_t   tile[8][16][4] tile c, row, column % 4
 *   T2 (from TQ2_0), per group of 256 columns, 1056 bytes:
 *       uint16_t scale[16]
 *       uint8_t  line[16][64]   line l covers columns 16l..16l+15; byte (4 * row + column % 4), bits
 *                               2p+1:2p hold column 16l + 4p + column % 4; code - 1 is the weight (-1..2)
 *
 * Activations. Quantized once per token into blocks (struct act_q8); the block of B1 and I8 is 32
 * columns, of T2 256. One row of a product is then
 *
 *   acc = 0
 *   for each weight group g, ascending:
 *       part = 0
 *       for each activation block b inside g, ascending:
 *           part = fma(d[b], (float)s[b], part)      s[b]: exact int32 sum of weight code * q
 *       acc = fma(scale[g], part, acc)
 *
 * in float, with the f16 scale widened exactly. */
#ifndef ENGINE_KERNELS_KERNELS_H
#define ENGINE_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/kernels/cpu.h"

#define PANEL_ROWS 16
#define B1_GROUP 128
#define B1_GROUP_BYTES 288 /* per panel */
#define I8_GROUP 32
#define I8_GROUP_BYTES 544
#define T2_GROUP 256
#define T2_GROUP_BYTES 1056
#define ACT_BLOCK 32     /* for B1 and I8 */
#define ACT_BLOCK_T2 256 /* for T2 */

/* Columns of any product: bounds buffers; block sums are far from int32 limits (NUMERICS.md). */
#define KERN_COLS_MAX ((size_t)1 << 20)

/* Several tokens' activations for one product, quantized to int8 in blocks. Rows are tokens. */
struct act_q8 {
    const int8_t *q; /* (token, n_cols) borrowed; row stride q_stride bytes; 64-byte aligned rows */
    const float *d;  /* (token, n_cols / block) borrowed; row stride d_stride floats */
    const int32_t *s; /* (token, n_cols / block) sum of the block's q; row stride d_stride */
    size_t q_stride;  /* bytes, a multiple of 64 */
    size_t d_stride;  /* elements, a multiple of 16 */
    size_t n_tokens;  /* >= 1 */
};

/**
 * panel_fn - 16 rows times n_tokens tokens
 * @panel:  one panel, n_cols / group * group_bytes bytes; 32-byte aligned
 * @n_cols: a multiple of the format's group, at most KERN_COLS_MAX
 * @act:    quantized with the format's activation block
 * @out:    (token, 16) written; row stride out_stride floats. Any alignment.
 */
typedef void panel_fn(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,
                      size_t out_stride);

/**
 * quant_fn - quantize one token's activations
 * @x:     n floats; @n a multiple of @block; @block 32 or 256
 * @q, @d, @s: n values, n / block scales, n / block sums of q; written
 *
 * amax = max |x| of the block; when amax is not finite, d is NaN and q is 0; when amax < 2^-100, d
 * and q are 0; else d = amax / 127, q = x * (127 / amax) rounded to nearest even and clamped to
 * [-127, 127], all in float.
 */
typedef void quant_fn(const float *x, size_t n, size_t block, int8_t *q, float *d, int32_t *s);

/**
 * dot_f32_fn, dot_half_fn - float dot product of fixed order
 *
 * Sixteen partial sums, p[i % 16] = fma(w[i], x[i], p[i % 16]) with i ascending from p = 0; then
 * p[j] += p[j + 8] for j < 8, p[j] += p[j + 4] for j < 4, p[j] += p[j + 2] for j < 2, p[0] + p[1].
 * f16 and bf16 are widened exactly. Any n, any alignment.
 */
typedef float dot_f32_fn(const float *w, const float *x, size_t n);
typedef float dot_half_fn(const uint16_t *w, const float *x, size_t n);

/** axpy: y[i] = fma(a, x[i], y[i]); any n, any alignment */
typedef void axpy_f32_fn(float a, const float *x, float *y, size_t n);
typedef void axpy_f16_fn(float a, const uint16_t *x, float *y, size_t n);

/** f32_to_f16: round to nearest even, subnormals kept, overflow to infinity, NaN stays NaN */
typedef void f32_to_f16_fn(const float *x, uint16_t *ret, size_t n);

struct kernels {
    panel_fn *panel_b1;
    panel_fn *panel_i8;
    panel_fn *panel_t2;
    quant_fn *quant;
    dot_f32_fn *dot_f32;
    dot_half_fn *dot_f16;
    dot_half_fn *dot_bf16;
    axpy_f32_fn *axpy_f32;
    axpy_f16_fn *axpy_f16;
    f32_to_f16_fn *f32_to_f16;
};

/**
 * kernels_init() - every slot gets its scalar twin, then the best version the level allows
 * @level: present on this machine (cpu_level_present); the caller has checked
 */
void kernels_init(struct kernels *k, enum cpu_level level);

/* One f16 or bf16 value, exactly widened; one f32 rounded to f16. For tables, scales and tests. */
float f16_to_f32(uint16_t h);
float bf16_to_f32(uint16_t h);
uint16_t f16_from_f32(float x);

#endif
