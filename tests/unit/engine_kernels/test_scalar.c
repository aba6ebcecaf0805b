/* The scalar functions against kernels.h and NUMERICS.md, written out a second time: dense
 * matrices, packed here by the header's words, and sums in plain loops. */
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

/* The panel's product against want, by token and row. */
static void compare_with(const struct dense *m, const uint8_t *panel, panel_fn *fn,
                         float want[N_TOKENS][PANEL_ROWS])
{
    const struct act_q8 act = {.q = m->q[0],
                               .d = m->d[0],
                               .s = m->s[0],
                               .q_stride = N_COLS,
                               .d_stride = N_COLS / ACT_BLOCK,
                               .n_tokens = N_TOKENS};
    float out[N_TOKENS][PANEL_ROWS];

    fn(panel, N_COLS, &act, out[0], PANEL_ROWS);
    assert_memory_equal(out, want, sizeof(out));
}

static void compare(const struct dense *m, const uint8_t *panel, panel_fn *fn, size_t group,
                    size_t block)
{
    float want[N_TOKENS][PANEL_ROWS];

    for (size_t t = 0; t < N_TOKENS; t++) {
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            want[t][row] = expected(m, row, t, group, block);
        }
    }
    compare_with(m, panel, fn, want);
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
        uint8_t *line = panel[col / B1_GROUP] + 32 + col % B1_GROUP / 32 * B1_LINE_BYTES;
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            const unsigned plus = m.w[row][col] > 0;
            line[col % 32 / 8 * PANEL_ROWS + row] |= (uint8_t)(plus << col % 8);
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

/* The code of one column in its line, by the header's words on T64. */
static void put_two_bits(uint8_t *lines, size_t row, size_t col, int code)
{
    lines[col / T_LINE * T_LINE_BYTES + 4 * row + col % 4] |=
        (uint8_t)((unsigned)code << col % T_LINE / 4 * 2);
}

static void lines_multiply(enum panel_kind kind, size_t group_cols, size_t block)
{
    static uint8_t panel[N_COLS / 64 * 288]; /* the largest, T64's */
    static struct dense m;
    const size_t group_bytes = 32 + group_cols / T_LINE * T_LINE_BYTES;

    dense_fill(&m, block, ternary);
    memset(panel, 0, sizeof(panel));
    for (size_t col = 0; col < N_COLS; col++) {
        uint8_t *group = panel + col / group_cols * group_bytes;
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            put_two_bits(group + 32, row, col % group_cols, m.w[row][col] + 1);
        }
        put_scales(&m, group, col / group_cols);
    }
    compare(&m, panel, k.panel[kind], group_cols, block);
}

static void t64_multiplies_by_the_codes_its_layout_names(void **state)
{
    lines_multiply(PANEL_T64, 64, ACT_BLOCK);
}

static void t128_multiplies_by_the_codes_its_layout_names(void **state)
{
    lines_multiply(PANEL_T128, 128, ACT_BLOCK);
}

static void t256_multiplies_by_the_codes_its_layout_names(void **state)
{
    lines_multiply(PANEL_T256, T256_GROUP, ACT_BLOCK_T256);
}

static int sum_of(const struct dense *m, size_t row, size_t t, size_t first, size_t n)
{
    int sum = 0;

    for (size_t col = first; col < first + n; col++) {
        sum += m->w[row][col] * m->q[t][col];
    }
    return sum;
}

static void trow_multiplies_a_whole_row_by_one_scale(void **state)
{
    static uint8_t panel[TROW_HEAD_BYTES + N_COLS / T_LINE * T_LINE_BYTES];
    static struct dense m;
    float scale[PANEL_ROWS], want[N_TOKENS][PANEL_ROWS];

    dense_fill(&m, N_COLS, ternary);
    memset(panel, 0, sizeof(panel));
    for (size_t row = 0; row < PANEL_ROWS; row++) {
        scale[row] = 0.37f * (float)row - 2.0f;
        for (size_t col = 0; col < N_COLS; col++) {
            put_two_bits(panel + TROW_HEAD_BYTES, row, col, m.w[row][col] + 1);
        }
        for (size_t t = 0; t < N_TOKENS; t++) {
            want[t][row] = (float)sum_of(&m, row, t, 0, N_COLS) * scale[row] / m.d[t][0];
        }
    }
    memcpy(panel, scale, sizeof(scale));
    compare_with(&m, panel, k.panel[PANEL_TROW], want);
}

/* The low four bits of one column's code in its tile, by the header's words on N4. */
static void put_four_bits(uint8_t *tiles, size_t row, size_t col, int code)
{
    tiles[col / 8 * 64 + 4 * row + col % 4] |= (uint8_t)((unsigned)(code & 15) << col % 8 / 4 * 4);
}

static int nibble(void)
{
    return (int)(random_u32() % 16);
}

static int offset_nibble(void)
{
    return nibble() - 8;
}

