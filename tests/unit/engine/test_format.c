#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format.h"
#include "engine/kernels/kernels.h"
#include "tests/unit/engine/tiny.h"

/* Random bytes as a row, with its scales made usual numbers: f16 at the places that the layouts
 * name, an f32 before the row of IQ2_BN. */
static void random_row(enum format f, uint64_t seed, size_t n_cols, uint8_t *ret)
{
    const struct format_info *info = format_info(f);
    const size_t at = f == FORMAT_TQ2_0 ? 64 : f == FORMAT_TQ1_0 ? 52 : f == FORMAT_Q6_K ? 208 : 0;
    const bool two = f == FORMAT_Q4_1 || f == FORMAT_Q4_K || f == FORMAT_Q5_K;

    for (size_t i = 0; i < format_row_bytes(f, n_cols); i++) {
        ret[i] = (uint8_t)(int)(tiny_random(seed * 100003 + i) * 127.0f);
    }
    if (f == FORMAT_I2_S) {
        return;
    }
    for (size_t b = 0; b < n_cols / info->block; b++) {
        uint8_t *block = ret + info->head_bytes + b * info->block_bytes;
        for (size_t i = 0; i < (two ? 2 : 1) && f != FORMAT_IQ2_BN; i++) {
            const uint16_t d = f16_from_f32(tiny_random(seed + 7 * b + i) * 0.01f);
            memcpy(block + at + 2 * i, &d, sizeof(d));
        }
    }
    if (f == FORMAT_IQ2_BN) {
        const float d = tiny_random(seed);
        memcpy(ret, &d, sizeof(d));
    }
}

/* Goal: block layouts are the published ones. Method: blocks written by hand from their
 * description, with weights at places that a wrong order of bits, halves or bytes would move. */
static void blocks_decode_as_their_layout_says(void **state)
{
    uint8_t q8[34] = {0x00, 0x38, 127, 0x80, [33] = 0xff};                /* d = 0.5 */
    uint8_t q1[18] = {0x00, 0x3c, 0x01, [17] = 0x80};                     /* d = 1 */
    uint8_t t2[66] = {[0] = 0x02, [33] = 0xc0, [64] = 0x00, [65] = 0x40}; /* d = 2 */
    uint8_t q4[18] = {0x00, 0x3c, 0x2f, [17] = 0x90};
    float x[256];
    (void)state;

    format_decode_row(FORMAT_Q8_0, q8, 1, 32, x);
    assert_true(x[0] == 63.5f && x[1] == -64.0f && x[2] == 0.0f && x[31] == -0.5f);
    format_decode_row(FORMAT_Q1_0, q1, 1, 128, x);
    assert_true(x[0] == 1.0f && x[1] == -1.0f && x[126] == -1.0f && x[127] == 1.0f);
    format_decode_row(FORMAT_TQ2_0, t2, 1, 256, x);
    assert_true(x[0] == 2.0f && x[1] == -2.0f);
    assert_true(x[128 + 1] == -2.0f && x[128 + 96 + 1] == 4.0f); /* code 3, three quarters on */
    format_decode_row(FORMAT_Q4_0, q4, 1, 32, x);
    assert_true(x[0] == 7.0f && x[16] == -6.0f && x[15] == -8.0f && x[31] == 1.0f);
}

/* Goal: encoders put on paper what decoders read. Method: decoded values are exactly representable,
 * so encoding them again must give the same bytes. */
static void encoding_decoded_rows_gives_the_same_bytes(void **state)
{
    float x[512], y[512];
    uint8_t a[2048], b[2048];
    (void)state;

    for (unsigned i = 0; i < FORMATS; i++) {
        const enum format f = (enum format)i;
        if (!format_can_encode(f)) {
            continue;
        }
        for (size_t c = 0; c < 512; c++) {
            x[c] = tiny_random(1000 * i + c);
        }
        format_encode_row(f, x, 1, 512, a);
        format_decode_row(f, a, 1, 512, y);
        format_encode_row(f, y, 1, 512, b);
        assert_memory_equal(a, b, format_row_bytes(f, 512));
        for (size_t c = 0; c < 512; c++) { /* all but the ternary formats keep the sign */
            assert_true(format_info(f)->two_bit || x[c] * y[c] > 0 || fabsf(x[c]) < 0.1f);
            assert_true(fabsf(x[c] - y[c]) <= 1.0f);
        }
    }
}

