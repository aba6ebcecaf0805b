/* Every slot of the kernel table against its scalar twin, at one CPU level, in the manner of
 * dav1d's checkasm: check_panels.c, check_binary.c, check_wide.c, check_floats.c and check_rows.c
 * compare, check_input.c has what they compare on.
 *
 *   check --level NAME [--seed N]
 *
 * Exit: 0 all slots agree, 1 one does not, 77 the machine or the build lacks the level, 64 usage.
 * Built with CHECK_EMULATED, the AVX-512 functions come from a portable emulation of the
 * intrinsics, so that their arithmetic is proved on machines without the instructions. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/check.h"

static bool say(const char *slot, bool ok)
{
    printf("  %-13s %s\n", slot, ok ? "ok" : "FAILED");
    return ok;
}

/* The emulated table holds its own level's functions alone. */
#define CHECK_IF(slot, name, call)                                                                 \
    if (got->slot) {                                                                               \
        ok &= say(name, call);                                                                     \
    }

static bool check_rows(const struct kernels *want, const struct kernels *got)
{
    static const char *const kinds[ROW_KINDS][2] = {
        {"scores_f32", "mix_f32"}, {"scores_f16", "mix_f16"}, {"scores_i8", "mix_i8"}};
    bool ok = true;

    for (unsigned i = 0; i < ROW_KINDS; i++) {
        const enum row_kind kind = (enum row_kind)i;
        CHECK_IF(scores[i], kinds[i][0], check_scores(kind, want->scores[i], got->scores[i]))
        CHECK_IF(mix[i], kinds[i][1], check_mix(kind, want->mix[i], got->mix[i]))
    }
    CHECK_IF(exp_below_max, "exp_below_max", check_exp(want->exp_below_max, got->exp_below_max))
    CHECK_IF(silu_mul, "silu_mul", check_gate_mul("silu_mul", want->silu_mul, got->silu_mul))
    CHECK_IF(relu2_mul, "relu2_mul", check_gate_mul("relu2_mul", want->relu2_mul, got->relu2_mul))
    CHECK_IF(largest, "largest", check_largest(want->largest, got->largest))
    CHECK_IF(scale_mul, "scale_mul", check_scale_mul(want->scale_mul, got->scale_mul))
    CHECK_IF(add_scaled, "add_scaled", check_add_scaled(want->add_scaled, got->add_scaled))
    CHECK_IF(rotate_halves, "rotate_halves",
             check_rotate("rotate_halves", want->rotate_halves, got->rotate_halves))
    CHECK_IF(rotate_pairs, "rotate_pairs",
             check_rotate("rotate_pairs", want->rotate_pairs, got->rotate_pairs))
    return ok;
}

static bool check_all(enum cpu_level level, const struct kernels *want, const struct kernels *got)
{
    bool ok = true;

    for (unsigned i = PANEL_NONE + 1; i < PANELS; i++) {
        const enum panel_kind kind = (enum panel_kind)i;
        char slot[32];
        if (!got->panel[i]) {
            continue; /* the emulated table holds its own level's functions alone */
        }
        (void)snprintf(slot, sizeof(slot), "panel_%s", panel_info(kind)->name);
        ok &= say(slot, check_panel(kind, want->panel[i], got->panel[i]) &&
                            check_batch(kind, got->panel[i]));
        if (got->pair[i]) {
            (void)snprintf(slot, sizeof(slot), "pair_%s", panel_info(kind)->name);
            ok &= say(slot, check_pair(kind, want->panel[i], got->pair[i]));
        }
        if (got->wide[i]) {
            (void)snprintf(slot, sizeof(slot), "wide_%s", panel_info(kind)->name);
            ok &= say(slot, check_wide(kind, want->panel[i], got->wide[i]));
        }
    }
    CHECK_IF(quad_sums, "quad_sums", check_quad_sums(level, got->quad_sums))
    CHECK_IF(b1_panels, "b1_panels",
             check_b1_panels(got->quad_sums, got->b1_panels, got->panel[PANEL_B1]))
    CHECK_IF(panel[PANEL_X1], "x1", check_x1(got->panel[PANEL_X1]))
    CHECK_IF(binarize, "binarize", check_binarize(want->binarize, got->binarize))
    ok &= say("quant", check_quant(want->quant, got->quant));
    if (got->quant_token) {
        ok &= say("quant_token", check_quant(want->quant_token, got->quant_token));
    }
    ok &= say("dot_f32", check_dot_f32(want->dot_f32, got->dot_f32));
    ok &= say("dot_f16", check_dot_half("dot_f16", want->dot_f16, got->dot_f16));
    ok &= say("dot_bf16", check_dot_half("dot_bf16", want->dot_bf16, got->dot_bf16));
    ok &= say("f32_to_f16", check_f32_to_f16(want->f32_to_f16, got->f32_to_f16));
    return ok && check_rows(want, got);
}

