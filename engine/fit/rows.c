/* Rows are worked on eight at a time, so that H and V, which are larger than any cache, pass once
 * for eight of them. */
#include "engine/fit/rows.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/threads.h"

#define BATCH 8u
#define POLISH_ROUNDS 4u
#define POLISH_LEAST 1e-4 /* of the error: a round that gains less is the last */

/* What a thread works in, and one candidate for the rows of a batch. */
struct candidate {
    float *e;      /* (BATCH, n) the weights' errors */
    double *r;     /* (BATCH, n) H e */
    float *scales; /* (BATCH, n / block) */
    int8_t *codes; /* (BATCH, n) */
    double cost[BATCH];
};

struct lane {
    struct candidate now, best;
    double *work;  /* (BATCH, n) weights as propagation changes them */
    float *values; /* (n) */
};

struct fitting {
    const struct fit_job *job;
    const float *aim; /* of the job, or its w */
    size_t n, n_blocks, row_bytes;
    double *importance; /* owned: (n) of a column, for scales while errors are propagated */
    double *diagonal;   /* owned: (n) of H */
    struct lane *lanes; /* owned */
    size_t n_lanes;
    struct fit_loss *losses; /* owned: (n_rows) */
};

/* ---- costs ---- */

static double squares(const float *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return sum;
}

static double product(const float *e, const double *r, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += (double)e[i] * r[i];
    }
    return sum;
}

/* Errors, H e and costs of the codes and scales in c. */
static void weigh(const struct fitting *f, const float *w, size_t n_rows, struct candidate *c)
{
    const size_t n = f->n, block = f->job->grid.block;

    for (size_t b = 0; b < n_rows; b++) {
        for (size_t i = 0; i < n; i++) {
            const float d = c->scales[b * f->n_blocks + i / block];
            c->e[b * n + i] = w[b * n + i] - d * (float)c->codes[b * n + i];
        }
    }
    moments_apply(f->job->moments, c->e, n_rows, c->r);
    for (size_t b = 0; b < n_rows; b++) {
        c->cost[b] = product(c->e + b * n, c->r + b * n, n);
    }
}

static void take_better(const struct fitting *f, size_t n_rows, struct lane *l)
{
    const size_t n = f->n;

    for (size_t b = 0; b < n_rows; b++) {
        if (!(l->now.cost[b] < l->best.cost[b])) {
            continue;
        }
        memcpy(l->best.e + b * n, l->now.e + b * n, n * sizeof(float));
        memcpy(l->best.r + b * n, l->now.r + b * n, n * sizeof(double));
        memcpy(l->best.codes + b * n, l->now.codes + b * n, n);
        memcpy(l->best.scales + b * f->n_blocks, l->now.scales + b * f->n_blocks,
               f->n_blocks * sizeof(float));
        l->best.cost[b] = l->now.cost[b];
    }
}

/* ---- candidates ---- */

/* Rounding, and what weights and outputs are and lose by it. Its rows go to where the result will
 * be. */
static void round_rows(const struct fitting *f, size_t first, size_t n_rows, struct lane *l,
                       double cost[BATCH])
{
    const struct moments *m = f->job->moments;
    const enum format format = f->job->grid.format;
    const size_t n = f->n;
    const float *w = f->job->w + first * n, *aim = f->aim + first * n;

    moments_apply(m, aim, n_rows, l->now.r);
    for (size_t b = 0; b < n_rows; b++) {
        struct fit_loss *loss = &f->losses[first + b];
        uint8_t *row = f->job->rows + (first + b) * f->row_bytes;
        loss->power = squares(w + b * n, n);
        loss->out_power =
            product(aim + b * n, l->now.r + b * n, n) - m->damp * squares(aim + b * n, n);
        format_encode_row(format, w + b * n, 1, n, row);
        format_decode_row(format, row, 1, n, l->values);
        for (size_t i = 0; i < n; i++) {
            const double e = (double)w[b * n + i] - (double)l->values[i];
            loss->rounded += e * e;
            l->now.e[b * n + i] = aim[b * n + i] - l->values[i];
        }
    }
    moments_apply(m, l->now.e, n_rows, l->now.r);
    for (size_t b = 0; b < n_rows; b++) {
        struct fit_loss *loss = &f->losses[first + b];
        cost[b] = product(l->now.e + b * n, l->now.r + b * n, n);
        loss->out_rounded = cost[b] - m->damp * squares(l->now.e + b * n, n);
    }
}

static void refine_rows(const struct fitting *f, const float *w, size_t n_rows, struct lane *l)
{
    for (size_t b = 0; b < n_rows; b++) {
        grid_refine_row(&f->job->grid, w + b * f->n, f->diagonal, f->n,
                        l->best.scales + b * f->n_blocks, l->best.codes + b * f->n);
    }
    weigh(f, w, n_rows, &l->best);
}

