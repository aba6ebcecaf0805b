/* The inner products, behind a table filled for one CPU level.
 *
 * Every slot is defined by its scalar twin in scalar.c and scalar_panels.c; engine/NUMERICS.md
 * gives the order of every float operation. All implementations return the same bits for the same
 * bytes.
 *
 * Packed weights. Rows are taken 16 at a time (a panel); the last panel is filled up with rows of
 * zero scale. Inside a panel the columns are walked in tiles of 16 rows x 4 columns, so that a
 * 32-bit lane of a register is one row and four neighbouring columns: no horizontal sums, one chain
 * per row. "lane" below is byte 4 * row + column % 4 of 64. Scales are f16, one per row, 16 of them
 * in a row.
 *
 *   B1, per group of 128 columns:
 *       scale[16], uint8_t line[4][4][16]
 *                                        line l covers columns 32l..32l+31; bit k of byte [i][row]
 *                                        holds column 32l + 8i + k; set means +1, clear means -1
 *   X1, per group of 128, the same weights for activations of +1 and -1:
 *       scale[16], uint32_t line[4][16]
 *                                        line l covers columns 32l..32l+31; bit k of word [row]
 *                                        holds column 32l + k; set means +1, clear means -1
 *   I8, per group of 32:
 *       scale[16], int8_t tile[8][64]    tile c covers columns 4c..4c+3, by lane
 *   T64, T128, T256, per group of 64, 128, 256:
 *       scale[16], uint8_t line[][64]    line l covers columns 16l..16l+15; a lane's bits 2p+1:2p
 *                                        hold column 16l + 4p + column % 4; code - 1 is the
 *                                        weight (-1..2)
 *   TROW, the whole row:
 *       float scale[16], then the lines of T64, without groups
 *   N4, N4M, per group of 32:
 *       scale[16], N4M: min[16] (f16), uint8_t tile[4][64]
 *                                        tile c covers columns 8c..8c+7; a lane's low four bits
 *                                        hold column 8c + column % 4, its high bits column 8c + 4 +
 *                                        column % 4; the weight is N4: scale * (code - 8), N4M:
 *                                        scale * code + min
 *   K4, K5, per group of 256:
 *       d[16], dmin[16], uint8_t sc[8][16], uint8_t mn[8][16], uint8_t tile[32][64] as in N4,
 *       K5: uint8_t fifth[8][64]         fifth[j] covers columns 32j..32j+31; a lane's bit c is the
 *                                        fifth bit of column 32j + 4c + column % 4
 *                                        weight in the 32 columns j:
 *                                        d * sc[j] * code - dmin * mn[j]
 *   K6, per group of 256:
 *       d[16], int8_t sc[16][16], uint8_t tile[32][64] as in N4,
 *       uint8_t line[16][64]             bits five and six, placed as in the lines of T64
 *                                        weight in the 16 columns j: d * sc[j] * (code - 32)
 *
 * Activations are quantized once per token into blocks (struct act_q8); TROW wants quant_token's r
 * in d. X1 takes binarize's bits in q, n_cols / 8 bytes a token, and what it returns in d, one a
 * token; s is unused. How a row's result is summed up stands in NUMERICS.md. */
#ifndef ENGINE_KERNELS_KERNELS_H
#define ENGINE_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "engine/kernels/cpu.h"

#define PANEL_ROWS 16
#define ACT_BLOCK 32       /* columns in a block of activations, for all panels but the next two */
#define ACT_BLOCK_T256 256 /* for T256; TROW takes the whole row as one block */

enum panel_kind {
    PANEL_NONE = 0, /* rows stay as they are, and the product takes floats */
    PANEL_B1,
    PANEL_I8,
    PANEL_T64,
    PANEL_T128,
    PANEL_T256,
    PANEL_TROW,
    PANEL_N4,
    PANEL_N4M,
    PANEL_K4,
    PANEL_K5,
    PANEL_K6,
    PANEL_X1,
    PANELS, /* count */
};