#ifdef CHECK_EMULATED

static bool table_of(enum cpu_level level, struct kernels *ret)
{
    *ret = (struct kernels){
        .panel = {[PANEL_B1] = panel_b1_avx512,
                  [PANEL_I8] = panel_i8_avx512,
                  [PANEL_T64] = panel_t64_avx512,
                  [PANEL_T128] = panel_t128_avx512,
                  [PANEL_T256] = panel_t256_avx512,
                  [PANEL_TROW] = panel_trow_avx512,
                  [PANEL_N4] = panel_n4_avx512,
                  [PANEL_N4M] = panel_n4m_avx512,
                  [PANEL_K4] = panel_k4_avx512,
                  [PANEL_K5] = panel_k5_avx512,
                  [PANEL_K6] = panel_k6_avx512,
                  [PANEL_X1] = panel_x1_avx512},
        .quad_sums = quad_sums_avx512,
        .b1_panels = b1_panels_avx512,
        .pair = {[PANEL_T64] = pair_t64_avx512,
                 [PANEL_T128] = pair_t128_avx512,
                 [PANEL_T256] = pair_t256_avx512,
                 [PANEL_TROW] = pair_trow_avx512},
        .wide = {[PANEL_B1] = wide_b1_avx512},
        .quant = quant_avx512,
        .quant_token = quant_token_avx512,
        .binarize = binarize_avx512,
        .dot_f32 = dot_f32_avx512,
        .dot_f16 = dot_f16_avx512,
        .dot_bf16 = dot_bf16_avx512,
        .f32_to_f16 = f32_to_f16_avx512,
        .scores = {scores_f32_avx512, scores_f16_avx512, scores_i8_avx512},
        .mix = {mix_f32_avx512, mix_f16_avx512, mix_i8_avx512},
        .exp_below_max = exp_below_max_avx512,
        .silu_mul = silu_mul_avx512,
        .relu2_mul = relu2_mul_avx512,
        .scale_mul = scale_mul_avx512,
        .add_scaled = add_scaled_avx512,
        .rotate_halves = rotate_halves_avx512,
        .rotate_pairs = rotate_pairs_avx512,
    };
    return level == CPU_AVX512;
}

#else

static bool table_of(enum cpu_level level, struct kernels *ret)
{
    if (!cpu_level_present(level)) {
        return false;
    }
    kernels_init(ret, level);
    return true;
}

#endif

static int usage(void)
{
    fputs("usage: check --level NAME [--seed N]\n", stderr);
    return 64;
}

int main(int argc, char **argv)
{
    enum cpu_level level = CPU_LEVELS;
    uint64_t seed = 1;
    struct kernels scalar, table;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--level") == 0 && i + 1 < argc) {
            if (!cpu_level_parse(argv[++i], &level)) {
                return usage();
            }
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            char *end = NULL;
            errno = 0;
            seed = strtoull(argv[++i], &end, 0);
            if (errno || *end || end == argv[i] || seed == 0) {
                return usage();
            }
        } else {
            return usage();
        }
    }
    if (level == CPU_LEVELS) {
        return usage();
    }
    if (!table_of(level, &table)) {
        printf("%s: not on this machine or not in this build, skipped\n", cpu_level_name(level));
        return 77;
    }
    random_seed(seed);
    printf("%s:\n", cpu_level_name(level));
    kernels_init(&scalar, CPU_SCALAR);
    if (!check_all(level, &scalar, &table)) {
        printf("seed %" PRIu64 "\n", seed);
        return 1;
    }
    return 0;
}
