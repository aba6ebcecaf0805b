/* All that decides a training's numbers: with the rows and the vocabulary, the same recipe gives
 * the same bytes on the same kind of CPU. A checkpoint carries it whole. */
#ifndef TRAIN_LOOP_RECIPE_H
#define TRAIN_LOOP_RECIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/compiler.h"
#include "base/diag.h"
#include "train/loop/adamw.h"
#include "train/net/net.h"

/* What the layers' matrices are stored as, where there is a choice: ternary weights with int8
 * activations. */
enum recipe_format { RECIPE_I2_S, RECIPE_TQ2_0, RECIPE_Q2_0 };

#define RECIPE_BATCH_MAX 65536u
#define RECIPE_STEPS_MAX (UINT64_C(1) << 40)

/* Every member is 8 bytes, a whole number or a double: so they are written and read alike. */
struct recipe {
    /* the shape; the vocabulary says n_vocab */
    uint64_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ctx;
    double rope_base, rms_eps;
    /* the modes: enums of net.h */
    uint64_t weights, activations, head, ste_weights, ste_activations;
    double smooth_k;
    uint64_t stochastic, format;
    /* the optimizer */
    uint64_t schedule, n_steps, n_warm;
    double lr, lr_end, hold, beta1, beta2, eps, decay,
        clip; /* clip 0: gradients stay as they are */
    /* the batches: rows of one, and how many are added up for one step */
    uint64_t batch, accumulate;
    double prompt_weight; /* of a prompt's tokens in the loss; an answer's have 1 */
    uint64_t seed, n_threads;
    /* what it was made for */
    uint64_t n_rows, data_hash;
};

/* How far a training has come. */
struct progress_at {
    uint64_t step;   /* steps done */
    uint64_t rows;   /* rows taken: where in the data, and in which order of them */
    uint64_t tokens; /* that the net has seen */
    double seconds;  /* spent, by the clock; decides nothing */
};

#define RECIPE_BYTES sizeof(struct recipe)

/** recipe_check() - every member within what it may be, and such that a net can be made and
 * exported; ret_diag names the member. Return: true when sound. */
bool recipe_check(const struct recipe *r, struct diag *ret_diag);

/** recipe_same_net() - do both make nets whose parameters mean the same, place by place? The modes
 * and the context may be others. false: ret_diag names the first member that differs. */
bool recipe_same_net(const struct recipe *a, const struct recipe *b, struct diag *ret_diag);

/** recipe_print() - a line for each member: its name and what it is */
void recipe_print(FILE *f, const struct recipe *r);

/** recipe_shape(), recipe_modes(), recipe_adamw(), recipe_schedule() - its parts, for who needs
 * them; of a checked recipe */
struct net_shape recipe_shape(const struct recipe *r);
struct net_modes recipe_modes(const struct recipe *r);
struct adamw recipe_adamw(const struct recipe *r);
struct schedule recipe_schedule(const struct recipe *r);

/** recipe_matrix_format() - what the layers' matrices are written as, a name of gguf_writable() */
const char *recipe_matrix_format(const struct recipe *r);
/** recipe_head_format() - and the embedding */
const char *recipe_head_format(const struct recipe *r);
/** recipe_activations_key() - of onebit.activations; NULL: the file has no such key */
const char *recipe_activations_key(const struct recipe *r);

/* Names for people, in the order of the enums, ending with NULL. */
extern const char *const recipe_weights_names[],
    *const recipe_activations_names[],
        *const recipe_head_names[], *const recipe_ste_names[], *const recipe_format_names[],
                                                                   *const recipe_schedule_names[];

#endif
