#include "engine/fit/scaling.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/machine.h"
#include "engine/mathf.h"
#include "engine/product.h"
#include "engine/threads.h"

#define STEPS 20u

struct trying {
    const struct scaling *p;
    const struct scaling_matrix *m;
    const float *s;   /* (n_cols) */
    float *x;         /* owned: (n_x, n_cols) inputs as they will be */
    float *rows;      /* owned: (thread, n_cols) */
    uint8_t *encoded; /* owned: (thread, n_cols * 4) */
    double *lost;     /* owned: (most rows) of each row's outputs */
    double *power;    /* owned: the same, of the outputs themselves */
};

/* ---- one scaling ---- */

static void scale_of(const struct scaling *p, double a, float *s)
{
    double least = INFINITY, most = 0;

    for (size_t c = 0; c < p->n_cols; c++) {
        const double size = p->size[c] > 1e-4 ? p->size[c] : 1e-4, v = math_pow(size, a);
        s[c] = (float)v;
        least = v < least ? v : least;
        most = v > most ? v : most;
    }
    for (size_t c = 0; c < p->n_cols; c++) {
        s[c] = a > 0 ? (float)((double)s[c] / sqrt(least * most)) : 1;
    }
}

/* The inputs divided by s, as the product will read them. */
static void scale_inputs(struct trying *t)
{
    const size_t n = t->p->n_cols;
    const struct kernels *k = &t->p->engine->kernels;

    for (size_t i = 0; i < t->p->n_x; i++) {
        float *to = t->x + i * n;
        for (size_t c = 0; c < n; c++) {
            to[c] = t->p->x[i * n + c] / t->s[c];
        }
        for (size_t c = 0; c + ACT_BLOCK <= n; c += ACT_BLOCK) {
            int8_t q[ACT_BLOCK];
            float d;
            int32_t sum;
            act_quantize(k, ACT_32, to + c, ACT_BLOCK, q, &d, &sum);
            for (size_t e = 0; e < ACT_BLOCK; e++) {
                to[c + e] = d * (float)q[e];
            }
        }
    }
}

static void try_row(void *ctx, size_t row, unsigned thread_i)
{
    struct trying *t = ctx;
    const size_t n = t->p->n_cols;
    const struct kernels *k = &t->p->engine->kernels;
    const float *w = t->m->w + row * n;
    float *scaled = t->rows + thread_i * n;
    uint8_t *encoded = t->encoded + thread_i * n * sizeof(float);
    double lost = 0, power = 0;

    for (size_t c = 0; c < n; c++) {
        scaled[c] = w[c] * t->s[c];
    }
    format_encode_row(t->m->format, scaled, 1, n, encoded);
    format_decode_row(t->m->format, encoded, 1, n, scaled);
    for (size_t i = 0; i < t->p->n_x; i++) {
        const double want = k->dot_f32(w, t->p->x + i * n, n);
        const double got = k->dot_f32(scaled, t->x + i * n, n);
        lost += (got - want) * (got - want);
        power += want * want;
    }
    t->lost[row] = lost;
    t->power[row] = power;
}

static double try_all(struct trying *t, double *ret_power)
{
    double lost = 0, power = 0;

    scale_inputs(t);
    for (size_t i = 0; i < t->p->n_matrices; i++) {
        t->m = &t->p->matrices[i];
        threads_run(t->p->engine->threads, try_row, t, t->m->n_rows);
        for (size_t row = 0; row < t->m->n_rows; row++) {
            lost += t->lost[row];
            power += t->power[row];
        }
    }
    *ret_power = power;
    return lost;
}

/* ---- all of them ---- */

static void search(struct trying *t, float *now, float *best, struct scaling_loss *ret)
{
    for (unsigned step = 0; step <= STEPS; step++) {
        double power;
        scale_of(t->p, (double)step / STEPS, now);
        t->s = now;
        const double lost = try_all(t, &power);
        if (step == 0) {
            *ret = (struct scaling_loss){.power = power, .plain = lost, .scaled = lost};
            memcpy(best, now, t->p->n_cols * sizeof(*best));
        } else if (lost < ret->scaled) {
            ret->scaled = lost;
            memcpy(best, now, t->p->n_cols * sizeof(*best));
        }
    }
}

int scaling_search(const struct scaling *p, float *s, struct scaling_loss *ret)
{
    const unsigned n_threads = threads_count(p->engine->threads);
    struct trying t = {.p = p};
    size_t most = 0;
    int r = -ENOMEM;

    for (size_t i = 0; i < p->n_matrices; i++) {
        most = p->matrices[i].n_rows > most ? p->matrices[i].n_rows : most;
    }
    t.x = malloc(p->n_x * p->n_cols * sizeof(*t.x));
    t.rows = malloc(n_threads * p->n_cols * sizeof(*t.rows));
    t.encoded = malloc(n_threads * p->n_cols * sizeof(float));
    t.lost = malloc(most * sizeof(*t.lost));
    t.power = malloc(most * sizeof(*t.power));
    float *now = malloc(p->n_cols * sizeof(*now));
    if (t.x && t.rows && t.encoded && t.lost && t.power && now) {
        search(&t, now, s, ret);
        r = 0;
    }
    free(now);
    free(t.power);
    free(t.lost);
    free(t.encoded);
    free(t.rows);
    free(t.x);
    return r;
}