static void encoders_take_zeros_and_nan(void **state)
{
    float zeros[256] = {0}, x[256], y[256];
    uint8_t row[1024];
    (void)state;

    for (size_t i = 0; i < 256; i++) {
        x[i] = i == 3 ? NAN : (float)i;
    }
    for (unsigned f = 0; f < FORMATS; f++) {
        if (!format_can_encode((enum format)f)) {
            continue;
        }
        format_encode_row((enum format)f, zeros, 0, 256, row);
        format_decode_row((enum format)f, row, 0, 256, y);
        assert_true(fabsf(y[0]) == 0.0f && fabsf(y[255]) == 0.0f);
        format_encode_row((enum format)f, x, NAN, 256, row);
        format_decode_row((enum format)f, row, NAN, 256, y); /* any; a sanitizer sees bad casts */
    }
}

/* Goal: scales and codes are those of the usual encoders, ties included. Method: blocks whose bytes
 * were computed by hand from engine/NUMERICS.md. d = 2 in all but Q1_0; a half of d rounds away
 * from zero. */
static void blocks_encode_as_the_formulas_say(void **state)
{
    float x[256] = {2, 1, -1, -2, 0.99f, -0.99f, 0};
    uint8_t row[128];
    (void)state;

    format_encode_row(FORMAT_Q2_0, x, 0, 64, row);
    assert_memory_equal(row, "\x00\x40\x0a\x55", 4); /* codes 2 2 0 0, 1 1 1 1: low bits first */
    format_encode_row(FORMAT_PQ2_0, x, 0, 128, row);
    assert_memory_equal(row, "\x00\x40\x0a\x55", 4);
    assert_int_equal(row[33], 0x55);
    format_encode_row(FORMAT_IQ2_BN, x, 0, 64, row);
    assert_memory_equal(row, "\x00\x00\x00\x40\x56\x56\x54\x54\x55", 9); /* f32; 16 apart */
    format_encode_row(FORMAT_TQ1_0, x, 0, 256, row);
    /* Digits 2 1 1 1 1 are 202, 0 1 1 1 1 are 40, all ones 121 and, of four, 120: times 256 / 243,
     * up. */
    assert_memory_equal(row, "\xd5\xd5\x2b\x2b\x80", 5);
    assert_memory_equal(row + 48, "\x7f\x7f\x7f\x7f\x00\x40", 6);
    /* The first of largest magnitude takes code 0, so d = -0.25: 1 is code 4, -2 would be 16, thus
     * 15. */
    format_encode_row(FORMAT_Q4_0, x, 0, 32, row);
    assert_memory_equal(row, "\x00\xb4\x80\x84\x8c\x8f\x84\x8c\x88", 9);
    x[0] = -2; /* d = 0.25: 0.125 is half a step, and goes up, as -0.125 does */
    x[1] = 0.125f;
    x[2] = -0.125f;
    format_encode_row(FORMAT_Q4_0, x, 0, 32, row);
    assert_memory_equal(row, "\x00\x34\x80\x89\x88\x80", 6);
}

static void bf16_rounds_to_nearest_even(void **state)
{
    static const uint32_t in[] = {0x3f808000, 0x3f818000, 0x3f808001, 0x7f800000};
    static const uint16_t want[] = {0x3f80, 0x3f82, 0x3f81, 0x7f80};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(in); i++) {
        float x;
        uint16_t got;
        memcpy(&x, &in[i], sizeof(x));
        format_encode_row(FORMAT_BF16, &x, 1, 1, (uint8_t *)&got);
        assert_int_equal(got, want[i]);
    }
}

/* Goal: packing loses nothing and mixes nothing. Method: random bytes as rows (every code occurs),
 * packed with 1..40 rows, each unpacked and compared bit for bit with the row's own decoding. */
