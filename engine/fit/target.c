#include "engine/fit/target.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/threads.h"

int target_begin(struct target *t, size_t n)
{
    *t = (struct target){.n = n, .c = calloc(n * n, sizeof(*t->c))};
    return t->c ? 0 : -ENOMEM;
}

void target_deinit(struct target *t)
{
    free(t->c);
    *t = (struct target){0};
}

struct adding {
    struct target *t;
    const float *x, *y;
    size_t stride, n_rows;
};

static void add_row(void *ctx, size_t i, unsigned thread_i)
{
    const struct adding *a = ctx;
    const size_t n = a->t->n;
    double *to = a->t->c + i * n;

    for (size_t r = 0; r < a->n_rows; r++) {
        const float *y = a->y + r * a->stride;
        const double x = a->x[r * n + i];
        for (size_t k = 0; k < n; k++) {
            to[k] += x * (double)y[k];
        }
    }
}

void target_add(struct target *t, struct threads *threads, const float *x, const float *y,
                size_t stride, size_t n_rows)
{
    struct adding a = {.t = t, .x = x, .y = y, .stride = stride, .n_rows = n_rows};

    threads_run(threads, add_row, &a, t->n);
}

/* ---- moving ---- */

struct moving {
    const struct target *t;
    const struct moments *m;
    const float *w;
    float *ret;
    double *room; /* owned: (thread, 2, n) */
};

/* ret = x times the inverse of H, which is V^T V; x is lost. */
static void times_inverse(const struct moments *m, double *x, double *room, float *ret)
{
    const size_t n = m->n;

    for (size_t i = 0; i < n; i++) {
        const double *v = m->v + i * n;
        room[i] = 0;
        for (size_t k = i; k < n; k++) {
            room[i] += v[k] * x[k];
        }
    }
    for (size_t k = 0; k < n; k++) {
        x[k] = 0;
    }
    for (size_t i = 0; i < n; i++) {
        const double *v = m->v + i * n;
        for (size_t k = i; k < n; k++) {
            x[k] += v[k] * room[i];
        }
    }
    for (size_t k = 0; k < n; k++) {
        ret[k] = (float)x[k];
    }
}

static void move_row(void *ctx, size_t row, unsigned thread_i)
{
    const struct moving *mv = ctx;
    const size_t n = mv->t->n;
    const double count = (double)mv->m->count;
    double *sum = mv->room + thread_i * 2 * n;
    const float *w = mv->w + row * n;

    for (size_t k = 0; k < n; k++) {
        sum[k] = mv->m->damp * (double)w[k];
    }
    for (size_t i = 0; i < n; i++) {
        const double x = (double)w[i] / count;
        for (size_t k = 0; k < n; k++) {
            sum[k] += x * mv->t->c[i * n + k];
        }
    }
    times_inverse(mv->m, sum, sum + n, mv->ret + row * n);
}

int target_move(const struct target *t, const struct moments *m, struct threads *threads,
                const float *w, size_t n_rows, float *ret)
{
    struct moving mv = {.t = t, .m = m, .w = w, .ret = ret};

    mv.room = malloc((size_t)threads_count(threads) * 2 * t->n * sizeof(*mv.room));
    if (!mv.room) {
        return -ENOMEM;
    }
    threads_run(threads, move_row, &mv, n_rows);
    free(mv.room);
    return 0;
}
