#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format.h"
#include "engine/kernels/kernels.h"
#include "tests/unit/engine/tiny.h"

static const enum format blocks[] = {FORMAT_Q8_0, FORMAT_Q1_0, FORMAT_TQ2_0, FORMAT_Q4_0};

/* Goal: block layouts are the published ones. Method: blocks written by hand from their description,
 * with weights at places that a wrong order of bits, halves or bytes would move. */
static void blocks_decode_as_their_layout_says(void **state)
{
    uint8_t q8[34] = {0x00, 0x38, 127, 0x80, [33] = 0xff};                /* d = 0.5 */
    uint8_t q1[18] = {0x00, 0x3c, 0x01, [17] = 0x80};                     /* d = 1 */
    uint8_t t2[66] = {[0] = 0x02, [33] = 0xc0, [64] = 0x00, [65] = 0x40}; /* d = 2 */
    uint8_t q4[18] = {0x00, 0x3c, 0x2f, [17] = 0x90};
    float x[256];
    (void)state;

    format_info(FORMAT_Q8_0)->decode(q8, 32, x);
    assert_true(x[0] == 63.5f && x[1] == -64.0f && x[2] == 0.0f && x[31] == -0.5f);
    format_info(FORMAT_Q1_0)->decode(q1, 128, x);
    assert_true(x[0] == 1.0f && x[1] == -1.0f && x[126] == -1.0f && x[127] == 1.0f);
    format_info(FORMAT_TQ2_0)->decode(t2, 256, x);
    assert_true(x[0] == 2.0f && x[1] == -2.0f);
    assert_true(x[128 + 1] == -2.0f && x[128 + 96 + 1] == 4.0f); /* code 3, three quarters on */
    format_info(FORMAT_Q4_0)->decode(q4, 32, x);
    assert_true(x[0] == 7.0f && x[16] == -6.0f && x[15] == -8.0f && x[31] == 1.0f);
}

/* Goal: encoders put on paper what decoders read. Method: decoded values are exactly representable,
 * so encoding them again must give the same bytes. */
static void encoding_decoded_rows_gives_the_same_bytes(void **state)
{
    static const enum format all[] = {FORMAT_F32,  FORMAT_F16,  FORMAT_BF16,
                                      FORMAT_Q8_0, FORMAT_Q1_0, FORMAT_TQ2_0};
    float x[512], y[512];
    uint8_t a[2048], b[2048];
    (void)state;

    for (size_t f = 0; f < ARRAY_SIZE(all); f++) {
        const struct format_info *info = format_info(all[f]);
        const size_t bytes = format_row_bytes(all[f], 512);
        for (size_t i = 0; i < 512; i++) {
            x[i] = tiny_random(1000 * f + i);
        }
        info->encode(x, 512, a);
        info->decode(a, 512, y);
        info->encode(y, 512, b);
        assert_memory_equal(a, b, bytes);
        for (size_t i = 0; i < 512; i++) { /* the weakest format still keeps the sign */
            assert_true(all[f] == FORMAT_TQ2_0 || x[i] * y[i] > 0 || fabsf(x[i]) < 0.01f);
            assert_true(fabsf(x[i] - y[i]) <= 1.0f);
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
    for (size_t f = 0; f < FORMATS; f++) {
        const struct format_info *info = format_info((enum format)f);
        if (!info->encode) {
            continue;
        }
        info->encode(zeros, 256, row);
        info->decode(row, 256, y);
        assert_true(fabsf(y[0]) == 0.0f && fabsf(y[255]) == 0.0f);
        info->encode(x, 256, row);
        info->decode(row, 256, y); /* any numbers; a sanitizer sees a bad conversion */
    }
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
        format_info(FORMAT_BF16)->encode(&x, 1, (uint8_t *)&got);
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

    for (size_t f = 0; f < ARRAY_SIZE(blocks); f++) {
        const size_t row_bytes = format_row_bytes(blocks[f], COLS);
        const size_t panel_bytes = format_panel_bytes(blocks[f], COLS);
        uint64_t all = 0;
        assert_true(format_packed_bytes(blocks[f], COLS, ROWS, &all));
        assert_int_equal(all, 3 * panel_bytes);
        for (size_t i = 0; i < ROWS * row_bytes; i++) {
            rows[i] = (uint8_t)(int)(tiny_random(i) * 127.0f);
        }
        for (size_t r = 0; r < ROWS; r += PANEL_ROWS) {
            format_pack_panel(blocks[f], rows + r * row_bytes,
                              ROWS - r < PANEL_ROWS ? ROWS - r : PANEL_ROWS, COLS,
                              panels + r / PANEL_ROWS * panel_bytes);
        }
        for (size_t r = 0; r < ROWS; r++) {
            format_info(blocks[f])->decode(rows + r * row_bytes, COLS, want);
            format_unpack_row(blocks[f], panels, r, COLS, got);
            assert_memory_equal(want, got, sizeof(want));
        }
        for (size_t r = ROWS; r < 3 * PANEL_ROWS; r++) { /* the filler rows weigh nothing */
            format_unpack_row(blocks[f], panels, r, COLS, got);
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
    static uint8_t row[1024], rows[PANEL_ROWS * 1024];
    static _Alignas(64) uint8_t panel[20000];
    static _Alignas(64) int8_t q[COLS];
    static _Alignas(64) float d[16], x[COLS], w[COLS];
    static _Alignas(64) int32_t s[16];
    struct kernels k;
    float out[PANEL_ROWS];
    (void)state;

    kernels_init(&k, CPU_SCALAR);
    for (size_t f = 0; f < 3; f++) {
        const struct format_info *info = format_info(blocks[f]);
        const size_t row_bytes = format_row_bytes(blocks[f], COLS);
        panel_fn *fn = f == 0 ? k.panel_i8 : f == 1 ? k.panel_b1 : k.panel_t2;
        for (size_t r = 0; r < PANEL_ROWS; r++) {
            for (size_t c = 0; c < COLS; c++) {
                w[c] = tiny_random(r * COLS + c);
                x[c] = tiny_random(77777 + c);
            }
            info->encode(w, COLS, row);
            memcpy(rows + r * row_bytes, row, row_bytes);
        }
        format_pack_panel(blocks[f], rows, PANEL_ROWS, COLS, panel);
        k.quant(x, COLS, info->act_block, q, d, s);
        const struct act_q8 act = {
            .q = q, .d = d, .s = s, .q_stride = COLS, .d_stride = 16, .n_tokens = 1};
        fn(panel, COLS, &act, out, PANEL_ROWS);
        for (size_t r = 0; r < PANEL_ROWS; r++) {
            double want = 0;
            info->decode(rows + r * row_bytes, COLS, w);
            for (size_t c = 0; c < COLS; c++) {
                want += (double)w[c] * (double)(d[c / info->act_block] * (float)q[c]);
            }
            assert_true(fabs(want - (double)out[r]) < 1e-4);
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
    assert_false(format_of_id(12, &f));
    assert_string_equal(format_foreign_name(12), "Q4_K");
    assert_string_equal(format_foreign_name(36), "I2_S");
    assert_null(format_foreign_name(4)); /* withdrawn */
    assert_null(format_foreign_name(250));
    assert_null(format_foreign_name(UINT32_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_decode_as_their_layout_says),
        cmocka_unit_test(encoding_decoded_rows_gives_the_same_bytes),
        cmocka_unit_test(encoders_take_zeros_and_nan),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(packed_rows_decode_to_what_the_file_says),
        cmocka_unit_test(panels_multiply_as_their_rows_do),
        cmocka_unit_test(numbers_of_other_engines_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