static void n4_multiplies_by_the_codes_less_eight(void **state)
{
    static uint8_t panel[N_COLS / N4_GROUP][N4_GROUP_BYTES];
    static struct dense m;

    dense_fill(&m, ACT_BLOCK, offset_nibble);
    memset(panel, 0, sizeof(panel));
    for (size_t col = 0; col < N_COLS; col++) {
        uint8_t *group = panel[col / N4_GROUP];
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            put_four_bits(group + 32, row, col % N4_GROUP, m.w[row][col] + 8);
        }
        put_scales(&m, group, col / N4_GROUP);
    }
    compare(&m, panel[0], k.panel[PANEL_N4], N4_GROUP, ACT_BLOCK);
}

static void n4m_adds_the_minimum_after_each_group(void **state)
{
    static uint8_t panel[N_COLS / N4_GROUP][N4M_GROUP_BYTES];
    static struct dense m;
    float want[N_TOKENS][PANEL_ROWS] = {{0}};

    dense_fill(&m, ACT_BLOCK, nibble);
    memset(panel, 0, sizeof(panel));
    for (size_t g = 0; g < N_COLS / N4_GROUP; g++) {
        put_scales(&m, panel[g], g);
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            const uint16_t min = f16_from_f32((float)g - 0.3f * (float)row);
            memcpy(panel[g] + 32 + 2 * row, &min, sizeof(min));
            for (size_t c = 0; c < N4_GROUP; c++) {
                put_four_bits(panel[g] + 64, row, c, m.w[row][g * N4_GROUP + c]);
            }
            for (size_t t = 0; t < N_TOKENS; t++) {
                const float d = m.d[t][g], sum = (float)sum_of(&m, row, t, g * N4_GROUP, N4_GROUP);
                want[t][row] = fmaf(f16_to_f32(m.scale[row][g]), d * sum, want[t][row]);
                want[t][row] = fmaf(f16_to_f32(min), d * (float)m.s[t][g], want[t][row]);
            }
        }
    }
    compare_with(&m, panel[0], k.panel[PANEL_N4M], want);
}

static int five_bits(void)
{
    return (int)(random_u32() % 32);
}

/* One group and row of K4 or K5: the panel's bytes, and the results by the page's formula. */
static void k45_row(const struct dense *m, uint8_t *group, size_t g, size_t row, bool five,
                    float want[N_TOKENS][PANEL_ROWS])
{
    const uint16_t dmin = f16_from_f32(0.25f + 0.1f * (float)row);
    uint8_t *sc = group + 64, *mn = group + 192, *tiles = group + 320, *fifth = group + 2368;

    memcpy(group + 32 + 2 * row, &dmin, sizeof(dmin));
    for (size_t j = 0; j < 8; j++) {
        sc[j * 16 + row] = (uint8_t)random_u32(); /* 255 too */
        mn[j * 16 + row] = (uint8_t)random_u32();
    }
    for (size_t c = 0; c < K_GROUP; c++) {
        const int code = m->w[row][g * K_GROUP + c];
        put_four_bits(tiles, row, c, code);
        if (five) {
            fifth[c / 32 * 64 + 4 * row + c % 4] |= (uint8_t)(code >> 4 << c % 32 / 4);
        }
    }
    for (size_t t = 0; t < N_TOKENS; t++) {
        float part = 0, less = 0;
        for (size_t j = 0; j < 8; j++) {
            const size_t b = g * 8 + j;
            const int sum = sum_of(m, row, t, b * ACT_BLOCK, ACT_BLOCK);
            part = fmaf(m->d[t][b], (float)(sc[j * 16 + row] * sum), part);
            less = fmaf(m->d[t][b], (float)(mn[j * 16 + row] * m->s[t][b]), less);
        }
        want[t][row] = fmaf(f16_to_f32(m->scale[row][g]), part, want[t][row]);
        want[t][row] = fmaf(-f16_to_f32(dmin), less, want[t][row]);
    }
}

static void k45_multiply(enum panel_kind kind, size_t group_bytes, int (*code)(void))
{
    static uint8_t panel[N_COLS / K_GROUP * K5_GROUP_BYTES]; /* the larger one */
    static struct dense m;
    float want[N_TOKENS][PANEL_ROWS] = {{0}};

    dense_fill(&m, ACT_BLOCK, code);
    memset(panel, 0, sizeof(panel));
    for (size_t g = 0; g < N_COLS / K_GROUP; g++) {
        put_scales(&m, panel + g * group_bytes, g);
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            k45_row(&m, panel + g * group_bytes, g, row, kind == PANEL_K5, want);
        }
    }
    compare_with(&m, panel, k.panel[kind], want);
}

static void k4_scales_each_block_and_takes_its_minimum_off(void **state)
{
    k45_multiply(PANEL_K4, K4_GROUP_BYTES, nibble);
}

static void k5_puts_the_fifth_bit_on_top(void **state)
{
    k45_multiply(PANEL_K5, K5_GROUP_BYTES, five_bits);
}

static int offset_six_bits(void)
{
    return (int)(random_u32() % 64) - 32;
}

