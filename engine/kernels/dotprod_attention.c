/* Scores of an int8 cache with sdot, sixteen products at a time. */
#include "engine/kernels/arm_rows.h"

INLINE int32x4_t add_products(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    return vdotq_s32(sum, a, b);
}

SCORES_I8(scores_i8_dotprod, add_products)
