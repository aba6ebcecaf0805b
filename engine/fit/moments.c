/* V is found without the inverse: H = U U^T with U upper triangular, which is Cholesky's
 * decomposition begun at the other end, and so the inverse of H is (U^-1)^T U^-1, and V = U^-1. */
#include "engine/fit/moments.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "engine/threads.h"

#define DAMP 0.01
#define TRIES 4u                 /* each with ten times as much on the diagonal */
#define SLICE 64u                /* columns or rows that a thread takes at once */
#define ALONE ((size_t)64 << 10) /* fewer multiply-adds are not worth handing out */

int moments_begin(struct moments *m, size_t n)
{
    *m = (struct moments){.n = n};
    m->v = calloc(n * n, sizeof(*m->v));
    m->h = malloc(n * n * sizeof(*m->h));
    m->scratch = malloc(n * sizeof(*m->scratch));
    return m->v && m->h && m->scratch ? 0 : -ENOMEM;
}

void moments_deinit(struct moments *m)
{
    free(m->v);
    free(m->h);
    free(m->scratch);
    *m = (struct moments){0};
}

/* Eight chains, so that a register holds some of them. */
static double dot(const double *x, const double *y, size_t n)
{
    double p[8] = {0};
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        for (size_t k = 0; k < 8; k++) {
            p[k] += x[i + k] * y[i + k];
        }
    }
    for (; i < n; i++) {
        p[i % 8] += x[i] * y[i];
    }
    return ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]));
}

/* ---- gathering ---- */

struct adding {
    struct moments *m;
    const float *x;
    size_t stride, n_rows;
};

static void add_row(void *ctx, size_t i, unsigned thread_i)
{
    const struct adding *a = ctx;
    double *to = a->m->v + i * a->m->n;

    for (size_t t = 0; t < a->n_rows; t++) {
        const float *x = a->x + t * a->stride;
        const double xi = x[i];
        for (size_t k = 0; k <= i; k++) {
            to[k] += xi * (double)x[k];
        }
    }
}

void moments_add(struct moments *m, struct threads *t, const float *x, size_t stride, size_t n_rows)
{
    struct adding a = {.m = m, .x = x, .stride = stride, .n_rows = n_rows};

    m->count += n_rows;
    threads_run(t, add_row, &a, m->n);
}

bool moments_close(struct moments *m)
{
    const size_t n = m->n;
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += m->v[i * n + i];
    }
    if (!isfinite(sum) || !(sum > 0)) {
        return false;
    }
    m->damp = DAMP * sum / ((double)m->count * (double)n);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k <= i; k++) {
            const double h = m->v[i * n + k] / (double)m->count + (i == k ? m->damp : 0);
            m->h[i * n + k] = m->h[k * n + i] = (float)h;
        }
    }
    return true;
}

/* ---- the factor ---- */

struct factoring {
    struct moments *m;
    size_t at; /* the column, or row, that is being found */
};

/* Entries of column `at` of U, above its diagonal. */
static void find_column(void *ctx, size_t slice, unsigned thread_i)
{
    const struct factoring *f = ctx;
    const size_t n = f->m->n, j = f->at, end = (slice + 1) * SLICE < j ? (slice + 1) * SLICE : j;
    double *v = f->m->v;

    for (size_t i = slice * SLICE; i < end; i++) {
        const double known = dot(v + i * n + j + 1, v + j * n + j + 1, n - j - 1);
        v[i * n + j] = ((double)f->m->h[i * n + j] - known) / v[j * n + j];
    }
}

static void share(struct threads *t, threads_fn *fn, struct factoring *f, size_t n_items,
                  size_t work)
{
    if (work < ALONE) {
        for (size_t i = 0; i < n_items; i++) {
            fn(f, i, 0);
        }
    } else {
        threads_run(t, fn, f, n_items);
    }
}

/* U, from the last column to the first. */
static bool decompose(struct moments *m, struct threads *t, double more)
{
    const size_t n = m->n;

    for (size_t j = n; j-- > 0;) {
        struct factoring f = {.m = m, .at = j};
        const double *own = m->v + j * n + j + 1;
        const double left = (double)m->h[j * n + j] + more - dot(own, own, n - j - 1);
        if (!(left > 0) || !isfinite(left)) {
            return false;
        }
        m->v[j * n + j] = sqrt(left);
        share(t, find_column, &f, (j + SLICE - 1) / SLICE, j * (n - j));
    }
    return true;
}

/* Some columns of row `at` of the inverse; the rows below are inverted already, and the row of U is
 * in scratch. */
static void find_row(void *ctx, size_t slice, unsigned thread_i)
{
    const struct factoring *f = ctx;
    const size_t n = f->m->n, i = f->at, begin = i + 1 + slice * SLICE;
    const size_t end = begin + SLICE < n ? begin + SLICE : n;
    const double *u = f->m->scratch;
    double *to = f->m->v + i * n;

    for (size_t c = begin; c < end; c++) {
        to[c] = 0;
    }
    for (size_t k = i + 1; k < end; k++) {
        const double *from = f->m->v + k * n;
        for (size_t c = begin > k ? begin : k; c < end; c++) {
            to[c] += u[k] * from[c];
        }
    }
    for (size_t c = begin; c < end; c++) {
        to[c] /= -u[i];
    }
}

static void invert(struct moments *m, struct threads *t)
{
    const size_t n = m->n;

    for (size_t i = n; i-- > 0;) {
        struct factoring f = {.m = m, .at = i};
        for (size_t k = i; k < n; k++) {
            m->scratch[k] = m->v[i * n + k];
        }
        m->v[i * n + i] = 1 / m->v[i * n + i];
        share(t, find_row, &f, (n - i - 1 + SLICE - 1) / SLICE, (n - i) * (n - i) / 2);
    }
}

bool moments_factor(struct moments *m, struct threads *t)
{
    double more = 0;

    for (unsigned i = 0; i < TRIES; i++) {
        if (decompose(m, t, more)) {
            invert(m, t);
            return true;
        }
        more = more > 0 ? 10 * more : m->damp;
    }
    return false;
}

/* ---- using it ---- */

void moments_apply(const struct moments *m, const float *e, size_t n_rows, double *ret)
{
    const size_t n = m->n;

    for (size_t i = 0; i < n; i++) {
        const float *h = m->h + i * n;
        for (size_t r = 0; r < n_rows; r++) {
            const float *x = e + r * n;
            double p[8] = {0};
            for (size_t k = 0; k + 8 <= n; k += 8) {
                for (size_t l = 0; l < 8; l++) {
                    p[l] += (double)h[k + l] * (double)x[k + l];
                }
            }
            for (size_t k = n & ~(size_t)7; k < n; k++) {
                p[k % 8] += (double)h[k] * (double)x[k];
            }
            ret[r * n + i] = ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]));
        }
    }
}
