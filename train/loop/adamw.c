/* adamw: each parameter by itself, so the compiler may take several at a time. */
#include "train/loop/adamw.h"

#include <math.h>

#define LANES 16u

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) &&             \
    !defined(__SANITIZE_THREAD__) && !defined(__clang__)
/* No instruction set fuses or reorders anything here: wider registers give the same bits. */
#define WIDE __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define WIDE
#endif

/* What is the same for all parameters of a step. */
struct coefficients {
    float b1, b2, one_b1, one_b2, keep, rate, c2, eps, scale;
};

WIDE static void update(const struct coefficients *k, float *restrict p, float *restrict m,
                        float *restrict v, const float *restrict g, size_t n)
{
    const struct coefficients c = *k;

    for (size_t i = 0; i < n; i++) {
        const float x = g[i] * c.scale;
        const float mi = c.b1 * m[i] + c.one_b1 * x;
        const float vi = c.b2 * v[i] + c.one_b2 * (x * x);
        m[i] = mi;
        v[i] = vi;
        p[i] = p[i] * c.keep - c.rate * mi / (sqrtf(vi * c.c2) + c.eps);
    }
}

void adamw_step(const struct adamw *a, float *p, float *m, float *v, const float *g, size_t n,
                float scale, float lr, uint64_t step)
{
    const double c1 = 1 - pow((double)a->beta1, (double)step);
    const double c2 = 1 - pow((double)a->beta2, (double)step);
    const struct coefficients k = {
        .b1 = a->beta1,
        .b2 = a->beta2,
        .one_b1 = 1 - a->beta1,
        .one_b2 = 1 - a->beta2,
        .keep = 1 - lr * a->decay,
        .rate = (float)((double)lr / c1),
        .c2 = (float)(1 / c2),
        .eps = a->eps,
        .scale = scale,
    };

    update(&k, p, m, v, g, n);
}

WIDE static void add_squares(double sum[LANES], const float *g, size_t n)
{
    double s[LANES];

    for (size_t j = 0; j < LANES; j++) {
        s[j] = sum[j];
    }
    for (size_t i = 0; i < n / LANES * LANES; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            s[j] += (double)g[i + j] * (double)g[i + j];
        }
    }
    for (size_t j = 0; j < LANES; j++) {
        sum[j] = s[j];
    }
}

double grads_length(const float *g, size_t n)
{
    double sum[LANES] = {0}, all = 0;

    add_squares(sum, g, n);
    for (size_t i = n / LANES * LANES; i < n; i++) {
        sum[i % LANES] += (double)g[i] * (double)g[i];
    }
    for (size_t j = 0; j < LANES; j++) {
        all += sum[j];
    }
    return sqrt(all);
}

double schedule_lr(const struct schedule *s, uint64_t step)
{
    if (step >= s->n_steps) {
        return s->lr_end;
    }
    if (step < s->n_warm) {
        return s->lr * (double)(step + 1) / (double)s->n_warm;
    }
    const double after = (double)(s->n_steps - s->n_warm);
    const double held = s->hold * after, at = (double)(step - s->n_warm);
    if (s->shape == SCHEDULE_CONSTANT || at <= held) {
        return s->lr;
    }
    const double x = (at - held) / (after - held);
    const double share = s->shape == SCHEDULE_LINEAR ? 1 - x : (1 + cos(x * M_PI)) / 2;
    return s->lr_end + (s->lr - s->lr_end) * share;
}