#define B1_GROUP 128
#define B1_GROUP_BYTES 288
#define B1_LINE_BYTES 64  /* ACT_BLOCK columns */
#define B1_PANELS_BEST 8u /* panels of a call by tables, at most */
#define X1_GROUP 128
#define X1_GROUP_BYTES 288
#define X1_LINE_BYTES 64 /* 32 columns */
#define I8_GROUP 32
#define I8_GROUP_BYTES 544
#define T256_GROUP 256
#define T256_GROUP_BYTES 1056
#define T_LINE 16 /* columns of a line */
#define T_LINE_BYTES 64
#define TROW_HEAD_BYTES 64
#define TROW_GROUP 64 /* columns are a multiple of it */
#define N4_GROUP 32
#define N4_GROUP_BYTES 288
#define N4M_GROUP_BYTES 320
#define K_GROUP 256
#define K4_GROUP_BYTES 2368
#define K5_GROUP_BYTES 2880
#define K6_GROUP_BYTES 3360

/* What a kind of panel takes. */
struct panel_info {
    const char *name;     /* "b1" */
    uint32_t group;       /* columns are a multiple of it */
    uint32_t group_bytes; /* of 16 rows */
    uint32_t head_bytes;  /* before the first group */
    uint32_t act_block;   /* columns in a block of activations; 0: the whole row */
};

/** panel_info() - static facts; kind is not PANEL_NONE */
const struct panel_info *panel_info(enum panel_kind kind);

/** panel_bytes() - bytes of a panel; n_cols a multiple of the group, at most KERN_COLS_MAX */
size_t panel_bytes(enum panel_kind kind, size_t n_cols);

/* Columns of any product: bounds buffers, and keeps every sum within int32 (NUMERICS.md). */
#define KERN_COLS_MAX ((size_t)1 << 20)

/* Several tokens' activations for one product, quantized to int8 in blocks. Rows are tokens. */
struct act_q8 {
    const int8_t *q; /* (token, n_cols) borrowed; row stride q_stride bytes; 64-byte aligned rows */
    const float *d;  /* (token, n_cols / block) borrowed; row stride d_stride floats */
    const int32_t *s;    /* (token, n_cols / block) sum of the block's q; row stride d_stride */
    size_t q_stride;     /* bytes, a multiple of 64 */
    size_t d_stride;     /* elements, a multiple of 16 */
    size_t n_tokens;     /* >= 1 */
    const uint8_t *sums; /* B1: what quad_sums made of each token's q, borrowed; or NULL, with which
                          * every level gives the same result by its slowest way */
    size_t sums_stride;  /* bytes, a multiple of 32 */
};

/* Binary weights by tables. Four neighbouring columns (a quad) of a row can be kept or not in
 * sixteen ways, so the sum of the kept activations is one of sixteen numbers that depend on the
 * token alone: K[i] = sum of q[k] over the bits k set in i. It lies within -512..508 and is kept
 * as two bytes, K & 31 and (K >> 5) + 16. Eight quads, a block of activations, add up to at most
 * 8 * 31 = 248 in either, so both are summed in bytes, sixteen or more rows in a register, and
 * kept = 32 * (high - 128) + low; the block's product is 2 * kept - sum(q). The sixteen tables of a
 * block lie quad by quad, the low bytes and then the high ones; at AVX-512 as its registers want
 * them: low bytes of quads 0, 2, 4, 6, of 1, 3, 5, 7, then the high bytes likewise. */
#define QUAD_SUMS_BYTES 32 /* of a quad: 16 low bytes and 16 high ones */

/**
 * quad_sums_fn - one token's tables
 * @q:      n_cols values
 * @n_cols: a multiple of ACT_BLOCK
 * @ret:    (n_cols / 4, QUAD_SUMS_BYTES) written, for b1_panels of the same level; 32-byte aligned
 */
typedef void quad_sums_fn(const int8_t *q, size_t n_cols, uint8_t *ret);

/**
 * panel_fn - 16 rows times n_tokens tokens
 * @panel:  panel_bytes(); 32-byte aligned
 * @n_cols: a multiple of the kind's group, at most KERN_COLS_MAX
 * @act:    quantized with the kind's block
 * @out:    (token, 16) written; row stride out_stride floats. Any alignment.
 */
typedef void panel_fn(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,
                      size_t out_stride);

/**
 * b1_panels_fn - the same for n_panels of B1 that lie one after the other
 * @n_panels: 1..B1_PANELS_BEST
 * @next:     as many that are multiplied after these: only prefetched; NULL: unknown
 * @act:      with sums
 * @out:      (token, panel, 16)
 */
