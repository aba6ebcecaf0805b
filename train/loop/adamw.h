/* AdamW (arXiv 1711.05101), the length of a gradient, and how the learning rate goes.
 *
 * All float operations stand in a fixed order and nothing is fused, so the bytes depend on the
 * numbers alone. */
#ifndef TRAIN_LOOP_ADAMW_H
#define TRAIN_LOOP_ADAMW_H

#include <stddef.h>
#include <stdint.h>

struct adamw {
    float beta1, beta2, eps;
    float decay; /* of parameters, times the learning rate; 0: none */
};

/**
 * adamw_step() - one update of n parameters
 * @p:    parameters
 * @m, @v: moving means of the gradient and of its square; zeros before the first step
 * @g:    gradients
 * @scale: that these are multiplied with first (clipping)
 * @lr:   the learning rate of this step
 * @step: from 1
 *
 *     m = beta1 m + (1 - beta1) g          p = p - lr decay p - lr (m / c1) / (sqrt(v / c2) + eps)
 *     v = beta2 v + (1 - beta2) g^2        c = 1 - beta^step
 */
void adamw_step(const struct adamw *a, float *p, float *m, float *v, const float *g, size_t n,
                float scale, float lr, uint64_t step);

/** grads_length() - sqrt of the sum of squares, summed in double in sixteen lanes */
double grads_length(const float *g, size_t n);

enum schedule_shape { SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT };

struct schedule {
    enum schedule_shape shape;
    uint64_t n_steps;
    uint64_t n_warm;   /* steps of warm-up: the rate of step i (from 0) is lr (i + 1) / n_warm */
    double lr, lr_end; /* the largest, and the last */
    double hold;       /* share of the steps after the warm-up that stay at the largest, 0..1 */
};

/** schedule_lr() - the learning rate of a step, from 0; lr_end from n_steps on */
double schedule_lr(const struct schedule *s, uint64_t step);

#endif
