/* The table: every slot gets its scalar twin, then level upon level of its architecture what the
 * caller's level allows. The HAVE_ macros are 1 where this build holds the level's file. */
#include "engine/kernels/levels.h"

#include <assert.h>
#include <string.h>

static const struct panel_info infos[PANELS] = {
    [PANEL_B1] = {"b1", B1_GROUP, B1_GROUP_BYTES, 0, ACT_BLOCK},
    [PANEL_I8] = {"i8", I8_GROUP, I8_GROUP_BYTES, 0, ACT_BLOCK},
    [PANEL_T64] = {"t64", 64, 288, 0, ACT_BLOCK},
    [PANEL_T128] = {"t128", 128, 544, 0, ACT_BLOCK},
    [PANEL_T256] = {"t256", T256_GROUP, T256_GROUP_BYTES, 0, ACT_BLOCK_T256},
    [PANEL_TROW] = {"trow", TROW_GROUP, 256, TROW_HEAD_BYTES, 0},
    [PANEL_N4] = {"n4", N4_GROUP, N4_GROUP_BYTES, 0, ACT_BLOCK},
    [PANEL_N4M] = {"n4m", N4_GROUP, N4M_GROUP_BYTES, 0, ACT_BLOCK},
    [PANEL_K4] = {"k4", K_GROUP, K4_GROUP_BYTES, 0, ACT_BLOCK},
    [PANEL_K5] = {"k5", K_GROUP, K5_GROUP_BYTES, 0, ACT_BLOCK},
    [PANEL_K6] = {"k6", K_GROUP, K6_GROUP_BYTES, 0, ACT_BLOCK},
    [PANEL_X1] = {"x1", X1_GROUP, X1_GROUP_BYTES, 0, 0},
};

const struct panel_info *panel_info(enum panel_kind kind)
{
    assert(kind > PANEL_NONE && kind < PANELS);
    return &infos[kind];
}

size_t panel_bytes(enum panel_kind kind, size_t n_cols)
{
    const struct panel_info *info = panel_info(kind);

    assert(n_cols % info->group == 0 && n_cols <= KERN_COLS_MAX);
    return info->head_bytes + n_cols / info->group * info->group_bytes;
}

#if HAVE_AVX2
static void take_avx2(struct kernels *k)
{
    k->panel[PANEL_B1] = panel_b1_avx2;
    k->quad_sums = quad_sums_avx2;
    k->b1_panels = b1_panels_avx2;
    k->wide[PANEL_B1] = wide_b1_avx2;
    k->wide[PANEL_T256] = wide_t256_avx2;
    k->wide[PANEL_TROW] = wide_trow_avx2;
    k->panel[PANEL_I8] = panel_i8_avx2;
    k->panel[PANEL_T64] = panel_t64_avx2;
    k->panel[PANEL_T128] = panel_t128_avx2;
    k->panel[PANEL_T256] = panel_t256_avx2;
    k->panel[PANEL_TROW] = panel_trow_avx2;
    k->panel[PANEL_N4] = panel_n4_avx2;
    k->panel[PANEL_N4M] = panel_n4m_avx2;
    k->panel[PANEL_K4] = panel_k4_avx2;
    k->panel[PANEL_K5] = panel_k5_avx2;
    k->panel[PANEL_K6] = panel_k6_avx2;
    k->panel[PANEL_X1] = panel_x1_avx2;
    k->quant = quant_avx2;
    k->quant_token = quant_token_avx2;
    k->binarize = binarize_avx2;
    k->dot_f32 = dot_f32_avx2;
    k->dot_f16 = dot_f16_avx2;
    k->dot_bf16 = dot_bf16_avx2;
    k->f32_to_f16 = f32_to_f16_avx2;
    k->scores[ROW_F32] = scores_f32_avx2;
    k->scores[ROW_F16] = scores_f16_avx2;
    k->scores[ROW_I8] = scores_i8_avx2;
    k->mix[ROW_F32] = mix_f32_avx2;
    k->mix[ROW_F16] = mix_f16_avx2;
    k->mix[ROW_I8] = mix_i8_avx2;
    k->exp_below_max = exp_below_max_avx2;
    k->silu_mul = silu_mul_avx2;
    k->relu2_mul = relu2_mul_avx2;
    k->largest = largest_avx2;
    k->scale_mul = scale_mul_avx2;
    k->add_scaled = add_scaled_avx2;
    k->rotate_halves = rotate_halves_avx2;
    k->rotate_pairs = rotate_pairs_avx2;
}
#endif

