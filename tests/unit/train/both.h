/* The same net twice: as it was trained, and in the engine as the file that was made of it. */
#ifndef TESTS_UNIT_TRAIN_BOTH_H
#define TESTS_UNIT_TRAIN_BOTH_H

#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"
#include "tests/unit/train/toy.h"
#include "train/loop/trainer.h"

#define BOTH_CTX 64

/** both_file() - the trainer's net as a file, named "toy"; the caller closes it */
int both_file(struct trainer *t, const struct toy *toy);

/* Logits of some sequences, the engine's against the net's. */
struct both_gap {
    double difference, size; /* sums of squares: of what is between them, of the net's */
    size_t n;                /* tokens */
    size_t n_equal;          /* of them, equal up to the order of float sums */
    size_t n_others;         /* and those that have another largest logit */
};

/** both_add() - run @n tokens, BOTH_CTX at most, through both, and add what is between them */
void both_add(struct both_gap *g, struct net *net, const struct model *model, const int32_t *ids,
              size_t n);
/** both_rms() - of the differences, over that of the logits */
double both_rms(const struct both_gap *g);
/** both_bound() - what that may come to in these modes (engine/NUMERICS.md) */
double both_bound(const struct recipe *r);

#endif
