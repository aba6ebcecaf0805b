/* The scalar functions against kernels.h and NUMERICS.md, written out a second time: dense matrices,
 * packed here by the header's words, and sums in plain loops. */
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/kernels.h"

#define N_COLS 512u
#define N_TOKENS 3u

static struct kernels k;
static uint32_t rng = 1;

static uint32_t random_u32(void)
{
    rng = rng * 1664525u + 1013904223u;
    return rng >> 8;
}

/* One dense panel and its activations. */
struct dense {
    int w[PANEL_ROWS][N_COLS];
    uint16_t scale[PANEL_ROWS][N_COLS / I8_GROUP]; /* by group */
    int8_t q[N_TOKENS][N_COLS];
    float d[N_TOKENS][N_COLS / ACT_BLOCK];
    int32_t s[N_TOKENS][N_COLS / ACT_BLOCK];
};

static void dense_fill(struct dense *m, size_t block, int (*weight)(void))
{
    for (size_t row = 0; row < PANEL_ROWS; row++) {
        for (size_t col = 0; col < N_COLS; col++) {
            m->w[row][col] = weight();
        }
        for (size_t g = 0; g < N_COLS / I8_GROUP; g++) {
            m->scale[row][g] = f16_from_f32((float)(int)(random_u32() % 2001) * 0.001f - 1.0f);
        }
    }
    memset(m->s, 0, sizeof(m->s));
    for (size_t t = 0; t < N_TOKENS; t++) {
        for (size_t col = 0; col < N_COLS; col++) {
            m->q[t][col] = (int8_t)random_u32(); /* -128 too */
            m->s[t][col / block] += m->q[t][col];
        }
        for (size_t b = 0; b < N_COLS / block; b++) {
            m->d[t][b] = (float)(random_u32() % 1000 + 1) * 0.01f;
        }
    }
}

static float expected(const struct dense *m, size_t row, size_t t, size_t group, size_t block)
{
    float acc = 0;

    for (size_t g = 0; g < N_COLS / group; g++) {
        float part = 0;
        for (size_t b = g * group / block; b < (g + 1) * group / block; b++) {
            int sum = 0;
            for (size_t col = b * block; col < (b + 1) * block; col++) {
                sum += m->w[row][col] * m->q[t][col];
            }
            part = fmaf(m->d[t][b], (float)sum, part);
        }
        acc = fmaf(f16_to_f32(m->scale[row][g]), part, acc);
    }
    return acc;
}

static void compare(const struct dense *m, const uint8_t *panel, panel_fn *fn, size_t group,
                    size_t block)
{
    const struct act_q8 act = {.q = m->q[0],
                               .d = m->d[0],
                               .s = m->s[0],
                               .q_stride = N_COLS,
                               .d_stride = N_COLS / ACT_BLOCK,
                               .n_tokens = N_TOKENS};
    float out[N_TOKENS][PANEL_ROWS];

    fn(panel, N_COLS, &act, out[0], PANEL_ROWS);
    for (size_t t = 0; t < N_TOKENS; t++) {
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            const float want = expected(m, row, t, group, block);
            assert_memory_equal(&out[t][row], &want, sizeof(want));
        }
    }
}

static void put_scales(const struct dense *m, uint8_t *group, size_t g)
{
    for (size_t row = 0; row < PANEL_ROWS; row++) {
        memcpy(group + 2 * row, &m->scale[row][g], sizeof(uint16_t));
    }
}

static int binary(void)
{
    return random_u32() % 2 ? 1 : -1;
}

static void b1_multiplies_by_the_signs_its_layout_names(void **state)
{
    static uint8_t panel[N_COLS / B1_GROUP][B1_GROUP_BYTES];
    static struct dense m;

    dense_fill(&m, ACT_BLOCK, binary);
    memset(panel, 0, sizeof(panel));
    for (size_t col = 0; col < N_COLS; col++) {
        uint8_t *tile = panel[col / B1_GROUP] + 32 + col % B1_GROUP / 4 * 8;
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            const size_t bit = 4 * row + col % 4;
            tile[bit / 8] |= (uint8_t)((m.w[row][col] > 0 ? 1u : 0u) << bit % 8);
        }
        put_scales(&m, panel[col / B1_GROUP], col / B1_GROUP);
    }
    compare(&m, panel[0], k.panel[PANEL_B1], B1_GROUP, ACT_BLOCK);
}

static int byte(void)
{
    return (int8_t)random_u32();
}

static void i8_multiplies_by_the_bytes_its_layout_names(void **state)
{
    static uint8_t panel[N_COLS / I8_GROUP][I8_GROUP_BYTES];
    static struct dense m;

    dense_fill(&m, ACT_BLOCK, byte);
    for (size_t col = 0; col < N_COLS; col++) {
        uint8_t *tile = panel[col / I8_GROUP] + 32 + col % I8_GROUP / 4 * 64;
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            tile[row * 4 + col % 4] = (uint8_t)m.w[row][col];
        }
        put_scales(&m, panel[col / I8_GROUP], col / I8_GROUP);
    }
    compare(&m, panel[0], k.panel[PANEL_I8], I8_GROUP, ACT_BLOCK);
}

