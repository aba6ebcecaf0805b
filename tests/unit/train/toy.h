/* A small task for tests of training: sentences of a few words, and what they say as JSON. */
#ifndef TESTS_UNIT_TRAIN_TOY_H
#define TESTS_UNIT_TRAIN_TOY_H

#include <stddef.h>
#include <stdint.h>

#include "train/loop/data.h"
#include "train/loop/recipe.h"
#include "train/loop/vocabulary.h"

struct toy {
    char *rows; /* (n_rows_bytes) owned: JSON lines */
    size_t n_rows_bytes;
    struct vocabulary vocabulary; /* trained on them */
    struct data *data;            /* owned: them as tokens */
    struct data *held;            /* owned: of toy_init_wide(), all sentences not among the rows */
    struct recipe recipe;         /* checked: a net of 2 layers of width 256, 8 rows a batch */
};

/** toy_init() - @n_rows of the task, and a recipe in these modes; asserts that all goes well */
void toy_init(struct toy *t, size_t n_rows, enum net_weights weights,
              enum net_activations activations);
/** toy_init_wide() - @n_rows of the same task with many more words, of whose 1,120 sentences one in
 * eight is held back; binary weights and int8 activations */
void toy_init_wide(struct toy *t, size_t n_rows);
void toy_deinit(struct toy *t);

#endif
