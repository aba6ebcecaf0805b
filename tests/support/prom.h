/* A strict reader of Prometheus text 0.0.4, for tests: what a scraper might forgive it does not. */
#ifndef TESTS_SUPPORT_PROM_H
#define TESTS_SUPPORT_PROM_H

#include <stdbool.h>
#include <stddef.h>

#define PROM_SAMPLES_MAX 40000u

struct prom_sample {
    char *name; /* owned: with its labels as written, "x{a=\"b\"}" */
    double value;
};

struct prom {
    struct prom_sample *samples; /* owned */
    size_t n, n_families;
    char why[256]; /* when it was refused: what is wrong, and the line */
};

/**
 * prom_read() - check n bytes whole
 *
 * Each line is a # HELP, a # TYPE or a sample; a family has its HELP, then its TYPE, then all of
 * its samples, once; names, labels and escapes follow the grammar, labels are not repeated inside
 * one set; no series comes twice; a histogram has ascending bounds, counts that never fall, +Inf
 * equal to _count, and a _sum.
 *
 * Return: true, or false with why. prom_free() in either case.
 */
bool prom_read(struct prom *ret, const char *text, size_t n);
void prom_free(struct prom *p);

/** prom_value() - of the series with this name and these labels, as written; NAN: there is none */
double prom_value(const struct prom *p, const char *name);

#endif
