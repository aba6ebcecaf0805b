/* Which form of its input a matrix takes, and how that is made, in the words of engine/NUMERICS.md.
 * Only what costs something has kernels: int8, and signs as bits. */
#include "engine/act.h"

#include <math.h>

enum act_kind act_kind_of(enum panel_kind panel, bool one_scale)
{
    switch (panel_info(panel)->act_block) {
    case ACT_BLOCK:
        return one_scale ? ACT_TOKEN_32 : ACT_32;
    case ACT_BLOCK_T256:
        return one_scale ? ACT_TOKEN_256 : ACT_256;
    default:
        return ACT_TOKEN;
    }
}

enum act_kind act_kind_of_signs(enum panel_kind panel)
{
    if (panel == PANEL_NONE) {
        return ACT_WIDE_SIGNS;
    }
    if (panel == PANEL_B1) {
        return ACT_BITS;
    }
    switch (panel_info(panel)->act_block) {
    case ACT_BLOCK:
        return ACT_SIGNS_32;
    case ACT_BLOCK_T256:
        return ACT_SIGNS_256;
    default:
        return ACT_SIGNS;
    }
}

unsigned act_wanted(const struct matrix *m)
{
    return m->panel_bytes == 0 && m->act < ACT_WIDE_32 ? 0 : 1u << m->act;
}

bool act_of_token(enum act_kind kind)
{
    return kind != ACT_32 && kind != ACT_256 && kind != ACT_WIDE_32;
}

size_t act_block(enum act_kind kind, size_t n)
{
    switch (kind) {
    case ACT_32:
    case ACT_TOKEN_32:
    case ACT_SIGNS_32:
    case ACT_WIDE_32:
        return ACT_BLOCK;
    case ACT_256:
    case ACT_TOKEN_256:
    case ACT_SIGNS_256:
        return ACT_BLOCK_T256;
    default:
        return n;
    }
}

size_t act_bytes(enum act_kind kind, size_t n)
{
    return kind >= ACT_WIDE_32 ? 0 : kind == ACT_BITS ? n / 8 : n;
}

void act_quantize(const struct kernels *k, enum act_kind kind, const float *x, size_t n, int8_t *q,
                  float *d, int32_t *s)
{
    const size_t block = act_block(kind, n);

    (act_of_token(kind) ? k->quant_token : k->quant)(x, n, block, q, d, s);
    if (act_of_token(kind) && kind != ACT_TOKEN) {
        const float scale = 1.0f / d[0];
        for (size_t b = 0; b < n / block; b++) {
            d[b] = scale;
        }
    }
}

/* Is one of n not finite? */
static bool is_broken(const float *x, size_t n)
{
    bool broken = false;

    for (size_t i = 0; i < n; i++) {
        broken |= !isfinite(x[i]);
    }
    return broken;
}

void act_quantize_signs(const struct kernels *k, enum act_kind kind, const float *x,
                        const float *threshold, size_t n, int8_t *q, float *d, int32_t *s)
{
    const size_t block = act_block(kind, n);

    if (kind == ACT_BITS) {
        d[0] = k->binarize(x, threshold, n, (uint8_t *)q);
        return;
    }
    const float scale = is_broken(x, n) ? NAN : 1.0f;
    for (size_t b = 0; b < n / block; b++) {
        int32_t sum = 0;
        for (size_t i = b * block; i < (b + 1) * block; i++) {
            q[i] = x[i] >= threshold[i] ? 1 : -1;
            sum += q[i];
        }
        d[b] = scale;
        s[b] = sum;
    }
}

void act_widen(const struct kernels *k, enum act_kind kind, float *x, const float *threshold,
               size_t n)
{
    if (kind == ACT_WIDE_SIGNS) {
        const float scale = is_broken(x, n) ? NAN : 1.0f;
        for (size_t i = 0; i < n; i++) {
            x[i] = x[i] >= threshold[i] ? scale : -scale;
        }
        return;
    }
    for (size_t first = 0; first < n; first += ACT_BLOCK) {
        int8_t q[ACT_BLOCK];
        float d;
        int32_t s;
        k->quant(x + first, ACT_BLOCK, ACT_BLOCK, q, &d, &s);
        for (size_t i = 0; i < ACT_BLOCK; i++) {
            x[first + i] = d * (float)q[i];
        }
    }
}
