/* Every level's functions, for the table and for the check program. A level that leaves a slot out
 * uses the one of the level below. */
#ifndef ENGINE_KERNELS_LEVELS_H
#define ENGINE_KERNELS_LEVELS_H

#include <assert.h>

#include "engine/kernels/kernels.h"

/* Before a loop of constant count whose arrays are to live in registers. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* A panel_fn: its check, then the body, in which t counts the tokens that are done. */
#define PANEL_FN(name, group, body)                                                                \
    void name(const uint8_t *panel, size_t n_cols, const struct act_q8 *act, float *out,           \
              size_t out_stride)                                                                   \
    {                                                                                              \
        assert(n_cols % (group) == 0 && n_cols <= KERN_COLS_MAX);                                  \
                                                                                                   \
        size_t t = 0;                                                                              \
        body                                                                                       \
    }

/* In such a body: `step` tokens at a time while there are so many. Each count is compiled for
 * itself. */
#define BY(step, tokens, ...)                                                                      \
    for (; t + (step) <= act->n_tokens; t += (step)) {                                             \
        tokens(panel, n_cols, act, t, step, __VA_ARGS__);                                          \
    }

panel_fn panel_b1_scalar, panel_i8_scalar, panel_t64_scalar, panel_t128_scalar, panel_t256_scalar,
    panel_trow_scalar, panel_n4_scalar, panel_n4m_scalar, panel_k4_scalar, panel_k5_scalar,
    panel_k6_scalar;
quant_fn quant_scalar, quant_token_scalar;
dot_i8_fn dot_i8_scalar;
axpy_i8_fn axpy_i8_scalar;
dot_f32_fn dot_f32_scalar;
dot_half_fn dot_f16_scalar, dot_bf16_scalar;
axpy_f32_fn axpy_f32_scalar;
axpy_f16_fn axpy_f16_scalar;
f32_to_f16_fn f32_to_f16_scalar;

panel_fn panel_b1_avx2, panel_i8_avx2, panel_t64_avx2, panel_t128_avx2, panel_t256_avx2,
    panel_trow_avx2, panel_n4_avx2, panel_n4m_avx2, panel_k4_avx2, panel_k5_avx2, panel_k6_avx2;
quant_fn quant_avx2, quant_token_avx2;
dot_i8_fn dot_i8_avx2;
axpy_i8_fn axpy_i8_avx2;
dot_f32_fn dot_f32_avx2;
dot_half_fn dot_f16_avx2, dot_bf16_avx2;
axpy_f32_fn axpy_f32_avx2;
axpy_f16_fn axpy_f16_avx2;
f32_to_f16_fn f32_to_f16_avx2;

panel_fn panel_b1_avx512, panel_i8_avx512, panel_t64_avx512, panel_t128_avx512, panel_t256_avx512,
    panel_trow_avx512, panel_n4_avx512, panel_n4m_avx512, panel_k4_avx512, panel_k5_avx512,
    panel_k6_avx512;
quant_fn quant_avx512, quant_token_avx512;
axpy_i8_fn axpy_i8_avx512;
dot_f32_fn dot_f32_avx512;
dot_half_fn dot_f16_avx512, dot_bf16_avx512;
axpy_f32_fn axpy_f32_avx512;
axpy_f16_fn axpy_f16_avx512;
f32_to_f16_fn f32_to_f16_avx512;

panel_fn panel_b1_neon, panel_i8_neon, panel_t64_neon, panel_t128_neon, panel_t256_neon,
    panel_trow_neon, panel_n4_neon, panel_n4m_neon, panel_k4_neon, panel_k5_neon, panel_k6_neon;
quant_fn quant_neon, quant_token_neon;
dot_i8_fn dot_i8_neon;
axpy_i8_fn axpy_i8_neon;
dot_f32_fn dot_f32_neon;
dot_half_fn dot_f16_neon, dot_bf16_neon;
axpy_f32_fn axpy_f32_neon;
axpy_f16_fn axpy_f16_neon;
f32_to_f16_fn f32_to_f16_neon;

panel_fn panel_b1_dotprod, panel_i8_dotprod, panel_t64_dotprod, panel_t128_dotprod,
    panel_t256_dotprod, panel_trow_dotprod, panel_n4_dotprod, panel_n4m_dotprod, panel_k4_dotprod,
    panel_k5_dotprod, panel_k6_dotprod;
dot_i8_fn dot_i8_dotprod;

panel_fn panel_b1_i8mm, panel_i8_i8mm, panel_t64_i8mm, panel_t128_i8mm, panel_t256_i8mm,
    panel_trow_i8mm, panel_n4_i8mm, panel_n4m_i8mm, panel_k4_i8mm, panel_k5_i8mm, panel_k6_i8mm;

#endif
