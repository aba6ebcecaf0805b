/* scalar_rows.c against kernels.h, by hand: attention's slots, and those that take one value after
 * the other. */
#include "tests/support/test.h"

#include <math.h>

#include "engine/kernels/kernels.h"
#include "engine/mathf.h"

static struct kernels k;
static uint32_t rng = 1;

static uint32_t random_u32(void)
{
    rng = rng * 1664525u + 1013904223u;
    return rng >> 8;
}

/* Goal: products of int8 at their ends, scaled by row and by query. Method: two rows, by hand. */
static void int8_scores_are_exact_sums_times_two_scales(void **state)
{
    static const int8_t rows[2][5] = {{-128, -128, 127, 0, 5}, {1, 1, 1, 1, 1}};
    static const int8_t q[2][5] = {{-127, 127, 127, 9, -1}, {1, 2, 3, 4, 5}};
    static const float d[] = {0.5f, 2.0f};
    const struct kv_rows keys = {.rows = rows, .d = d, .n = 2, .n_cols = 5};
    const struct queries queries = {.q = {q[0], q[1]}, .scale = {0.25f, 3.0f}, .n = 2};
    float first[2], second[2];

    k.scores[ROW_I8](&keys, &queries, (float *const[]){first, second});
    assert_true(first[0] == (16256 - 16256 + 16129 - 5) * 0.125f && first[1] == 135 * 0.5f);
    assert_true(second[0] == (-128 - 256 + 381 + 25) * 1.5f && second[1] == 15 * 6.0f);
}

/* Goal: scores of floats are dot products times the query's scale. */
static void float_scores_are_scaled_dot_products(void **state)
{
    float rows[2][37], q[37], got[2];
    uint16_t half[2][37];
    const struct queries queries = {.q = {q}, .scale = {0.3f}, .n = 1};
    struct kv_rows keys = {.rows = rows, .n = 2, .n_cols = 37};

    for (size_t i = 0; i < 74; i++) {
        half[i / 37][i % 37] = f16_from_f32((float)(int)(random_u32() % 2001) * 0.37f);
        rows[i / 37][i % 37] = f16_to_f32(half[i / 37][i % 37]);
        q[i % 37] = (float)(int)(random_u32() % 2001) * 0.013f - 10;
    }
    for (int as_half = 0; as_half < 2; as_half++) {
        k.scores[as_half ? ROW_F16 : ROW_F32](&keys, &queries, (float *const[]){got});
        for (size_t i = 0; i < 2; i++) {
            const float want = k.dot_f32(rows[i], q, 37) * 0.3f;
            assert_memory_equal(&got[i], &want, sizeof(want));
        }
        keys.rows = half;
    }
}

/* Goal: values are added in the order of their rows, fused. Method: a cancellation that only that
 * order leaves whole. */
static void values_are_mixed_in_the_order_of_their_rows(void **state)
{
    static const float rows[3][2] = {{1.0f, 0x1p30f}, {0x1p-12f, 1.0f}, {1.0f, -0x1p30f}};
    static const uint16_t half[3][2] = {{0x3c00, 0x7bff}, {0x0c00, 0x3c00}, {0x3c00, 0xfbff}};
    static const int8_t bytes[3][2] = {{127, -128}, {1, 1}, {-127, 127}};
    static const float weight[3] = {1.0f, 1 + 0x1p-12f, 1.0f}, d[3] = {0.5f, 0x1p-30f, 0.5f};
    struct kv_rows values = {.rows = rows, .n = 3, .n_cols = 2};
    float out[2] = {-1.0f, 0}, sum = 0x1p24f + 2;

    k.mix[ROW_F32](&values, (const float *const[]){weight}, 1, (float *const[]){out}, &sum);
    assert_true(out[0] == 1 + 0x1p-12f); /* 2^-12 + 2^-24, to even beside 1 */
    assert_true(out[1] == 0);            /* the one was lost beside 2^30 */
    assert_true(sum == 0x1p24f + 8);     /* each rounded up, the outer two to even; together: 6 */
    values.rows = half;
    out[0] = out[1] = 0;
    k.mix[ROW_F16](&values, (const float *const[]){weight}, 1, (float *const[]){out}, &sum);
    assert_true(out[1] == 1); /* 1 + 2^-12 beside 65504 */
    values = (struct kv_rows){.rows = bytes, .d = d, .n = 3, .n_cols = 2};
    out[0] = out[1] = 0;
    k.mix[ROW_I8](&values, (const float *const[]){weight}, 1, (float *const[]){out}, &sum);
    assert_true(out[0] == 0 && out[1] == -0.5f);
}