static void propagate_rows(const struct fitting *f, const float *w, size_t n_rows, struct lane *l)
{
    const struct grid *g = &f->job->grid;
    const size_t n = f->n;

    for (size_t i = 0; i < n_rows * n; i++) {
        l->work[i] = w[i];
    }
    for (size_t j = 0; j < n; j++) {
        const double *v = f->job->moments->v + j * n;
        for (size_t b = 0; b < n_rows; b++) {
            double *x = l->work + b * n;
            float *scale = l->now.scales + b * f->n_blocks + j / g->block;
            if (j % g->block == 0) {
                *scale = grid_scale(g, x + j, f->importance + j);
            }
            const int code = grid_code(g, grid_inverse(*scale), x[j]);
            const double error = (x[j] - (double)*scale * code) / v[j];
            l->now.codes[b * n + j] = (int8_t)code;
            for (size_t k = j + 1; k < n; k++) {
                x[k] -= error * v[k];
            }
        }
    }
    weigh(f, w, n_rows, &l->now);
    take_better(f, n_rows, l);
}

/* ---- polishing one row ---- */

/* The weights of one column change by `by`. */
static void shift(const struct fitting *f, size_t j, double by, float *e, double *r)
{
    const float *h = f->job->moments->h + j * f->n;

    e[j] -= (float)by;
    for (size_t i = 0; i < f->n; i++) {
        r[i] -= by * (double)h[i];
    }
}

/* The best of the codes beside this one; returns what it gains, 0 for none. */
static double better_code(const struct grid *g, int code, double d, double r, double h, int *ret)
{
    const int other[2] = {g->no_zero ? -code : code - 1, g->no_zero ? -code : code + 1};
    double most = 0;

    for (size_t i = 0; i < ARRAY_SIZE(other); i++) {
        const double by = d * (other[i] - code), gain = 2 * by * r - by * by * h;
        if (other[i] >= g->lo && other[i] <= g->hi && gain > most) {
            most = gain;
            *ret = other[i];
        }
    }
    return most;
}

static double polish_codes(const struct fitting *f, const float *scales, int8_t *codes, float *e,
                           double *r)
{
    const struct grid *g = &f->job->grid;
    double gained = 0;

    for (size_t j = 0; j < f->n; j++) {
        const double d = scales[j / g->block];
        int code = codes[j];
        const double gain = better_code(g, code, d, r[j], f->diagonal[j], &code);
        if (gain > 0) {
            shift(f, j, d * (code - codes[j]), e, r);
            codes[j] = (int8_t)code;
            gained += gain;
        }
    }
    return gained;
}

static double polish_scale(const struct fitting *f, size_t block_i, float *scale,
                           const int8_t *codes, float *e, double *r)
{
    const size_t block = f->job->grid.block, from = block_i * block, n = f->n;
    double cr = 0, chc = 0;

    for (size_t j = from; j < from + block; j++) {
        const float *h = f->job->moments->h + j * n;
        double sum = 0;
        for (size_t k = from; k < from + block; k++) {
            sum += (double)h[k] * codes[k];
        }
        cr += codes[j] * r[j];
        chc += codes[j] * sum;
    }
    const float next = chc > 0 ? f16_to_f32(f16_from_f32((float)((double)*scale + cr / chc))) : 0;
    const double by = (double)next - (double)*scale, gain = 2 * by * cr - by * by * chc;
    if (!(gain > 0) || (next > 0) != (*scale > 0)) {
        return 0;
    }
    for (size_t j = from; j < from + block; j++) {
        if (codes[j] != 0) {
            shift(f, j, by * codes[j], e, r);
        }
    }
    *scale = next;
    return gain;
}

static void polish_row(const struct fitting *f, size_t b, struct candidate *c)
{
    float *scales = c->scales + b * f->n_blocks, *e = c->e + b * f->n;
    int8_t *codes = c->codes + b * f->n;
    double *r = c->r + b * f->n;

    for (unsigned round = 0; round < POLISH_ROUNDS; round++) {
        double gained = polish_codes(f, scales, codes, e, r);
        for (size_t i = 0; i < f->n_blocks; i++) {
            gained += polish_scale(f, i, &scales[i], codes, e, r);
        }
        if (!(gained > POLISH_LEAST * c->cost[b])) {
            break;
        }
    }
}

/* ---- all rows ---- */

/* Row b of the batch is what the best candidate has, where that is better than rounding. */
static void finish_row(const struct fitting *f, size_t row, size_t b, double rounded,
                       struct lane *l)
{
    const struct grid *g = &f->job->grid;
    const struct candidate *c = &l->best;
    const float *scales = c->scales + b * f->n_blocks, *w = f->job->w + row * f->n;
    const int8_t *codes = c->codes + b * f->n;
    struct fit_loss *loss = &f->losses[row];