static void k6_scales_sixteen_columns_at_a_time(void **state)
{
    static uint8_t panel[N_COLS / K_GROUP][K6_GROUP_BYTES];
    static struct dense m;
    float want[N_TOKENS][PANEL_ROWS] = {{0}};

    dense_fill(&m, ACT_BLOCK, offset_six_bits);
    memset(panel, 0, sizeof(panel));
    for (size_t g = 0; g < N_COLS / K_GROUP; g++) {
        int8_t *sc = (int8_t *)panel[g] + 32;
        put_scales(&m, panel[g], g);
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            for (size_t c = 0; c < K_GROUP; c++) {
                const int code = m.w[row][g * K_GROUP + c] + 32;
                put_four_bits(panel[g] + 288, row, c, code);
                put_two_bits(panel[g] + 2336, row, c, code >> 4);
            }
            for (size_t j = 0; j < 16; j++) {
                sc[j * 16 + row] = (int8_t)random_u32(); /* -128 too */
            }
            for (size_t t = 0; t < N_TOKENS; t++) {
                float part = 0;
                for (size_t j = 0; j < 8; j++) {
                    const size_t col = g * K_GROUP + j * 32;
                    const int first = sc[j * 32 + row] * sum_of(&m, row, t, col, 16);
                    const int second = sc[j * 32 + 16 + row] * sum_of(&m, row, t, col + 16, 16);
                    part = fmaf(m.d[t][g * 8 + j], (float)(first + second), part);
                }
                want[t][row] = fmaf(f16_to_f32(m.scale[row][g]), part, want[t][row]);
            }
        }
    }
    compare_with(&m, panel[0], k.panel[PANEL_K6], want);
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

static void quant_takes_a_whole_row_as_one_block(void **state)
{
    float x[77] = {[3] = -254.0f, [76] = 3.0f}, d[1];
    int8_t q[77];
    int32_t s[1];

    k.quant(x, 77, 77, q, d, s);
    assert_true(d[0] == 2.0f);
    assert_int_equal(q[3], -127);
    assert_int_equal(q[76], 2); /* 1.5, to even */
    assert_int_equal(s[0], -125);
}

/* Goal: one scale for every block of a token. Method: the largest value stands in the last
 * block. */
static void quant_token_takes_one_scale_for_all_blocks(void **state)
{
    float x[2 * ACT_BLOCK] = {[0] = 1.0f, [ACT_BLOCK] = -127.0f}, d[2];
    int8_t q[2 * ACT_BLOCK];
    int32_t s[2];

    k.quant_token(x, ARRAY_SIZE(x), ACT_BLOCK, q, d, s);
    assert_true(d[0] == 1.0f && d[1] == 1.0f);
    assert_int_equal(q[0], 1);
    assert_int_equal(q[ACT_BLOCK], -127);
    assert_true(s[0] == 1 && s[1] == -127);
    x[1] = NAN;
    k.quant_token(x, ARRAY_SIZE(x), ACT_BLOCK, q, d, s);
    assert_true(isnan(d[0]) && isnan(d[1]));
    assert_true(q[ACT_BLOCK] == 0 && s[1] == 0);
}

static void quant_token_knows_no_scale_below_a_hundred_thousandth(void **state)
{
    float x[ACT_BLOCK] = {0.5e-5f}, d[1];
    int8_t q[ACT_BLOCK];
    int32_t s[1];

    k.quant_token(x, ACT_BLOCK, ACT_BLOCK, q, d, s);
    assert_true(d[0] == 127.0f / 1e-5f);
    assert_int_equal(q[0], 64); /* 63.5, to even */
    x[0] = 0;
    k.quant_token(x, ACT_BLOCK, ACT_BLOCK, q, d, s);
    assert_true(d[0] == 127.0f / 1e-5f && s[0] == 0);
}

/* Goal: the order of a float dot product. Method: values whose sum depends on it, summed by
 * hand. */
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
        cmocka_unit_test(t64_multiplies_by_the_codes_its_layout_names),
        cmocka_unit_test(t128_multiplies_by_the_codes_its_layout_names),
        cmocka_unit_test(t256_multiplies_by_the_codes_its_layout_names),
        cmocka_unit_test(trow_multiplies_a_whole_row_by_one_scale),
        cmocka_unit_test(n4_multiplies_by_the_codes_less_eight),
        cmocka_unit_test(n4m_adds_the_minimum_after_each_group),
        cmocka_unit_test(k4_scales_each_block_and_takes_its_minimum_off),
        cmocka_unit_test(k5_puts_the_fifth_bit_on_top),
        cmocka_unit_test(k6_scales_sixteen_columns_at_a_time),
        cmocka_unit_test(quant_rounds_ties_to_even_and_sums_what_it_wrote),
        cmocka_unit_test(quant_gives_nan_for_a_block_that_is_not_finite_and_only_for_that),
        cmocka_unit_test(quant_takes_a_block_below_2_to_the_minus_100_for_zero),
        cmocka_unit_test(quant_takes_a_whole_row_as_one_block),
        cmocka_unit_test(quant_token_takes_one_scale_for_all_blocks),
        cmocka_unit_test(quant_token_knows_no_scale_below_a_hundred_thousandth),
        cmocka_unit_test(dot_adds_sixteen_chains_by_the_tree),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