#if HAVE_AVX512
static void take_avx512(struct kernels *k)
{
    k->panel[PANEL_B1] = panel_b1_avx512;
    k->quad_sums = quad_sums_avx512;
    k->b1_panels = b1_panels_avx512;
    memset(k->wide, 0, sizeof(k->wide));
    k->wide[PANEL_B1] = wide_b1_avx512;
    k->wide_step = WIDE_PASS;
    k->pair[PANEL_T64] = pair_t64_avx512;
    k->pair[PANEL_T128] = pair_t128_avx512;
    k->pair[PANEL_T256] = pair_t256_avx512;
    k->pair[PANEL_TROW] = pair_trow_avx512;
    k->panel[PANEL_I8] = panel_i8_avx512;
    k->panel[PANEL_T64] = panel_t64_avx512;
    k->panel[PANEL_T128] = panel_t128_avx512;
    k->panel[PANEL_T256] = panel_t256_avx512;
    k->panel[PANEL_TROW] = panel_trow_avx512;
    k->panel[PANEL_N4] = panel_n4_avx512;
    k->panel[PANEL_N4M] = panel_n4m_avx512;
    k->panel[PANEL_K4] = panel_k4_avx512;
    k->panel[PANEL_K5] = panel_k5_avx512;
    k->panel[PANEL_K6] = panel_k6_avx512;
    k->quant = quant_avx512;
    k->quant_token = quant_token_avx512;
    k->dot_f32 = dot_f32_avx512;
    k->dot_f16 = dot_f16_avx512;
    k->dot_bf16 = dot_bf16_avx512;
    k->f32_to_f16 = f32_to_f16_avx512;
    k->scores[ROW_F32] = scores_f32_avx512;
    k->scores[ROW_F16] = scores_f16_avx512;
    k->scores[ROW_I8] = scores_i8_avx512;
    k->mix[ROW_F32] = mix_f32_avx512;
    k->mix[ROW_F16] = mix_f16_avx512;
    k->mix[ROW_I8] = mix_i8_avx512;
    k->exp_below_max = exp_below_max_avx512;
    k->silu_mul = silu_mul_avx512;
    k->relu2_mul = relu2_mul_avx512;
    k->scale_mul = scale_mul_avx512;
    k->add_scaled = add_scaled_avx512;
    k->rotate_halves = rotate_halves_avx512;
    k->rotate_pairs = rotate_pairs_avx512;
}
#endif

#if HAVE_AVX512_COUNT
static void take_avx512_count(struct kernels *k)
{
    k->panel[PANEL_X1] = panel_x1_avx512;
    k->binarize = binarize_avx512;
}
#endif

#if HAVE_NEON
static void take_neon(struct kernels *k)
{
    k->panel[PANEL_B1] = panel_b1_neon;
    k->quad_sums = quad_sums_neon;
    k->b1_panels = b1_panels_neon;
    k->wide[PANEL_B1] = wide_b1_neon;
    k->wide[PANEL_T256] = wide_t256_neon;
    k->wide[PANEL_TROW] = wide_trow_neon;
    k->panel[PANEL_I8] = panel_i8_neon;
    k->panel[PANEL_T64] = panel_t64_neon;
    k->panel[PANEL_T128] = panel_t128_neon;
    k->panel[PANEL_T256] = panel_t256_neon;
    k->panel[PANEL_TROW] = panel_trow_neon;
    k->panel[PANEL_N4] = panel_n4_neon;
    k->panel[PANEL_N4M] = panel_n4m_neon;
    k->panel[PANEL_K4] = panel_k4_neon;
    k->panel[PANEL_K5] = panel_k5_neon;
    k->panel[PANEL_K6] = panel_k6_neon;
    k->panel[PANEL_X1] = panel_x1_neon;
    k->quant = quant_neon;
    k->quant_token = quant_token_neon;
    k->binarize = binarize_neon;
    k->dot_f32 = dot_f32_neon;
    k->dot_f16 = dot_f16_neon;
    k->dot_bf16 = dot_bf16_neon;
    k->f32_to_f16 = f32_to_f16_neon;
    k->scores[ROW_F32] = scores_f32_neon;
    k->scores[ROW_F16] = scores_f16_neon;
    k->scores[ROW_I8] = scores_i8_neon;
    k->mix[ROW_F32] = mix_f32_neon;
    k->mix[ROW_F16] = mix_f16_neon;
    k->mix[ROW_I8] = mix_i8_neon;
    k->exp_below_max = exp_below_max_neon;
    k->silu_mul = silu_mul_neon;
    k->relu2_mul = relu2_mul_neon;
    k->largest = largest_neon;
    k->scale_mul = scale_mul_neon;
    k->add_scaled = add_scaled_neon;
    k->rotate_halves = rotate_halves_neon;
    k->rotate_pairs = rotate_pairs_neon;
}
#endif

