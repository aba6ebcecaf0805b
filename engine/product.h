/* Matrix products over the thread pool: one input of several tokens, up to three matrices. */
#ifndef ENGINE_PRODUCT_H
#define ENGINE_PRODUCT_H

#include <stddef.h>

#include "engine/act.h"
#include "engine/kernels/kernels.h"
#include "engine/machine.h"
#include "engine/model.h"

#define PRODUCTS_MAX 3u

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
    uint8_t *room; /* (thread, room_stride) scratch, 64-byte aligned; NULL: no matrix wants it */
    size_t room_stride;
};

struct product {
    const struct matrix *m;
    float *out;    /* (token, n_rows) */
    size_t stride; /* floats between tokens */
};

/** product_room_bytes() - the scratch that each thread may need for this matrix; 0: none. Not all
 * CPU levels use it. */
size_t product_room_bytes(const struct matrix *m);

/** products_run() - out = (m * input) * m->scale + m->bias for each of n matrices with the same
 * columns */
void products_run(const struct engine *e, const struct input *in, size_t n_tokens,
                  const struct product *products, size_t n);

#endif
