/* What the files of the sdot level share. */
#ifndef ENGINE_KERNELS_DOTPROD_COMMON_H
#define ENGINE_KERNELS_DOTPROD_COMMON_H

#include "engine/kernels/arm_panels.h"

/* The lane of an instruction must be a constant; this one is after inlining. */
INLINE int32x4_t dot_lane(int32x4_t sum, int8x16_t w, int8x16_t q, int lane)
{
    switch (lane) {
    case 0:
        return vdotq_laneq_s32(sum, w, q, 0);
    case 1:
        return vdotq_laneq_s32(sum, w, q, 1);
    case 2:
        return vdotq_laneq_s32(sum, w, q, 2);
    default:
        return vdotq_laneq_s32(sum, w, q, 3);
    }
}

/* 16 columns of each token from `col` on. */
INLINE void load16(const struct act_q8 *act, size_t t0, const struct tile of, size_t col,
                   int8x16_t x[TOKENS])
{
    UNROLL for (size_t t = 0; t < of.n; t++)
    {
        x[t] = vld1q_s8(act->q + (t0 + t) * act->q_stride + col);
    }
}

#endif