static int ternary(void)
{
    return (int)(random_u32() % 4) - 1; /* the code 3 means 2 */
}

static void t256_multiplies_by_the_codes_its_layout_names(void **state)
{
    static uint8_t panel[N_COLS / T256_GROUP][T256_GROUP_BYTES];
    static struct dense m;

    dense_fill(&m, ACT_BLOCK_T256, ternary);
    memset(panel, 0, sizeof(panel));
    for (size_t col = 0; col < N_COLS; col++) {
        uint8_t *line = panel[col / T256_GROUP] + 32 + col % T256_GROUP / 16 * 64;
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            const unsigned code = (unsigned)(m.w[row][col] + 1);
            line[4 * row + col % 4] |= (uint8_t)(code << col % 16 / 4 * 2);
        }
        put_scales(&m, panel[col / T256_GROUP], col / T256_GROUP);
    }
    compare(&m, panel[0], k.panel[PANEL_T256], T256_GROUP, ACT_BLOCK_T256);
}

/* Goal: rounding is to nearest even. Method: the largest is 127, so that q is x, rounded. */
static void quant_rounds_ties_to_even_and_sums_what_it_wrote(void **state)
{
    static const float in[] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, 0.49f, 127.0f};
    static const int8_t want[] = {0, 2, 2, 0, -2, -2, 126, 0, 127};
    float x[ACT_BLOCK] = {0}, d = 0;
    int8_t q[ACT_BLOCK];
    int32_t s = 0;

    memcpy(x, in, sizeof(in));
    k.quant(x, ACT_BLOCK, ACT_BLOCK, q, &d, &s);
    assert_memory_equal(q, want, sizeof(want));
    assert_true(d == 1.0f);
    assert_int_equal(s, 253);
}

static void quant_gives_nan_for_a_block_that_is_not_finite_and_only_for_that(void **state)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        float x[3 * ACT_BLOCK], d[3];
        int8_t q[3 * ACT_BLOCK];
        int32_t s[3];
        for (size_t j = 0; j < ARRAY_SIZE(x); j++) {
            x[j] = 2.0f;
        }
        x[ACT_BLOCK + 5] = bad[i];
        k.quant(x, ARRAY_SIZE(x), ACT_BLOCK, q, d, s);
        assert_true(d[0] == 2.0f / 127 && d[2] == d[0]);
        assert_true(isnan(d[1]));
        assert_int_equal(s[1], 0);
        assert_int_equal(q[ACT_BLOCK + 5], 0);
        assert_int_equal(q[2 * ACT_BLOCK], 127);
    }
}

static void quant_takes_a_block_below_2_to_the_minus_100_for_zero(void **state)
{
    float x[ACT_BLOCK_T256] = {0x1.fffffep-101f}, d = 1;
    int8_t q[ACT_BLOCK_T256];
    int32_t s = 1;

    k.quant(x, ACT_BLOCK_T256, ACT_BLOCK_T256, q, &d, &s);
    assert_true(d == 0);
    assert_int_equal(s, 0);
    assert_int_equal(q[0], 0);
    x[0] = 0x1p-100f;
    k.quant(x, ACT_BLOCK_T256, ACT_BLOCK_T256, q, &d, &s);
    assert_true(d == 0x1p-100f / 127);
    assert_int_equal(q[0], 127);
}

/* Goal: the order of a float dot product. Method: values whose sum depends on it, summed by hand. */
static void dot_adds_sixteen_chains_by_the_tree(void **state)
{
    float w[37], x[37], p[16] = {0};

    for (size_t i = 0; i < 37; i++) {
        w[i] = ldexpf((float)(int)(random_u32() % 2001) - 1000, (int)(random_u32() % 40) - 20);
        x[i] = ldexpf((float)(int)(random_u32() % 2001) - 1000, (int)(random_u32() % 40) - 20);
    }
    for (size_t i = 0; i < 37; i++) {
        p[i % 16] = fmaf(w[i], x[i], p[i % 16]);
    }
    const float a = (p[0] + p[8]) + (p[4] + p[12]), b = (p[1] + p[9]) + (p[5] + p[13]);
    const float c = (p[2] + p[10]) + (p[6] + p[14]), d = (p[3] + p[11]) + (p[7] + p[15]);
    const float want = (a + c) + (b + d);
    const float got = k.dot_f32(w, x, 37);
    assert_memory_equal(&got, &want, sizeof(want));
    assert_true(k.dot_f32(w, x, 0) == 0);
}

static int setup(void **state)
{
    kernels_init(&k, CPU_SCALAR);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b1_multiplies_by_the_signs_its_layout_names),
        cmocka_unit_test(i8_multiplies_by_the_bytes_its_layout_names),
        cmocka_unit_test(t256_multiplies_by_the_codes_its_layout_names),
        cmocka_unit_test(quant_rounds_ties_to_even_and_sums_what_it_wrote),
        cmocka_unit_test(quant_gives_nan_for_a_block_that_is_not_finite_and_only_for_that),
        cmocka_unit_test(quant_takes_a_block_below_2_to_the_minus_100_for_zero),
        cmocka_unit_test(dot_adds_sixteen_chains_by_the_tree),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
