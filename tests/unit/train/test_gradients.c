/* The gradients of net_step() against finite differences of its loss, for every tensor of every
 * layer in every mode. In double, so that a difference is good to seven digits.
 *
 * A quantized loss is a staircase: its differences say nothing. What a straight-through estimator
 * claims is the gradient of another function, the quantizer's value at this point and its stand-in
 * around it (train/net/tape.h); differences are taken of that one, at the very numbers of the
 * quantized pass. With quantizers off, it is the loss itself. */
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/train/small.h"
#include "train/net/tape.h"

#define STEP 5e-5      /* of a difference */
#define TOLERANCE 1e-6 /* of the larger of both, or of a thousandth of the tensor's gradient */
#define ROUNDING 1e-15 /* of a loss, which is below 1; a difference has it by the step */
#define SINGLES 1      /* parameters of a tensor that are moved alone */

struct check {
    struct net *net;
    struct small small;
    net_real *grads; /* owned */
    net_real *at;    /* owned; the parameters */
    double worst;
};

static double loss_at(struct check *c)
{
    struct net_loss loss;

    assert_int_equal(net_loss(c->net, &c->small.batch, &loss), 0);
    return loss.sum * (double)c->small.batch.scale;
}

/* The slope along a direction of one tensor, by differences at four points: the error falls with
 * the fourth power of the step. */
static double slope(struct check *c, const struct net_tensor *t, const double *direction)
{
    static const double steps[] = {-2, -1, 1, 2}, weights[] = {1, -8, 8, -1};
    const size_t n = (size_t)t->rows * t->cols;
    net_real *x = net_params(c->net) + t->at;
    double sum = 0;

    for (size_t s = 0; s < ARRAY_SIZE(steps); s++) {
        for (size_t j = 0; j < n; j++) {
            x[j] = c->at[t->at + j] + (net_real)(STEP * steps[s] * direction[j]);
        }
        sum += weights[s] * loss_at(c);
    }
    memcpy(x, c->at + t->at, n * sizeof(*x));
    return sum / (12 * STEP);
}

static void check_direction(struct check *c, const struct net_tensor *t, const double *direction,
                            double length)
{
    const size_t n = (size_t)t->rows * t->cols;
    const double want = slope(c, t, direction);
    double got = 0;

    for (size_t j = 0; j < n; j++) {
        got += (double)c->grads[t->at + j] * direction[j];
    }
    const double scale = fmax(fmax(fabs(want), fabs(got)), length * 1e-3);
    const double off = fmax(fabs(want - got) - ROUNDING / STEP, 0) / scale;
    c->worst = fmax(c->worst, off);
    if (!(off <= TOLERANCE)) {
        print_error("%s: differences say %.10g, the gradient %.10g\n", t->name, want, got);
    }
    assert_true(off <= TOLERANCE);
}

static void check_tensor(struct check *c, const struct net_tensor *t, uint64_t *random)
{
    const size_t n = (size_t)t->rows * t->cols;
    double *direction = calloc(n, sizeof(*direction)), length = 0;

    assert_non_null(direction);
    for (size_t j = 0; j < n; j++) {
        direction[j] = small_unit(random);
        length += (double)c->grads[t->at + j] * (double)c->grads[t->at + j];
    }
    length = sqrt(length);
    assert_true(length > 0); /* every tensor takes part */
    check_direction(c, t, direction, length);
    for (int i = 0; i < SINGLES; i++) {
        memset(direction, 0, n * sizeof(*direction));
        direction[(size_t)((small_unit(random) + 1) / 2 * (double)n)] = 1;
        check_direction(c, t, direction, length);
    }
    free(direction);
}

