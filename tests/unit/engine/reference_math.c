#include "tests/support/test.h"

#include "tests/unit/engine/reference_math.h"

#include <math.h>
#include <stdlib.h>

#define PI 3.14159265358979323846

double *ref_zeros(size_t n)
{
    double *ret = calloc(n, sizeof(*ret));

    assert_non_null(ret);
    return ret;
}

void ref_rms_norm(double *x, const double *w, size_t n, size_t n_runs, double eps)
{
    for (size_t run = 0; run < n_runs; run++, x += n) {
        double square = 0;
        for (size_t i = 0; i < n; i++) {
            square += x[i] * x[i];
        }
        for (size_t i = 0; i < n; i++) {
            x[i] = x[i] / sqrt(square / (double)n + eps) * w[i];
        }
    }
}

/* ---- rotation ---- */

void ref_rotation_init(struct rotation *r, size_t n_rot, bool neighbours, double base)
{
    *r = (struct rotation){.n_rot = n_rot, .neighbours = neighbours, .magnitude = 1};
    r->frequency = ref_zeros(n_rot / 2);
    for (size_t i = 0; i < n_rot / 2; i++) {
        r->frequency[i] = pow(base, -2.0 * (double)i / (double)n_rot);
    }
}

void ref_rotation_divide(struct rotation *r, const double *by)
{
    for (size_t i = 0; i < r->n_rot / 2; i++) {
        r->frequency[i] /= by[i];
    }
}

/* The pair, as a real number, that turns this often in the old context. */
static double pair_of(const struct rotation *r, double base, double n_ctx, double turns)
{
    return (double)r->n_rot * log(n_ctx / (2 * PI * turns)) / (2 * log(base));
}

void ref_rotation_yarn(struct rotation *r, double base, const struct yarn *y)
{
    const double last = (double)r->n_rot - 1;
    const double from = fmax(floor(pair_of(r, base, y->n_ctx_old, y->fast)), 0);
    const double to = fmin(ceil(pair_of(r, base, y->n_ctx_old, y->slow)), last);

    for (size_t i = 0; i < r->n_rot / 2; i++) {
        const double way = ((double)i - from) / fmax(to - from, 0.001);
        const double kept = y->extrapolation * (1 - fmin(fmax(way, 0), 1));
        r->frequency[i] = kept * r->frequency[i] + (1 - kept) * r->frequency[i] / y->factor;
    }
    if (y->extrapolation != 0) {
        r->magnitude *= 0.1 * log(y->factor) + 1;
    }
}

void ref_rotate(const struct rotation *r, double *x, size_t n_tokens, size_t n_head,
                size_t head_dim)
{
    const size_t step = r->neighbours ? 2 : 1, apart = r->neighbours ? 1 : r->n_rot / 2;

    for (size_t at = 0; at < n_tokens * n_head; at++, x += head_dim) {
        const double position = (double)(at / n_head);
        for (size_t i = 0; i < r->n_rot / 2; i++) {
            const double angle = position * r->frequency[i];
            const double a = x[step * i] * r->magnitude, b = x[step * i + apart] * r->magnitude;
            x[step * i] = a * cos(angle) - b * sin(angle);
            x[step * i + apart] = a * sin(angle) + b * cos(angle);
        }
    }
}

/* ---- attention ---- */

void ref_attend(const double *q, const double *k, const double *v, size_t stride, size_t n,
                size_t head_dim, double *ret)
{
    double *score = ref_zeros(n), max = -INFINITY, sum = 0;

    for (size_t p = 0; p < n; p++) {
        for (size_t i = 0; i < head_dim; i++) {
            score[p] += q[i] * k[p * stride + i] / sqrt((double)head_dim);
        }
        max = fmax(max, score[p]);
    }
    for (size_t p = 0; p < n; p++) {
        sum += score[p] = exp(score[p] - max);
    }
    for (size_t i = 0; i < head_dim; i++) {
        ret[i] = 0;
        for (size_t p = 0; p < n; p++) {
            ret[i] += score[p] / sum * v[p * stride + i];
        }
    }
    free(score);
}

/* ---- activations ---- */

static double largest(const double *x, size_t n)
{
    double ret = 0;

    for (size_t i = 0; i < n; i++) {
        ret = fmax(ret, fabs(x[i]));
    }
    return ret;
}

/* x as integers times amax / 127. */
static double int8_scaled(double *x, size_t n, double amax)
{
    double tie = 0.5;

    for (size_t i = 0; i < n; i++) {
        const double exact = x[i] * 127 / amax, q = fmin(fmax(rint(exact), -127), 127);
        tie = fmin(tie, 0.5 - fabs(exact - rint(exact)));
        x[i] = q * amax / 127;
    }
    return tie;
}

double ref_int8_blocks(double *x, size_t n, size_t n_block)
{
    double tie = 0.5;

    assert_true(n % n_block == 0);
    for (size_t at = 0; at < n; at += n_block) {
        const double amax = largest(x + at, n_block);
        if (amax >= 0x1p-100) {
            tie = fmin(tie, int8_scaled(x + at, n_block, amax));
        } else {
            for (size_t i = 0; i < n_block; i++) {
                x[at + i] = 0;
            }
        }
    }
    return tie;
}

double ref_int8_token(double *x, size_t n)
{
    return int8_scaled(x, n, fmax(largest(x, n), 1e-5));
}

double ref_signs(double *x, const double *threshold, size_t n)
{
    double square = 0, near = INFINITY;

    for (size_t i = 0; i < n; i++) {
        square += x[i] * x[i] / (double)n;
        near = fmin(near, fabs(x[i] - threshold[i]));
        x[i] = x[i] - threshold[i] >= 0 ? 1 : -1;
    }
    return near / sqrt(square);
}
