/* A training at work: a net, its optimizer, and the rows that it goes through. */
#ifndef TRAIN_LOOP_TRAINER_H
#define TRAIN_LOOP_TRAINER_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "train/loop/checkpoint.h"
#include "train/loop/recipe.h"
#include "train/net/net.h"

struct data;
struct trainer; /* opaque */

/** trainer_new() - @recipe: checked and copied. 0; -EINVAL: the net does not take this shape;
 * -ENOMEM or another negative errno. Free with trainer_free(). */
MUST_USE int trainer_new(struct trainer **ret, const struct recipe *recipe);
void trainer_free(struct trainer *t);

enum { TRAINER_OK = 0, TRAINER_DIVERGED, TRAINER_STOPPED, TRAINER_OTHER_NET };

/** trainer_fits() - has a checkpoint as many numbers as its own recipe's net? Before memory is
 * taken for that net. TRAINER_OK; TRAINER_OTHER_NET, diag says how many; -EINVAL and -ENOMEM as
 * trainer_new() */
MUST_USE int trainer_fits(const struct checkpoint *c, struct diag *ret_diag);
/** trainer_load() - parameters, optimizer, state and place of a checkpoint with this recipe's
 * shape and modes. 0; -EINVAL: its numbers are as many as another net has. */
MUST_USE int trainer_load(struct trainer *t, const struct checkpoint *c);
/** trainer_warm() - the parameters alone, of a checkpoint of the same net (recipe_same_net()) in
 * any mode. TRAINER_OK; TRAINER_OTHER_NET: of another one, diag says in what */
MUST_USE int trainer_warm(struct trainer *t, const struct checkpoint *c, struct diag *ret_diag);
/** trainer_save() - what checkpoint_write() takes, without the vocabulary; borrowed until the next
 * step */
void trainer_save(struct trainer *t, struct checkpoint *ret);

struct net *trainer_net(struct trainer *t);
const struct recipe *trainer_recipe(const struct trainer *t);
const struct progress_at *trainer_at(const struct trainer *t);

struct step_report {
    struct net_loss loss; /* of the step's rows */
    uint64_t tokens;      /* that went through the net */
    double length;        /* of the gradient, before it was clipped */
    double lr;
};

/**
 * trainer_step() - one step: batches, gradients, clipping, update
 * @data: whose hash and number of rows the recipe has; the same at every step
 *
 * Return: TRAINER_OK; TRAINER_DIVERGED: loss or gradient is no number: parameters, optimizer and
 * place are as they were, but the deviations of binary inputs (net_state()) have moved, so nothing
 * of it is worth keeping; a negative errno.
 */
MUST_USE int trainer_step(struct trainer *t, const struct data *data, struct step_report *ret);

/**
 * trainer_loss() - the loss of all rows of other data, as it is now
 * @stop: looked at every 64 rows: not 0 ends it; NULL: nothing does
 *
 * Return: TRAINER_OK; TRAINER_STOPPED; a negative errno.
 */
MUST_USE int trainer_loss(struct trainer *t, const struct data *data,
                          const volatile sig_atomic_t *stop, struct net_loss *ret);

#endif