#if HAVE_DOTPROD
static void take_dotprod(struct kernels *k)
{
    k->panel[PANEL_I8] = panel_i8_dotprod;
    k->panel[PANEL_T64] = panel_t64_dotprod;
    k->panel[PANEL_T128] = panel_t128_dotprod;
    k->panel[PANEL_T256] = panel_t256_dotprod;
    k->panel[PANEL_TROW] = panel_trow_dotprod;
    k->panel[PANEL_N4] = panel_n4_dotprod;
    k->panel[PANEL_N4M] = panel_n4m_dotprod;
    k->panel[PANEL_K4] = panel_k4_dotprod;
    k->panel[PANEL_K5] = panel_k5_dotprod;
    k->panel[PANEL_K6] = panel_k6_dotprod;
    k->scores[ROW_I8] = scores_i8_dotprod;
}
#endif

#if HAVE_I8MM
static void take_i8mm(struct kernels *k)
{
    k->b1_panels = b1_panels_i8mm;
    k->panel[PANEL_I8] = panel_i8_i8mm;
    k->panel[PANEL_T64] = panel_t64_i8mm;
    k->panel[PANEL_T128] = panel_t128_i8mm;
    k->panel[PANEL_T256] = panel_t256_i8mm;
    k->panel[PANEL_TROW] = panel_trow_i8mm;
    k->panel[PANEL_N4] = panel_n4_i8mm;
    k->panel[PANEL_N4M] = panel_n4m_i8mm;
    k->panel[PANEL_K4] = panel_k4_i8mm;
    k->panel[PANEL_K5] = panel_k5_i8mm;
    k->panel[PANEL_K6] = panel_k6_i8mm;
}
#endif

static void take_scalar(struct kernels *k)
{
    *k = (struct kernels){
        .panel =
            {
                [PANEL_B1] = panel_b1_scalar,
                [PANEL_I8] = panel_i8_scalar,
                [PANEL_T64] = panel_t64_scalar,
                [PANEL_T128] = panel_t128_scalar,
                [PANEL_T256] = panel_t256_scalar,
                [PANEL_TROW] = panel_trow_scalar,
                [PANEL_N4] = panel_n4_scalar,
                [PANEL_N4M] = panel_n4m_scalar,
                [PANEL_K4] = panel_k4_scalar,
                [PANEL_K5] = panel_k5_scalar,
                [PANEL_K6] = panel_k6_scalar,
                [PANEL_X1] = panel_x1_scalar,
            },
        .wide_step = WIDE_PASS / 2,
        .quant = quant_scalar,
        .quant_token = quant_token_scalar,
        .binarize = binarize_scalar,
        .dot_f32 = dot_f32_scalar,
        .dot_f16 = dot_f16_scalar,
        .dot_bf16 = dot_bf16_scalar,
        .f32_to_f16 = f32_to_f16_scalar,
        .scores = {scores_f32_scalar, scores_f16_scalar, scores_i8_scalar},
        .mix = {mix_f32_scalar, mix_f16_scalar, mix_i8_scalar},
        .exp_below_max = exp_below_max_scalar,
        .silu_mul = silu_mul_scalar,
        .relu2_mul = relu2_mul_scalar,
        .largest = largest_scalar,
        .scale_mul = scale_mul_scalar,
        .add_scaled = add_scaled_scalar,
        .rotate_halves = rotate_halves_scalar,
        .rotate_pairs = rotate_pairs_scalar,
    };
}

void kernels_init(struct kernels *k, enum cpu_level level)
{
    assert(cpu_level_present(level));

    take_scalar(k);
#if HAVE_AVX2
    if (level == CPU_AVX2 || level == CPU_AVX512) {
        take_avx2(k);
    }
#endif
#if HAVE_AVX512
    if (level == CPU_AVX512) {
        take_avx512(k);
    }
#endif
#if HAVE_AVX512_COUNT
    if (level == CPU_AVX512 && cpu_counts_bits()) {
        take_avx512_count(k);
    }
#endif
#if HAVE_NEON
    if (level >= CPU_NEON) {
        take_neon(k);
    }
#endif
#if HAVE_DOTPROD
    if (level >= CPU_DOTPROD) {
        take_dotprod(k);
    }
#endif
#if HAVE_I8MM
    if (level >= CPU_I8MM) {
        take_i8mm(k);
    }
#endif
}