static void check_modes(const struct net_modes *modes)
{
    const struct net_shape shape = small_shape(modes);
    struct check c = {.net = small_net(&shape, modes, 1)};
    const size_t size = net_size(c.net), state_size = net_state_size(c.net);
    net_real *state = calloc(state_size + 1, sizeof(*state));
    struct net_loss loss;
    uint64_t random = 3;

    small_batch(&c.small, &shape, 11);
    c.small.batch.scale = 0.005f; /* no gradient is beyond what NET_STE_CLIP lets pass */
    c.grads = calloc(size, sizeof(*c.grads));
    c.at = calloc(size, sizeof(*c.at));
    assert_true(state && c.grads && c.at);
    memcpy(c.at, net_params(c.net), size * sizeof(*c.at));
    memcpy(state, net_state(c.net), state_size * sizeof(*state));
    assert_int_equal(net_step(c.net, &c.small.batch, c.grads, &loss), 0);
    assert_true(loss.sum > 0 && loss.n == 22);
    memcpy(net_state(c.net), state, state_size * sizeof(*state));

    assert_int_equal(tape_new(c.net, SMALL_TOKENS), 0);
    const double there = loss_at(&c);
    assert_true(fabs(there - loss.sum * (double)c.small.batch.scale) < 1e-12);
    c.net->tape->mode = TAPE_REPLAY;
    assert_true(fabs(loss_at(&c) - there) < 1e-9);
    for (size_t i = 0; i < net_count(c.net); i++) {
        check_tensor(&c, net_tensor(c.net, i), &random);
    }
    printf("  weights %d, activations %d, head %d, ste %d %d, block %u: worst %.1e\n",
           modes->weights, modes->activations, modes->head, modes->ste_weights,
           modes->ste_activations, modes->block, c.worst);
    free(state);
    free(c.at);
    free(c.grads);
    net_free(c.net);
}

/* Goal: with nothing quantized the gradients are those of the loss.
 * Method: differences along a random direction of each tensor, and along single parameters. */
static void gradients_of_floats_are_those_of_the_loss(void **state)
{
    (void)state;
    check_modes(&(struct net_modes){.head = NET_H_FLOAT});
}

/* Goal: so they are through the head's quantizers alone. */
static void gradients_pass_the_heads_quantizers(void **state)
{
    (void)state;
    check_modes(&(struct net_modes){.head = NET_H_INT8});
}

/* Goal: for each pair of modes, each estimator gives the gradient of the function it stands for.
 * Method: as above, with the quantizers' constants held. */
static void gradients_of_every_mode_are_those_of_its_stand_in(void **state)
{
    (void)state;
    for (int w = NET_W_FLOAT; w <= NET_W_BINARY; w++) {
        for (int a = NET_A_FLOAT; a <= NET_A_BINARY; a++) {
            const bool passed = w != NET_W_FLOAT || a == NET_A_BINARY; /* by an estimator */
            for (int ste = NET_STE_HARD; ste <= (passed ? NET_STE_SMOOTH : NET_STE_HARD); ste++) {
                check_modes(&(struct net_modes){.weights = (enum net_weights)w,
                                                .activations = (enum net_activations)a,
                                                .ste_weights = (enum net_ste)ste,
                                                .ste_activations = (enum net_ste)ste,
                                                .smooth_k = ste == NET_STE_SMOOTH ? 1.5f : 0});
            }
        }
    }
}

/* Goal: the same for the scales of other exported types, and for estimators that differ. */
static void gradients_of_other_scales_and_mixed_estimators_hold_too(void **state)
{
    (void)state;
    for (uint32_t block = 32; block <= 256; block *= 8) {
        check_modes(&(struct net_modes){
            .weights = NET_W_TERNARY, .activations = NET_A_INT8, .block = block});
    }
    check_modes(&(struct net_modes){.weights = NET_W_BINARY,
                                    .activations = NET_A_BINARY,
                                    .ste_weights = NET_STE_CLIP,
                                    .ste_activations = NET_STE_SMOOTH});
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_floats_are_those_of_the_loss),
        cmocka_unit_test(gradients_pass_the_heads_quantizers),
        cmocka_unit_test(gradients_of_every_mode_are_those_of_its_stand_in),
        cmocka_unit_test(gradients_of_other_scales_and_mixed_estimators_hold_too),
    };

    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
