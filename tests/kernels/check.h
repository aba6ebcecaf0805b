/* What the parts of the kernel check share. */
#ifndef TESTS_KERNELS_CHECK_H
#define TESTS_KERNELS_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/kernels/levels.h"

/* ---- input (check_input.c) ---- */

/** random_seed() - begin the numbers anew; seed is not 0 */
void random_seed(uint64_t seed);
uint32_t random_u32(void);
float random_float(int magnitude); /* +-[1, 2) * 2^(-magnitude..magnitude) */

/** extreme_float(), extreme_f16() - one of those that hurt: zeros, subnormals, infinities, NaN */
float extreme_float(void);
uint16_t extreme_f16(void);

/** buffer_new() - n bytes that end where the allocation ends, off bytes past a 64-byte boundary */
void *buffer_new(size_t n, size_t off);
void buffer_free(void *buffer, size_t off);
void fill_bytes(void *buffer, size_t n, int value); /* value < 0: random */

/** float_input(), half_input() - rounds 2 and 3 of every four are the wide and the extreme ones */
void float_input(float *x, size_t n, size_t round);
void half_input(uint16_t *h, size_t n, size_t round);

/** same_floats() - equal bit by bit, or both NaN */
bool same_floats(const float *want, const float *got, size_t n, size_t *ret_at);

/* ---- panels (check_panels.c) ---- */

/** panel_kind_parse() - the kind that panel_info() gives this name; false when none */
bool panel_kind_parse(const char *name, enum panel_kind *ret);

/* One panel and the activations to multiply it by. */
struct panel_case {
    uint8_t *panel;    /* owned, like the next three */
    struct act_q8 act; /* views of them */
    int8_t *q;
    float *d;
    int32_t *s;
};

void panel_case_init(struct panel_case *c, enum panel_kind kind, size_t n_cols, size_t n_tokens,
                     size_t round);
void panel_case_deinit(struct panel_case *c);

/** panel_case_without_3() - two-bit codes of 3, which no encoder writes, become others */
void panel_case_without_3(struct panel_case *c, enum panel_kind kind, size_t n_cols);
/** panel_case_without_lowest() - activations of -128, which quantizing never writes, become -127 */
void panel_case_without_lowest(struct panel_case *c, enum panel_kind kind, size_t n_cols);

bool check_panel(enum panel_kind kind, panel_fn *want, panel_fn *got);
bool check_batch(enum panel_kind kind, panel_fn *fn);

/* ---- binary weights by tables (check_binary.c) ---- */

/** check_quad_sums() - fn is this level's, which has an order of its own */
bool check_quad_sums(enum cpu_level level, quad_sums_fn *fn);
/** check_b1_panels() - several panels at once, and one by the panel function with tables
 * @quad_sums: of the same level */
bool check_b1_panels(quad_sums_fn *quad_sums, b1_panels_fn *fn, panel_fn *one);

/* ---- signs for activations (check_signs.c) ---- */

/** check_x1() - against the B1 product with d = 1 and q = +-1 */
bool check_x1(panel_fn *fn);
bool check_binarize(binarize_fn *want_fn, binarize_fn *got_fn);

/* ---- several panels at once (check_wide.c) ---- */

/** check_wide() - @one: the scalar function of the kind */
bool check_wide(enum panel_kind kind, panel_fn *one, wide_fn *fn);
bool check_pair(enum panel_kind kind, panel_fn *one, panel_fn *pair);

/* ---- plain vectors (check_floats.c) ---- */

bool check_quant(quant_fn *want_fn, quant_fn *got_fn);
bool check_dot_f32(dot_f32_fn *want_fn, dot_f32_fn *got_fn);
bool check_dot_half(const char *name, dot_half_fn *want_fn, dot_half_fn *got_fn);
bool check_f32_to_f16(f32_to_f16_fn *want_fn, f32_to_f16_fn *got_fn);

/* ---- attention, and one value after the other (check_rows.c) ---- */

bool check_scores(enum row_kind kind, scores_fn *want_fn, scores_fn *got_fn);
bool check_mix(enum row_kind kind, mix_fn *want_fn, mix_fn *got_fn);
bool check_exp(exp_below_max_fn *want_fn, exp_below_max_fn *got_fn);
bool check_gate_mul(const char *name, gate_mul_fn *want_fn, gate_mul_fn *got_fn);
bool check_largest(largest_fn *want_fn, largest_fn *got_fn);
bool check_scale_mul(scale_mul_fn *want_fn, scale_mul_fn *got_fn);
bool check_add_scaled(add_scaled_fn *want_fn, add_scaled_fn *got_fn);
bool check_rotate(const char *name, rotate_fn *want_fn, rotate_fn *got_fn);

#endif
