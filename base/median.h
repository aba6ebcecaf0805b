/* The middle of some measurements, which a few bad ones do not move. */
#ifndef BASE_MEDIAN_H
#define BASE_MEDIAN_H

#include <stddef.h>
#include <stdlib.h>

static inline int median_order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/** median() - of n >= 1 numbers, which it sorts; of an even count, the mean of the middle two */
static inline double median(double *v, size_t n)
{
    qsort(v, n, sizeof(*v), median_order);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

#endif