typedef void b1_panels_fn(const uint8_t *panels, size_t n_panels, const uint8_t *next,
                          size_t n_cols, const struct act_q8 *act, float *out, size_t out_stride);

#define WIDE_TOKENS 64 /* of a wide product, at most */
#define WIDE_PASS 32   /* of them that pass together */
#define WIDE_PANELS 96
#define WIDE_ROOM_BYTES ((size_t)660 << 10) /* scratch of a call */

/**
 * wide_fn - panels that lie one after the other times many tokens, by tables of the tokens' sums;
 * the same bits as by panel_fn. Tokens pass WIDE_PASS together, or wide_step; fewer take as long.
 * @n_panels: 1..WIDE_PANELS
 * @act:      at most WIDE_TOKENS tokens; quantized with the kind's block; sums unused
 * @out:      (token, panel, 16) written; row stride out_stride floats. Any alignment.
 * @room:     WIDE_ROOM_BYTES of scratch, 64-byte aligned
 */
typedef void wide_fn(const uint8_t *panels, size_t n_panels, size_t n_cols,
                     const struct act_q8 *act, float *out, size_t out_stride, void *room);

/**
 * quant_fn - quantize one token's activations
 * @x:     n floats
 * @block: 32 or 256 with n a multiple of it, or n itself (any n up to KERN_COLS_MAX)
 * @q, @d, @s: n values, n / block scales, n / block sums of q; written
 *
 * `quant` takes a scale per block: amax = max |x| of the block; when amax is not finite, d is NaN
 * and q is 0; when amax < 2^-100, d and q are 0; else d = amax / 127, q = x * (127 / amax) rounded
 * to nearest even and clamped to [-127, 127], all in float.
 *
 * `quant_token` takes one scale for all n (the activations of BitLinear) and writes its reciprocal
 * r to every d, since the layer's result is divided by it: amax = max |x| of all; not finite: every
 * d is NaN and q is 0; else a = max(amax, 1e-5), r = 127 / a, q = x * r rounded and clamped as
 * above.
 */
typedef void quant_fn(const float *x, size_t n, size_t block, int8_t *q, float *d, int32_t *s);

/**
 * binarize_fn - one token's activations by their signs, for X1
 * @x, @threshold: n floats
 * @n:    a multiple of 32, at most KERN_COLS_MAX
 * @bits: n / 8 bytes, any alignment; written. Bit i % 8 of byte i / 8 is clear where x[i] >=
 *        threshold[i], which stands for +1, and set elsewhere, which stands for -1: where it equals
 *        a weight's bit, the two differ.
 *
 * Return: 1; NaN where one of x is not finite, whose result the product then is.
 */
typedef float binarize_fn(const float *x, const float *threshold, size_t n, uint8_t *bits);

/**
 * dot_f32_fn, dot_half_fn - float dot product of fixed order
 *
 * Sixteen partial sums, p[i % 16] = fma(w[i], x[i], p[i % 16]) with i ascending from p = 0; then
 * p[j] += p[j + 8] for j < 8, p[j] += p[j + 4] for j < 4, p[j] += p[j + 2] for j < 2, p[0] + p[1].
 * f16 and bf16 are widened exactly. Any n, any alignment.
 */
typedef float dot_f32_fn(const float *w, const float *x, size_t n);
typedef float dot_half_fn(const uint16_t *w, const float *x, size_t n);

/* ---- attention ---- */

/* What a row of keys or values is made of. */
enum row_kind { ROW_F32 = 0, ROW_F16, ROW_I8, ROW_KINDS };

#define KERN_QUERIES 4 /* query heads that share one reading of the rows, at most */
#define KERN_ROWS 32   /* rows in one call, at most */

/* Neighbouring positions' keys, or values, of one head. */
struct kv_rows {
    const void *rows; /* (n, n_cols) of the slot's kind, borrowed. Any alignment. */
    const float *d;   /* (n) scales of ROW_I8, borrowed; else unused */
    const void *next; /* what is read soon: (KERN_ROWS, n_cols), only prefetched; or NULL */
    size_t n;         /* 1..KERN_ROWS */
    size_t n_cols;    /* of the head, at most 65,536 */
};

