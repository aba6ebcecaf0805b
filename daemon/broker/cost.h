/* How long a step of one model takes: so much for the pass over the weights, so much more for each
 * decoding stream, so much more for each prompt token. Learned from steps as they are measured. */
#ifndef BROKER_COST_H
#define BROKER_COST_H

#include <stdbool.h>
#include <stdint.h>

#define COST_TERMS 3 /* the pass, a stream, a prompt token */

/* A zeroed one knows nothing yet. */
struct cost {
    double us[COST_TERMS];
    double spread[COST_TERMS][COST_TERMS]; /* how uncertain the above are, and together */
    uint32_t n;                            /* steps seen; saturates */
};

/** cost_learn() - a step with so many decoding streams and prompt tokens took `us` */
void cost_learn(struct cost *c, uint32_t n_streams, uint32_t n_prompt, double us);

/** cost_known() - enough steps were seen for cost_us() */
bool cost_known(const struct cost *c);

/** cost_us() - what a step is expected to take; 0: not known yet */
double cost_us(const struct cost *c, uint32_t n_streams, uint32_t n_prompt);

#endif
