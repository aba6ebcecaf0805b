/* For measurements alone, beside the engine's front: where the time of steps goes, and sequences
 * that are long without having been computed. No number that a step computes depends on it. */
#ifndef ENGINE_MEASURE_H
#define ENGINE_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

struct seq;
struct stepper;

/* What a step does, in this order; the parts from PART_NORM to PART_DOWN once a layer. */
enum step_part {
    PART_EMBED,      /* checks, rows of the embedding, the angles of rope */
    PART_NORM,       /* norms and residual additions, with quantization of what a product reads */
    PART_QKV,        /* products */
    PART_ROPE,       /* norms of q and k, rope, into the cache */
    PART_ATTENTION,  /* scores, softmax, values */
    PART_O,          /* product */
    PART_GATE_UP,    /* products */
    PART_ACTIVATION, /* with quantization for the product down */
    PART_DOWN,       /* product */
    PART_HEAD,       /* product, of the rows whose logits are wanted */
    STEP_PARTS,      /* count */
};

/** step_part_name() - "embed", ...: static, never NULL */
const char *step_part_name(enum step_part part);

struct step_profile {
    uint64_t ns[STEP_PARTS];      /* on the clock of the calling thread: they add up to the steps */
    uint64_t wait_ns[STEP_PARTS]; /* of these: its own share was done, others' were not */
    /* Of the model, the same for each step: */
    uint64_t weights[STEP_PARTS]; /* bytes that a product reads in a step; of the head: in the last
                                   * step that wanted logits */
    uint64_t macs[STEP_PARTS];    /* multiply-adds for one token, of the head for one row */
};

/**
 * stepper_profile() - add up where time goes, from the next step on
 * @profile: filled with zeros and the model's facts now, added to by each step until another is
 *           given; borrowed. NULL: no more. Costs some ten clock readings a layer.
 */
void stepper_profile(struct stepper *st, struct step_profile *profile);

/**
 * seq_fill() - let a sequence have n positions whose keys and values mean nothing
 *
 * The memory is the sequence's own and written, so reading it takes as long as reading what was
 * computed. Nobody finds these positions again.
 * Return: false when the pool or the sequence has not so many (nothing changed).
 */
MUST_USE bool seq_fill(struct seq *seq, size_t n);

#endif
