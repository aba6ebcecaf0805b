/* Matrix products over the thread pool: one input of several tokens, up to three matrices. */
#ifndef ENGINE_PRODUCT_H
#define ENGINE_PRODUCT_H

#include <stddef.h>

#include "engine/kernels/kernels.h"
#include "engine/machine.h"
#include "engine/model.h"

#define PRODUCTS_MAX 3u

/* The kinds of activations a matrix can ask for. */
enum act_kind { ACT_32 = 0, ACT_256, ACT_KINDS };

/* Room for one kind of quantized activations. */
struct act_room {
    int8_t *q;
    float *d;
    int32_t *s;
};

/* One input: floats, and the same quantized for the formats that want it. */
struct input {
    const float *x; /* (token, n_cols) */
    size_t stride;  /* floats between tokens */
    struct act_q8 act[ACT_KINDS];
};

struct product {
    const struct matrix *m;
    float *out;    /* (token, n_rows) */
    size_t stride; /* floats between tokens */
};

/** act_wanted() - bits (1 << enum act_kind) that a format's product needs; 0 for floats */
unsigned act_wanted(enum format f);

/** act_block() - columns in a block of this kind */
size_t act_block(enum act_kind kind);

/** products_run() - out = m * input for each of n matrices with the same columns */
void products_run(const struct engine *e, const struct input *in, size_t n_tokens,
                  const struct product *products, size_t n);

#endif
