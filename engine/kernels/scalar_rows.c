/* The definition of attention's slots and of those that take one value after the other. Written out
 * as kernels.h says it, like scalar.c. */
#include "engine/kernels/levels.h"

#include <math.h>

#include "engine/mathf.h"

/* ---- attention ---- */

static int32_t dot_i8(const int8_t *a, const int8_t *b, size_t n)
{
    int32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static float score(enum row_kind kind, const struct kv_rows *keys, size_t i, const void *q)
{
    const size_t n = keys->n_cols, at = i * n;

    switch (kind) {
    case ROW_F16:
        return dot_f16_scalar((const uint16_t *)keys->rows + at, q, n);
    case ROW_I8:
        return (float)dot_i8((const int8_t *)keys->rows + at, q, n) * keys->d[i];
    default:
        return dot_f32_scalar((const float *)keys->rows + at, q, n);
    }
}

static void scores(enum row_kind kind, const struct kv_rows *keys, const struct queries *q,
                   float *const *ret)
{
    assert(keys->n >= 1 && keys->n <= KERN_ROWS && q->n >= 1 && q->n <= KERN_QUERIES);

    for (size_t t = 0; t < q->n; t++) {
        for (size_t i = 0; i < keys->n; i++) {
            ret[t][i] = score(kind, keys, i, q->q[t]) * q->scale[t];
        }
    }
}

void scores_f32_scalar(const struct kv_rows *keys, const struct queries *q, float *const *ret)
{
    scores(ROW_F32, keys, q, ret);
}

void scores_f16_scalar(const struct kv_rows *keys, const struct queries *q, float *const *ret)
{
    scores(ROW_F16, keys, q, ret);
}

void scores_i8_scalar(const struct kv_rows *keys, const struct queries *q, float *const *ret)
{
    scores(ROW_I8, keys, q, ret);
}

static float value(enum row_kind kind, const void *rows, size_t at)
{
    switch (kind) {
    case ROW_F16:
        return f16_to_f32(((const uint16_t *)rows)[at]);
    case ROW_I8:
        return (float)((const int8_t *)rows)[at];
    default:
        return ((const float *)rows)[at];
    }
}

static void mix(enum row_kind kind, const struct kv_rows *values, const float *const *weight,
                size_t n_queries, float *const *out, float *sum)
{
    assert(values->n >= 1 && values->n <= KERN_ROWS);
    assert(n_queries >= 1 && n_queries <= KERN_QUERIES);

    for (size_t t = 0; t < n_queries; t++) {
        for (size_t j = 0; j < values->n; j++) {
            const float a = kind == ROW_I8 ? weight[t][j] * values->d[j] : weight[t][j];
            for (size_t i = 0; i < values->n_cols; i++) {
                const float v = value(kind, values->rows, j * values->n_cols + i);
                out[t][i] = fmaf(a, v, out[t][i]);
            }
            sum[t] += weight[t][j];
        }
    }
}

void mix_f32_scalar(const struct kv_rows *values, const float *const *weight, size_t n_queries,
                    float *const *out, float *sum)
{
    mix(ROW_F32, values, weight, n_queries, out, sum);
}

void mix_f16_scalar(const struct kv_rows *values, const float *const *weight, size_t n_queries,
                    float *const *out, float *sum)
{
    mix(ROW_F16, values, weight, n_queries, out, sum);
}

void mix_i8_scalar(const struct kv_rows *values, const float *const *weight, size_t n_queries,
                   float *const *out, float *sum)
{
    mix(ROW_I8, values, weight, n_queries, out, sum);
}

void exp_below_max_scalar(float *x, size_t n)
{
    float max = -INFINITY;

    for (size_t i = 0; i < n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    for (size_t i = 0; i < n; i++) {
        x[i] = math_expf(x[i] - max);
    }
}

/* ---- one value after the other ---- */

void silu_mul_scalar(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        gate[i] = math_siluf(gate[i]) * up[i];
    }
}

void relu2_mul_scalar(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float r = gate[i] < 0 ? 0 : gate[i]; /* a NaN stays one */
        gate[i] = r * r * up[i];
    }
}

float largest_scalar(const float *x, size_t n)
{
    float top = -INFINITY;
    bool finite = true;

    assert(n >= 1);
    for (size_t i = 0; i < n; i++) {
        finite = finite && isfinite(x[i]);
        top = x[i] > top ? x[i] : top;
    }
    return finite ? top + 0.0f : NAN;
}

void scale_mul_scalar(const float *x, float scale, const float *w, float *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = x[i] * scale * w[i];
    }
}

void add_scaled_scalar(const float *x, const float *y, float a, float *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = x[i] + y[i] * a;
    }
}

static void rotate(float *x, const float *c, const float *s, size_t n, size_t step, size_t apart)
{
    for (size_t i = 0; i < n; i++) {
        float *a = &x[i * step], *b = a + apart;
        const float a0 = *a, b0 = *b;
        *a = a0 * c[i] - b0 * s[i];
        *b = a0 * s[i] + b0 * c[i];
    }
}

void rotate_halves_scalar(float *x, const float *c, const float *s, size_t n)
{
    rotate(x, c, s, n, 1, n);
}

void rotate_pairs_scalar(float *x, const float *c, const float *s, size_t n)
{
    rotate(x, c, s, n, 2, 1);
}
