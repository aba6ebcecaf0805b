/* The table: every slot gets its scalar twin, then level upon level of its architecture what the
 * caller's level allows. The HAVE_ macros are 1 where this build holds the level's file. */
#include "engine/kernels/levels.h"

#include <assert.h>

#if HAVE_AVX2 || HAVE_AVX512
static void take_x86(struct kernels *k, enum cpu_level level)
{
#if HAVE_AVX2
    if (level >= CPU_AVX2) {
        *k = (struct kernels){
            .panel_b1 = panel_b1_avx2,
            .panel_i8 = panel_i8_avx2,
            .panel_t2 = panel_t2_avx2,
            .quant = quant_avx2,
            .dot_f32 = dot_f32_avx2,
            .dot_f16 = dot_f16_avx2,
            .dot_bf16 = dot_bf16_avx2,
            .axpy_f32 = axpy_f32_avx2,
            .axpy_f16 = axpy_f16_avx2,
            .f32_to_f16 = f32_to_f16_avx2,
        };
    }
#endif
#if HAVE_AVX512
    if (level >= CPU_AVX512) {
        *k = (struct kernels){
            .panel_b1 = panel_b1_avx512,
            .panel_i8 = panel_i8_avx512,
            .panel_t2 = panel_t2_avx512,
            .quant = quant_avx512,
            .dot_f32 = dot_f32_avx512,
            .dot_f16 = dot_f16_avx512,
            .dot_bf16 = dot_bf16_avx512,
            .axpy_f32 = axpy_f32_avx512,
            .axpy_f16 = axpy_f16_avx512,
            .f32_to_f16 = f32_to_f16_avx512,
        };
    }
#endif
}
#endif

#if HAVE_NEON
static void take_arm(struct kernels *k, enum cpu_level level)
{
    if (level >= CPU_NEON) {
        *k = (struct kernels){
            .panel_b1 = panel_b1_neon,
            .panel_i8 = panel_i8_neon,
            .panel_t2 = panel_t2_neon,
            .quant = quant_neon,
            .dot_f32 = dot_f32_neon,
            .dot_f16 = dot_f16_neon,
            .dot_bf16 = dot_bf16_neon,
            .axpy_f32 = axpy_f32_neon,
            .axpy_f16 = axpy_f16_neon,
            .f32_to_f16 = f32_to_f16_neon,
        };
    }
#if HAVE_DOTPROD
    if (level >= CPU_DOTPROD) {
        k->panel_b1 = panel_b1_dotprod;
        k->panel_i8 = panel_i8_dotprod;
        k->panel_t2 = panel_t2_dotprod;
    }
#endif
#if HAVE_I8MM
    if (level >= CPU_I8MM) {
        k->panel_b1 = panel_b1_i8mm;
        k->panel_i8 = panel_i8_i8mm;
        k->panel_t2 = panel_t2_i8mm;
    }
#endif
}
#endif

void kernels_init(struct kernels *k, enum cpu_level level)
{
    assert(cpu_level_present(level));

    *k = (struct kernels){
        .panel_b1 = panel_b1_scalar,
        .panel_i8 = panel_i8_scalar,
        .panel_t2 = panel_t2_scalar,
        .quant = quant_scalar,
        .dot_f32 = dot_f32_scalar,
        .dot_f16 = dot_f16_scalar,
        .dot_bf16 = dot_bf16_scalar,
        .axpy_f32 = axpy_f32_scalar,
        .axpy_f16 = axpy_f16_scalar,
        .f32_to_f16 = f32_to_f16_scalar,
    };
#if HAVE_AVX2 || HAVE_AVX512
    take_x86(k, level);
#endif
#if HAVE_NEON
    take_arm(k, level);
#endif
}
