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

/* scores_fn and mix_fn: their checks, then call(1), call(2) ... by the number of queries, each of
 * which is compiled for itself. */
#define BY_QUERIES(n, call)                                                                        \
    assert((n) >= 1 && (n) <= KERN_QUERIES);                                                       \
    switch (n) {                                                                                   \
    case 1:                                                                                        \
        call(1);                                                                                   \
        break;                                                                                     \
    case 2:                                                                                        \
        call(2);                                                                                   \
        break;                                                                                     \
    case 3:                                                                                        \
        call(3);                                                                                   \
        break;                                                                                     \
    default:                                                                                       \
        call(4);                                                                                   \
        break;                                                                                     \
    }

#define SCORES(name, call)                                                                         \
    void name(const struct kv_rows *keys, const struct queries *q, float *const *ret)              \
    {                                                                                              \
        assert(keys->n >= 1 && keys->n <= KERN_ROWS);                                              \
        BY_QUERIES(q->n, call)                                                                     \
    }

#define MIX(name, call)                                                                            \
    void name(const struct kv_rows *values, const float *const *weight, size_t n_queries,          \
              float *const *out, float *sum)                                                       \
    {                                                                                              \
        assert(values->n >= 1 && values->n <= KERN_ROWS);                                          \
        BY_QUERIES(n_queries, call)                                                                \
    }

panel_fn panel_b1_scalar, panel_i8_scalar, panel_t64_scalar, panel_t128_scalar, panel_t256_scalar,
    panel_trow_scalar, panel_n4_scalar, panel_n4m_scalar, panel_k4_scalar, panel_k5_scalar,
    panel_k6_scalar, panel_x1_scalar;
quad_sums_fn quad_sums_scalar;
quant_fn quant_scalar, quant_token_scalar;
binarize_fn binarize_scalar;
dot_f32_fn dot_f32_scalar;
dot_half_fn dot_f16_scalar, dot_bf16_scalar;
f32_to_f16_fn f32_to_f16_scalar;
scores_fn scores_f32_scalar, scores_f16_scalar, scores_i8_scalar;
mix_fn mix_f32_scalar, mix_f16_scalar, mix_i8_scalar;
exp_below_max_fn exp_below_max_scalar;
gate_mul_fn silu_mul_scalar, relu2_mul_scalar;
largest_fn largest_scalar;
scale_mul_fn scale_mul_scalar;
add_scaled_fn add_scaled_scalar;
rotate_fn rotate_halves_scalar, rotate_pairs_scalar;

panel_fn panel_b1_avx2, panel_i8_avx2, panel_t64_avx2, panel_t128_avx2, panel_t256_avx2,
    panel_trow_avx2, panel_n4_avx2, panel_n4m_avx2, panel_k4_avx2, panel_k5_avx2, panel_k6_avx2,
    panel_x1_avx2;
quad_sums_fn quad_sums_avx2;
b1_panels_fn b1_panels_avx2;
wide_fn wide_b1_avx2, wide_t256_avx2, wide_trow_avx2;
quant_fn quant_avx2, quant_token_avx2;
binarize_fn binarize_avx2;
dot_f32_fn dot_f32_avx2;
dot_half_fn dot_f16_avx2, dot_bf16_avx2;
f32_to_f16_fn f32_to_f16_avx2;
scores_fn scores_f32_avx2, scores_f16_avx2, scores_i8_avx2;
mix_fn mix_f32_avx2, mix_f16_avx2, mix_i8_avx2;
exp_below_max_fn exp_below_max_avx2;
gate_mul_fn silu_mul_avx2, relu2_mul_avx2;
largest_fn largest_avx2;
scale_mul_fn scale_mul_avx2;
add_scaled_fn add_scaled_avx2;
rotate_fn rotate_halves_avx2, rotate_pairs_avx2;

panel_fn panel_b1_avx512, panel_i8_avx512, panel_t64_avx512, panel_t128_avx512, panel_t256_avx512,
    panel_trow_avx512, panel_n4_avx512, panel_n4m_avx512, panel_k4_avx512, panel_k5_avx512,
    panel_k6_avx512;
panel_fn panel_x1_avx512; /* these two: where the chip counts bits (VPOPCNTDQ) */
binarize_fn binarize_avx512;
panel_fn pair_t64_avx512, pair_t128_avx512, pair_t256_avx512, pair_trow_avx512;
quad_sums_fn quad_sums_avx512;
b1_panels_fn b1_panels_avx512;
wide_fn wide_b1_avx512;
quant_fn quant_avx512, quant_token_avx512;
dot_f32_fn dot_f32_avx512;
dot_half_fn dot_f16_avx512, dot_bf16_avx512;
f32_to_f16_fn f32_to_f16_avx512;
scores_fn scores_f32_avx512, scores_f16_avx512, scores_i8_avx512;
mix_fn mix_f32_avx512, mix_f16_avx512, mix_i8_avx512;
exp_below_max_fn exp_below_max_avx512;
gate_mul_fn silu_mul_avx512, relu2_mul_avx512;
scale_mul_fn scale_mul_avx512;
add_scaled_fn add_scaled_avx512;
rotate_fn rotate_halves_avx512, rotate_pairs_avx512;

panel_fn panel_b1_neon, panel_i8_neon, panel_t64_neon, panel_t128_neon, panel_t256_neon,
    panel_trow_neon, panel_n4_neon, panel_n4m_neon, panel_k4_neon, panel_k5_neon, panel_k6_neon,
    panel_x1_neon;
quad_sums_fn quad_sums_neon;
b1_panels_fn b1_panels_neon;
wide_fn wide_b1_neon, wide_t256_neon, wide_trow_neon;
quant_fn quant_neon, quant_token_neon;
binarize_fn binarize_neon;
dot_f32_fn dot_f32_neon;
dot_half_fn dot_f16_neon, dot_bf16_neon;
f32_to_f16_fn f32_to_f16_neon;
scores_fn scores_f32_neon, scores_f16_neon, scores_i8_neon;
mix_fn mix_f32_neon, mix_f16_neon, mix_i8_neon;
exp_below_max_fn exp_below_max_neon;
gate_mul_fn silu_mul_neon, relu2_mul_neon;
largest_fn largest_neon;
scale_mul_fn scale_mul_neon;
add_scaled_fn add_scaled_neon;
rotate_fn rotate_halves_neon, rotate_pairs_neon;

panel_fn panel_i8_dotprod, panel_t64_dotprod, panel_t128_dotprod, panel_t256_dotprod,
    panel_trow_dotprod, panel_n4_dotprod, panel_n4m_dotprod, panel_k4_dotprod, panel_k5_dotprod,
    panel_k6_dotprod;
scores_fn scores_i8_dotprod;

panel_fn panel_i8_i8mm, panel_t64_i8mm, panel_t128_i8mm, panel_t256_i8mm, panel_trow_i8mm,
    panel_n4_i8mm, panel_n4m_i8mm, panel_k4_i8mm, panel_k5_i8mm, panel_k6_i8mm;
b1_panels_fn b1_panels_i8mm;

#endif