/* Query heads that look at the same rows. */
struct queries {
    const void *q[KERN_QUERIES]; /* (n_cols) floats, for ROW_I8 int8 within +-127; borrowed */
    float scale[KERN_QUERIES];
    size_t n; /* 1..KERN_QUERIES */
};

/**
 * scores_fn - how well each query fits each key
 * @ret: ret[t][i] for query t and row i; written
 *
 * dot(row i, q[t]) * scale[t], the dot product being dot_f32's or dot_f16's; for ROW_I8 it is the
 * exact integer sum and the score ((float)sum * d[i]) * scale[t]. Rows may hold -128.
 */
typedef void scores_fn(const struct kv_rows *keys, const struct queries *q, float *const *ret);

/**
 * mix_fn - add weighted values, and the weights
 * @weight: weight[t][j] of row j for query t
 * @out:    out[t]: (n_cols) read and written
 * @sum:    (n_queries) read and written
 *
 * out[t][i] = fma(a, (float)row[j][i], out[t][i]) for j ascending, where a is weight[t][j], for
 * ROW_I8 weight[t][j] * d[j]; sum[t] = sum[t] + weight[t][j] for j ascending.
 */
typedef void mix_fn(const struct kv_rows *values, const float *const *weight, size_t n_queries,
                    float *const *out, float *sum);

/** exp_below_max: x[i] = math_expf(x[i] - max), where max is the largest of the n (a NaN is not);
 * any n, any alignment */
typedef void exp_below_max_fn(float *x, size_t n);

/* ---- one value after the other; any n, any alignment ---- */

/** silu_mul: gate[i] = math_siluf(gate[i]) * up[i]; relu2_mul: r = (gate[i] < 0 ? 0 : gate[i]),
 * gate[i] = (r * r) * up[i] */
typedef void gate_mul_fn(float *gate, const float *up, size_t n);

/** largest: of n >= 1, the largest; +0 for a zero; NaN unless all are finite */
typedef float largest_fn(const float *x, size_t n);

/** scale_mul: ret[i] = (x[i] * scale) * w[i]; ret may be x */
typedef void scale_mul_fn(const float *x, float scale, const float *w, float *ret, size_t n);

/** add_scaled: ret[i] = x[i] + (y[i] * a); ret may be x */
typedef void add_scaled_fn(const float *x, const float *y, float a, float *ret, size_t n);

/** rotate: a' = (a * c[i]) - (b * s[i]), b' = (a * s[i]) + (b * c[i]) for n pairs a, b of x:
 * `rotate_halves` takes x[i], x[n + i], `rotate_pairs` x[2i], x[2i + 1] */
typedef void rotate_fn(float *x, const float *c, const float *s, size_t n);

/** f32_to_f16: round to nearest even, subnormals kept, overflow to infinity, NaN stays NaN */
typedef void f32_to_f16_fn(const float *x, uint16_t *ret, size_t n);

struct kernels {
    panel_fn *panel[PANELS]; /* NULL at PANEL_NONE */
    panel_fn *pair[PANELS];  /* the same for two panels that lie one after the other; out: (token,
                              * 2, 16). NULL where that gains nothing */
    quad_sums_fn *quad_sums; /* this and the next: both, or NULL: the level has none */
    b1_panels_fn *b1_panels;
    wide_fn *wide[PANELS]; /* NULL where the level has none, or faster ways */
    size_t wide_step;      /* tokens that take a wide product as long as fewer: WIDE_PASS or half */
    quant_fn *quant;
    quant_fn *quant_token;
    binarize_fn *binarize;
    dot_f32_fn *dot_f32;
    dot_half_fn *dot_f16;
    dot_half_fn *dot_bf16;
    scores_fn *scores[ROW_KINDS];
    mix_fn *mix[ROW_KINDS];
    exp_below_max_fn *exp_below_max;
    gate_mul_fn *silu_mul;
    gate_mul_fn *relu2_mul;
    largest_fn *largest;
    scale_mul_fn *scale_mul;
    add_scaled_fn *add_scaled;
    rotate_fn *rotate_halves;
    rotate_fn *rotate_pairs;
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