static void exp_is_taken_below_the_largest_that_is_a_number(void **state)
{
    float x[] = {1.0f, 3.0f, NAN, -INFINITY, 2.0f}, y[] = {-INFINITY};

    k.exp_below_max(x, ARRAY_SIZE(x));
    assert_true(x[0] == math_expf(-2.0f) && x[1] == 1 && isnan(x[2]) && x[3] == 0);
    assert_true(x[4] == math_expf(-1.0f));
    k.exp_below_max(y, 1);
    assert_true(isnan(y[0]));
    k.exp_below_max(y, 0);
}

static void activations_multiply_what_goes_up(void **state)
{
    static const float up[] = {2.0f, 2.0f, 3.0f, 1.0f};
    float silu[] = {1.5f, -1.5f, 0.0f, NAN}, relu[] = {3.0f, -3.0f, -0.0f, NAN};

    k.silu_mul(silu, up, 4);
    assert_true(silu[0] == math_siluf(1.5f) * 2 && silu[1] == math_siluf(-1.5f) * 2);
    assert_true(silu[2] == 0 && isnan(silu[3]));
    k.relu2_mul(relu, up, 4);
    assert_true(relu[0] == 18 && relu[1] == 0 && relu[2] == 0 && isnan(relu[3]));
}

static void the_largest_is_a_number_only_where_all_are_finite(void **state)
{
    static const float x[] = {-3.0f, -0.0f, -1.0f, -0.0f}, low[] = {-3.0f, -2.5f};
    static const float broken[] = {INFINITY, -INFINITY, NAN};

    assert_true(k.largest(x, 4) == 0 && !signbit(k.largest(x, 4)));
    assert_true(k.largest(low, 2) == -2.5f);
    assert_true(k.largest(low, 1) == -3.0f);
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
        const float y[] = {1.0f, broken[i], 2.0f};
        assert_true(isnan(k.largest(y, 3)));
    }
}

/* Goal: which operations round. Method: factors whose products do not fit. */
static void scaling_and_adding_round_twice(void **state)
{
    static const float x[] = {1 + 0x1p-23f}, w[] = {1 + 0x1p-23f}, minus[] = {-1.0f};
    float ret[1];

    k.scale_mul(x, 1 + 0x1p-23f, w, ret, 1);
    assert_true(ret[0] == 1 + 3 * 0x1p-23f);
    k.add_scaled(minus, x, 1 - 0x1p-24f, ret, 1); /* the product is 1 + 2^-24 - 2^-47 */
    assert_true(ret[0] == 0);
}

static void pairs_turn_together_as_halves_and_as_neighbours(void **state)
{
    static const float c[] = {0.5f, 0.0f}, s[] = {0.25f, 1.0f};
    float halves[] = {1, 2, 3, 4}, pairs[] = {1, 3, 2, 4};

    k.rotate_halves(halves, c, s, 2);
    k.rotate_pairs(pairs, c, s, 2);
    assert_true(halves[0] == 0.5f - 0.75f && halves[2] == 0.25f + 1.5f);
    assert_true(halves[1] == -4 && halves[3] == 2);
    assert_true(pairs[0] == halves[0] && pairs[1] == halves[2]);
    assert_true(pairs[2] == halves[1] && pairs[3] == halves[3]);
}

static int setup(void **state)
{
    kernels_init(&k, CPU_SCALAR);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8_scores_are_exact_sums_times_two_scales),
        cmocka_unit_test(float_scores_are_scaled_dot_products),
        cmocka_unit_test(values_are_mixed_in_the_order_of_their_rows),
        cmocka_unit_test(exp_is_taken_below_the_largest_that_is_a_number),
        cmocka_unit_test(activations_multiply_what_goes_up),
        cmocka_unit_test(the_largest_is_a_number_only_where_all_are_finite),
        cmocka_unit_test(scaling_and_adding_round_twice),
        cmocka_unit_test(pairs_turn_together_as_halves_and_as_neighbours),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
