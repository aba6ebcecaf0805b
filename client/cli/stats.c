/* stats: what is computed from measured times. Percentiles are members of the sample (nearest
 * rank), so a promise is never met by a number in between that nobody has seen. */
#include "client/cli/stats.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int sample_add(struct sample *s, double v)
{
    if (s->n == s->room) {
        const size_t room = s->room ? 2 * s->room : 64;
        if (room > SAMPLE_MAX) {
            return -E2BIG;
        }
        double *more = realloc(s->v, room * sizeof(*more));
        if (!more) {
            return -ENOMEM;
        }
        s->v = more;
        s->room = room;
    }
    s->v[s->n++] = v;
    return 0;
}

int sample_join(struct sample *s, const struct sample *more)
{
    const size_t n = s->n;

    for (size_t i = 0; i < more->n; i++) {
        const int r = sample_add(s, more->v[i]);
        if (r != 0) {
            s->n = n;
            return r;
        }
    }
    return 0;
}

void sample_clear(struct sample *s)
{
    s->n = 0;
}

void sample_deinit(struct sample *s)
{
    free(s->v);
    *s = (struct sample){0};
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sort(struct sample *s)
{
    if (s->n > 1) {
        qsort(s->v, s->n, sizeof(*s->v), compare);
    }
}

double sample_percentile(struct sample *s, double p)
{
    if (s->n == 0) {
        return NAN;
    }
    sort(s);
    const double rank = ceil(p / 100 * (double)s->n);
    const size_t at = rank < 1 ? 1 : (size_t)rank;
    return s->v[(at < s->n ? at : s->n) - 1];
}

double sample_median(struct sample *s)
{
    if (s->n == 0) {
        return NAN;
    }
    sort(s);
    return s->n % 2 ? s->v[s->n / 2] : (s->v[s->n / 2 - 1] + s->v[s->n / 2]) / 2;
}

double sample_mean(const struct sample *s)
{
    double sum = 0;

    for (size_t i = 0; i < s->n; i++) {
        sum += s->v[i];
    }
    return s->n ? sum / (double)s->n : NAN;
}

double sample_max(const struct sample *s)
{
    double most = s->n ? s->v[0] : NAN;

    for (size_t i = 1; i < s->n; i++) {
        most = s->v[i] > most ? s->v[i] : most;
    }
    return most;
}

uint64_t dice_u64(struct dice *d)
{
    uint64_t z = d->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t dice_below(struct dice *d, uint64_t n)
{
    return (uint64_t)((double)(dice_u64(d) >> 11) * 0x1p-53 * (double)n);
}

double dice_wait(struct dice *d, double per_second)
{
    const double u = ((double)(dice_u64(d) >> 11) + 0.5) * 0x1p-53; /* inside (0, 1) */
    return -log(u) / per_second;
}

int sample_bootstrap(const struct sample *s, size_t rounds, struct dice *d, double *ret_low,
                     double *ret_high)
{
    struct sample means = {0};
    int r = s->n > 0 && rounds > 0 ? 0 : -EINVAL;

    for (size_t i = 0; i < rounds && r == 0; i++) {
        double sum = 0;
        for (size_t k = 0; k < s->n; k++) {
            sum += s->v[dice_below(d, s->n)];
        }
        r = sample_add(&means, sum / (double)s->n);
    }
    if (r == 0) {
        *ret_low = sample_percentile(&means, 2.5);
        *ret_high = sample_percentile(&means, 97.5);
    }
    sample_deinit(&means);
    return r;
}