    loss->lost = loss->rounded;
    loss->out_lost = loss->out_rounded;
    if (!(c->cost[b] < rounded)) {
        return;
    }
    loss->lost = 0;
    for (size_t i = 0; i < f->n; i++) {
        const double e = (double)w[i] - (double)scales[i / g->block] * codes[i];
        loss->lost += e * e;
    }
    loss->out_lost = c->cost[b] - f->job->moments->damp * squares(c->e + b * f->n, f->n);
    grid_store(g, scales, codes, f->n, l->values, f->job->rows + row * f->row_bytes);
}

static void fit_batch(void *ctx, size_t item, unsigned thread_i)
{
    const struct fitting *f = ctx;
    const struct fit_job *job = f->job;
    const size_t first = item * BATCH, left = job->n_rows - first;
    const size_t n_rows = left < BATCH ? left : BATCH;
    const float *aim = f->aim + first * f->n;
    struct lane *l = &f->lanes[thread_i];
    double rounded[BATCH];

    round_rows(f, first, n_rows, l, rounded);
    refine_rows(f, aim, n_rows, l);
    if (job->propagate) {
        propagate_rows(f, aim, n_rows, l);
    }
    for (size_t b = 0; job->polish && b < n_rows; b++) {
        polish_row(f, b, &l->best);
    }
    if (job->polish) {
        weigh(f, aim, n_rows, &l->best); /* anew: small changes have added up small errors */
    }
    for (size_t b = 0; b < n_rows; b++) {
        finish_row(f, first + b, b, rounded[b], l);
    }
}

static bool candidate_init(const struct fitting *f, struct candidate *c)
{
    c->e = malloc(BATCH * f->n * sizeof(*c->e));
    c->r = malloc(BATCH * f->n * sizeof(*c->r));
    c->scales = malloc(BATCH * f->n_blocks * sizeof(*c->scales));
    c->codes = malloc(BATCH * f->n);
    return c->e && c->r && c->scales && c->codes;
}

static void candidate_deinit(struct candidate *c)
{
    free(c->e);
    free(c->r);
    free(c->scales);
    free(c->codes);
}

static bool fitting_init(struct fitting *f, unsigned n_threads)
{
    const struct moments *m = f->job->moments;

    f->importance = malloc(f->n * sizeof(*f->importance));
    f->diagonal = malloc(f->n * sizeof(*f->diagonal));
    f->losses = calloc(f->job->n_rows, sizeof(*f->losses));
    f->lanes = calloc(n_threads, sizeof(*f->lanes));
    bool ok = f->importance && f->diagonal && f->losses && f->lanes;
    for (size_t i = 0; ok && i < n_threads; i++) {
        struct lane *l = &f->lanes[i];
        f->n_lanes = i + 1;
        l->work = malloc(BATCH * f->n * sizeof(*l->work));
        l->values = malloc(f->n * sizeof(*l->values));
        ok = candidate_init(f, &l->now) && candidate_init(f, &l->best) && l->work && l->values;
    }
    for (size_t i = 0; ok && i < f->n; i++) {
        const double v = m->v[i * f->n + i];
        f->diagonal[i] = m->h[i * f->n + i];
        f->importance[i] = f->job->propagate ? 1 / (v * v) : 1;
    }
    return ok;
}

static void fitting_deinit(struct fitting *f)
{
    for (size_t i = 0; i < f->n_lanes; i++) {
        candidate_deinit(&f->lanes[i].now);
        candidate_deinit(&f->lanes[i].best);
        free(f->lanes[i].work);
        free(f->lanes[i].values);
    }
    free(f->lanes);
    free(f->importance);
    free(f->diagonal);
    free(f->losses);
}

int fit_rows(struct threads *t, const struct fit_job *job, struct fit_loss *ret)
{
    struct fitting f = {.job = job,
                        .aim = job->aim ? job->aim : job->w,
                        .n = job->moments->n,
                        .n_blocks = job->moments->n / job->grid.block,
                        .row_bytes = format_row_bytes(job->grid.format, job->moments->n)};
    int r = -ENOMEM;

    if (fitting_init(&f, threads_count(t))) {
        threads_run(t, fit_batch, &f, (job->n_rows + BATCH - 1) / BATCH);
        *ret = (struct fit_loss){0};
        for (size_t i = 0; i < job->n_rows; i++) {
            const struct fit_loss *one = &f.losses[i];
            ret->power += one->power;
            ret->lost += one->lost;
            ret->rounded += one->rounded;
            ret->out_power += one->out_power;
            ret->out_lost += one->out_lost;
            ret->out_rounded += one->out_rounded;
        }
        r = 0;
    }
    fitting_deinit(&f);
    return r;
}