static void packed_rows_decode_to_what_the_file_says(void **state)
{
    enum { COLS = 512, ROWS = 40 };
    static uint8_t rows[ROWS * 1024], panels[3 * 20000];
    float want[COLS], got[COLS];
    (void)state;

    for (unsigned i = 0; i < FORMATS; i++) {
        const enum format f = (enum format)i;
        if (format_info(f)->panel == PANEL_NONE) {
            continue;
        }
        const size_t row_bytes = format_row_bytes(f, COLS), bytes = format_panel_bytes(f, COLS);
        uint64_t all = 0;
        assert_true(format_packed_bytes(f, COLS, ROWS, &all));
        assert_int_equal(all, 3 * bytes);
        for (size_t r = 0; r < ROWS; r++) {
            random_row(f, r, COLS, rows + r * row_bytes);
        }
        for (size_t r = 0; r < ROWS; r += PANEL_ROWS) {
            format_pack_panel(f, rows + r * row_bytes, 0.3f,
                              ROWS - r < PANEL_ROWS ? ROWS - r : PANEL_ROWS, COLS,
                              panels + r / PANEL_ROWS * bytes);
        }
        for (size_t r = 0; r < ROWS; r++) {
            format_decode_row(f, rows + r * row_bytes, 0.3f, COLS, want);
            format_unpack_row(f, panels, r, COLS, got);
            assert_memory_equal(want, got, sizeof(want));
        }
        for (size_t r = ROWS; r < 3 * PANEL_ROWS; r++) { /* the filler rows weigh nothing */
            format_unpack_row(f, panels, r, COLS, got);
            for (size_t c = 0; c < COLS; c++) {
                assert_true(got[c] == 0.0f);
            }
        }
    }
}

/* Goal: the panels mean to the kernels what the rows mean. Method: the scalar product of one panel
 * with quantized activations against a product of the decoded floats, for each format. */
static void panels_multiply_as_their_rows_do(void **state)
{
    enum { COLS = 512 };
    static uint8_t rows[PANEL_ROWS * 1024];
    static _Alignas(64) uint8_t panel[20000];
    static _Alignas(64) int8_t q[COLS];
    static _Alignas(64) float d[16], x[COLS], w[COLS];
    static _Alignas(64) int32_t s[16];
    struct kernels k;
    float out[PANEL_ROWS];
    (void)state;

    kernels_init(&k, CPU_SCALAR);
    for (size_t c = 0; c < COLS; c++) {
        x[c] = tiny_random(77777 + c);
    }
    for (unsigned i = 0; i < FORMATS; i++) {
        const enum format f = (enum format)i;
        const enum panel_kind kind = format_info(f)->panel;
        if (kind == PANEL_NONE) {
            continue;
        }
        const size_t row_bytes = format_row_bytes(f, COLS);
        const size_t block = panel_info(kind)->act_block ? panel_info(kind)->act_block : COLS;
        for (size_t r = 0; r < PANEL_ROWS; r++) {
            random_row(f, r, COLS, rows + r * row_bytes);
        }
        format_pack_panel(f, rows, 0.3f, PANEL_ROWS, COLS, panel);
        (kind == PANEL_TROW ? k.quant_token : k.quant)(x, COLS, block, q, d, s);
        const struct act_q8 act = {
            .q = q, .d = d, .s = s, .q_stride = COLS, .d_stride = 16, .n_tokens = 1};
        k.panel[kind](panel, COLS, &act, out, PANEL_ROWS);
        for (size_t r = 0; r < PANEL_ROWS; r++) {
            double want = 0, size = 0;
            format_decode_row(f, rows + r * row_bytes, 0.3f, COLS, w);
            for (size_t c = 0; c < COLS; c++) {
                const double each = d[c / block];
                const double value = kind == PANEL_TROW ? q[c] / each : q[c] * each;
                const double term = (double)w[c] * value;
                want += term;
                size += fabs(term);
            }
            assert_true(fabs(want - (double)out[r]) <= 1e-6 * size);
        }
    }
}

static void numbers_of_other_engines_have_names(void **state)
{
    enum format f;
    (void)state;

    assert_true(format_of_id(41, &f) && f == FORMAT_Q1_0);
    assert_true(format_of_name("BF16", &f) && f == FORMAT_BF16);
    assert_false(format_of_name("bf16", &f));
    assert_true(format_of_id(42, &f) && f == FORMAT_Q2_0);
    assert_false(format_of_id(10, &f));
    assert_string_equal(format_foreign_name(10), "Q2_K");
    assert_string_equal(format_foreign_name(134), "IQ1_BN");
    assert_null(format_foreign_name(4)); /* withdrawn */
    assert_null(format_foreign_name(250));
    assert_null(format_foreign_name(UINT32_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_decode_as_their_layout_says),
        cmocka_unit_test(encoding_decoded_rows_gives_the_same_bytes),
        cmocka_unit_test(blocks_encode_as_the_formulas_say),
        cmocka_unit_test(encoders_take_zeros_and_nan),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(packed_rows_decode_to_what_the_file_says),
        cmocka_unit_test(panels_multiply_as_their_rows_do),
        cmocka_unit_test(numbers_of_other_engines_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
