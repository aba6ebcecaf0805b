/* Activations as products take them: what kinds there are stands in engine/model.h, what each is in
 * engine/NUMERICS.md. */
#ifndef ENGINE_ACT_H
#define ENGINE_ACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/kernels/kernels.h"
#include "engine/model.h"

/** act_kind_of() - what a kind of panel takes. @one_scale: ternary in a BitNet graph, where the
 * layer is defined with one scale a token */
enum act_kind act_kind_of(enum panel_kind panel, bool one_scale);

/** act_kind_of_signs() - the same where the input is signs; PANEL_NONE for rows of floats, PANEL_B1
 * for its bits as PANEL_X1 has them */
enum act_kind act_kind_of_signs(enum panel_kind panel);

/** act_wanted() - the bit (1 << enum act_kind) of the activations that this matrix is multiplied
 * with; 0 for floats */
unsigned act_wanted(const struct matrix *m);

/** act_quantize() - n columns of one token in blocks of this kind; for kinds with one scale a
 * token, n is all there are. @q, @d, @s as for quant_fn */
void act_quantize(const struct kernels *k, enum act_kind kind, const float *x, size_t n, int8_t *q,
                  float *d, int32_t *s);

/** act_quantize_signs() - n columns, all there are of one token, as signs
 * @kind: ACT_SIGNS_* or ACT_BITS */
void act_quantize_signs(const struct kernels *k, enum act_kind kind, const float *x,
                        const float *threshold, size_t n, int8_t *q, float *d, int32_t *s);

/** act_widen() - n columns of a token become what quantizing makes of them
 * @kind: ACT_WIDE_32, of which n is a multiple, or ACT_WIDE_SIGNS, with all columns there are
 * @threshold: (n), for signs */
void act_widen(const struct kernels *k, enum act_kind kind, float *x, const float *threshold,
               size_t n);

/** act_block() - columns in a block of this kind, of n in all */
size_t act_block(enum act_kind kind, size_t n);

/** act_of_token() - one scale for all columns of a token, so that all must be there to find it */
bool act_of_token(enum act_kind kind);

/** act_bytes() - of n columns' values: 0 where they are left in the input's own place */
size_t act_bytes(enum act_kind kind, size_t n);

#endif
