/* Attention's rows once for every instruction set: what is read ahead, single values, and the whole
 * of mixing. Before it a file has its common header, and says what a register is:
 *
 *   VEC, VEC_LANES    floats
 *   vec_load(p), vec_store(p, v), vec_all(x)
 *   vec_fma(a, b, c)  a * b + c, one rounding
 *
 * Without that it is one float.
 *
 * Values keep their sums in registers over all rows, and a value is widened once for all queries.
 * What comes next is asked for in small portions between the arithmetic: all at once, it would keep
 * what is computed now waiting. */
#ifndef ENGINE_KERNELS_ATTENTION_ROWS_H
#define ENGINE_KERNELS_ATTENTION_ROWS_H

#include <stdbool.h>
#include <string.h>

#include "engine/kernels/levels.h"

#ifndef VEC
#define INLINE static inline
#define VEC float
#define VEC_LANES 1
#define vec_load(p) (*(p))
#define vec_store(p, v) (*(p) = (v))
#define vec_all(x) (x)
#define vec_fma(a, b, c) __builtin_fmaf(a, b, c)
#endif

typedef VEC load_vec_fn(const void *rows, size_t at); /* VEC_LANES columns from column `at` on */

typedef float load1_fn(const void *rows, size_t at);

INLINE float load1_f32(const void *rows, size_t at)
{
    return ((const float *)rows)[at];
}

INLINE float load1_f16(const void *rows, size_t at)
{
    return f16_to_f32(((const uint16_t *)rows)[at]);
}

INLINE float load1_i8(const void *rows, size_t at)
{
    return ((const int8_t *)rows)[at];
}

/* Where the bytes lie that are asked for while `rows` are read. When nothing comes after them, they
 * themselves: asking for what is there costs less than to decide each time. */
INLINE const char *ahead_of(const struct kv_rows *rows)
{
    return rows->next ? rows->next : rows->rows;
}

INLINE void ask_for(const char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(p + i);
    }
}

/* What mixing a block goes by. */
struct mixing {
    const struct kv_rows *values;
    const float *const *weight;
    const float *a[KERN_QUERIES]; /* the weights, times the rows' scales if there are any */
    float *const *out;
    float *sum;
};

/* n_regs registers of columns from `col` on, over all rows. @adds: the weights' sums as well, a
 * chain of additions each, for which there is time between the products */
INLINE void mix_columns(const struct mixing *m, const size_t n_q, const size_t n_regs, size_t col,
                        load_vec_fn *load_vec, const size_t size, const bool adds)
{
    const size_t n = m->values->n, stride = m->values->n_cols;
    const char *ahead = ahead_of(m->values) + col * size;
    VEC each[KERN_QUERIES][16];
    float sum[KERN_QUERIES];

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        sum[t] = m->sum[t];
        UNROLL for (size_t r = 0; r < n_regs; r++)
        {
            each[t][r] = vec_load(m->out[t] + col + r * VEC_LANES);
        }
    }
    for (size_t j = 0; j < n; j++, ahead += stride * size) {
        VEC a[KERN_QUERIES];
        UNROLL for (size_t t = 0; t < n_q; t++)
        {
            a[t] = vec_all(m->a[t][j]);
            if (adds) {
                sum[t] += m->weight[t][j];
            }
        }
        ask_for(ahead, n_regs * VEC_LANES * size);
        UNROLL for (size_t r = 0; r < n_regs; r++)
        {
            const VEC v = load_vec(m->values->rows, j * stride + col + r * VEC_LANES);
            UNROLL for (size_t t = 0; t < n_q; t++)
            {
                each[t][r] = vec_fma(a[t], v, each[t][r]);
            }
        }
    }
    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        if (adds) {
            m->sum[t] = sum[t];
        }
        UNROLL for (size_t r = 0; r < n_regs; r++)
        {
            vec_store(m->out[t] + col + r * VEC_LANES, each[t][r]);
        }
    }
}

/* The columns from `col` on, and the weights' sums if nobody has added them up. */
INLINE void mix_rest(const struct mixing *m, const size_t n_q, size_t col, load1_fn *load1)
{
    const size_t n = m->values->n, n_cols = m->values->n_cols;

    for (size_t t = 0; t < n_q; t++) {
        for (size_t i = col; i < n_cols; i++) {
            for (size_t j = 0; j < n; j++) {
                const float v = load1(m->values->rows, j * n_cols + i);
                m->out[t][i] = __builtin_fmaf(m->a[t][j], v, m->out[t][i]);
            }
        }
        for (size_t j = 0; col == 0 && j < n; j++) {
            m->sum[t] += m->weight[t][j];
        }
    }
}

/* In runs of eight, which a compiler turns into registers. */
INLINE void multiply(const float *a, const float *b, size_t n, float *ret)
{
    size_t i = 0;

    for (; i < n - n % 8; i += 8) {
        float each[8];
        for (size_t j = 0; j < 8; j++) {
            each[j] = a[i + j] * b[i + j];
        }
        memcpy(ret + i, each, sizeof(each));
    }
    for (; i < n; i++) {
        ret[i] = a[i] * b[i];
    }
}

/* @most: registers of columns at a time, for one query more than for four
 * @size: of a value, bytes; @scaled: rows have a scale */
INLINE void mix_rows(struct mixing *m, const size_t n_q, const size_t most, load_vec_fn *load_vec,
                     load1_fn *load1, const size_t size, const bool scaled)
{
    const size_t n_cols = m->values->n_cols;
    float scaled_weight[KERN_QUERIES][KERN_ROWS];
    size_t col = 0;

    UNROLL for (size_t t = 0; t < n_q; t++)
    {
        if (scaled) {
            multiply(m->weight[t], m->values->d, m->values->n, scaled_weight[t]);
        }
        m->a[t] = scaled ? scaled_weight[t] : m->weight[t];
    }
    if (n_cols >= most * VEC_LANES) {
        mix_columns(m, n_q, most, 0, load_vec, size, true);
        col = most * VEC_LANES;
    } else if (n_cols >= VEC_LANES) {
        mix_columns(m, n_q, 1, 0, load_vec, size, true);
        col = VEC_LANES;
    }
    for (; col + most * VEC_LANES <= n_cols; col += most * VEC_LANES) {
        mix_columns(m, n_q, most, col, load_vec, size, false);
    }
    for (; most >= 4 && col + most / 2 * VEC_LANES <= n_cols; col += most / 2 * VEC_LANES) {
        mix_columns(m, n_q, most / 2, col, load_vec, size, false);
    }
    for (; col + VEC_LANES <= n_cols; col += VEC_LANES) {
        mix_columns(m, n_q, 1, col, load_vec, size, false);
    }
    mix_rest(m, n_q, col, load1);
}

#endif
