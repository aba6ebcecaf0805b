/* cost: recursive least squares over three terms, forgetting slowly, so that a board that throttles
 * is noticed within some dozens of steps. What is forgotten is only what the step at hand tells
 * anew (Kulhavy's directional forgetting): hours of steps that all look alike leave what was known
 * of the pass and of a token apart as it was, and their noise does not wander off between the two.
 * One step that took absurdly long (the machine was busy elsewhere, a page came from the disk) must
 * not bend the estimate: its surprise is cut. */
#include "daemon/broker/cost.h"

#include <math.h>
#include <stddef.h>

#define KEEP 0.98         /* weight of the past at each step */
#define SPREAD_FIRST 1e8  /* us^2: nothing is known */
#define KNOWN_AFTER 6u    /* steps */
#define SURPRISE_MAX 0.75 /* of what was expected */

static double expect(const struct cost *c, const double x[COST_TERMS])
{
    double us = 0;

    for (size_t i = 0; i < COST_TERMS; i++) {
        us += x[i] * c->us[i];
    }
    return us;
}

void cost_learn(struct cost *c, uint32_t n_streams, uint32_t n_prompt, double us)
{
    const double x[COST_TERMS] = {1, n_streams, n_prompt};
    double gain[COST_TERMS], spread = 0;

    if (n_streams + n_prompt == 0 || !(us > 0)) {
        return;
    }
    for (size_t i = 0; i < COST_TERMS && c->n == 0; i++) {
        c->spread[i][i] = SPREAD_FIRST;
    }
    for (size_t i = 0; i < COST_TERMS; i++) {
        gain[i] = 0;
        for (size_t k = 0; k < COST_TERMS; k++) {
            gain[i] += c->spread[i][k] * x[k];
        }
        spread += x[i] * gain[i];
    }
    const double expected = expect(c, x);
    double surprise = us - expected;
    if (cost_known(c) && expected > 0) {
        const double most = SURPRISE_MAX * expected;
        surprise = fmax(-most, fmin(most, surprise));
    }
    if (!(spread > 0)) {
        return;
    }
    for (size_t i = 0; i < COST_TERMS; i++) {
        c->us[i] += gain[i] / (1 + spread) * surprise;
    }
    const double less = (KEEP - (1 - KEEP) / spread) / (KEEP * (1 + spread));
    for (size_t i = 0; i < COST_TERMS; i++) {
        for (size_t k = 0; k < COST_TERMS; k++) {
            c->spread[i][k] -= less * gain[i] * gain[k];
        }
    }
    c->n += c->n < UINT32_MAX;
}

bool cost_known(const struct cost *c)
{
    return c->n >= KNOWN_AFTER;
}

double cost_us(const struct cost *c, uint32_t n_streams, uint32_t n_prompt)
{
    const double x[COST_TERMS] = {1, n_streams, n_prompt};
    double us = 0;

    if (!cost_known(c)) {
        return 0;
    }
    for (size_t i = 0; i < COST_TERMS; i++) { /* no part of a step takes less than no time */
        us += x[i] * fmax(c->us[i], 0);
    }
    return us;
}
