/* Matrix products over the thread pool: one input of several tokens, up to three matrices. */
#ifndef ENGINE_PRODUCT_H
#define ENGINE_PRODUCT_H

#include <stddef.h>

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

/** act_kind_of() - what a kind of panel takes. @one_scale: ternary in a BitNet graph, where the
 * layer is defined with one scale a token */
enum act_kind act_kind_of(enum panel_kind panel, bool one_scale);

/** act_wanted() - the bit (1 << enum act_kind) of the activations that this matrix is multiplied
 * with; 0 for floats */
unsigned act_wanted(const struct matrix *m);

/** act_quantize() - n columns of one token in blocks of this kind; for kinds with one scale a
 * token, n is all there are. @q, @d, @s as for quant_fn */
void act_quantize(const struct kernels *k, enum act_kind kind, const float *x, size_t n, int8_t *q,
                  float *d, int32_t *s);

/** act_block() - columns in a block of this kind, of n in all */
size_t act_block(enum act_kind kind, size_t n);

/** act_of_token() - one scale for all columns of a token, so that all must be there to find it */
bool act_of_token(enum act_kind kind);

/** product_room_bytes() - the scratch that each thread may need for this matrix; 0: none. Not all
 * CPU levels use it. */
size_t product_room_bytes(const struct matrix *m);

/** products_run() - out = (m * input) * m->scale + m->bias for each of n matrices with the same
 * columns */
void products_run(const struct engine *e, const struct input *in, size_t n_tokens,
                  const struct product *products, size_t n);

#endif
