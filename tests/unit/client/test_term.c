/* What a terminal would obey is shown instead. */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "client/cli/term.h"

/* Escape text in two pieces, cut at `cut`. */
static void escape_cut(const char *text, size_t n, size_t cut, struct buf *out)
{
    struct escaper e = {0};

    assert_int_equal(escape_text(&e, out, text, cut), 0);
    assert_int_equal(escape_text(&e, out, text + cut, n - cut), 0);
    assert_int_equal(escape_end(&e, out), 0);
}

struct pair {
    const char *text, *want;
};

static const struct pair pairs[] = {
    {"plain text", "plain text"},
    {"two\nlines\tand a tab", "two\nlines\tand a tab"},
    {"\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"},
    {"over\rwritten\b\x7f", "over\\x0dwritten\\x08\\x7f"},
    {"c1 csi \xc2\x9b"
     "31m, nel \xc2\x85",
     "c1 csi \\u009b31m, nel \\u0085"},
    {"raw c1 \x9b"
     "31m",
     "raw c1 \\x9b31m"},
    {"turned \xe2\x80\xae"
     "txt.exe \xe2\x81\xa6 \xd8\x9c \xe2\x80\x8f",
     "turned \\u202etxt.exe \\u2066 \\u061c \\u200f"},
    {"\xc3\xa9t\xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x99\x82",
     "\xc3\xa9t\xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x99\x82"},
    {"cut \xf0\x9f\x99", "cut \\xf0\\x9f\\x99"},
    {"broken \xf0\x9fx", "broken \\xf0\\x9fx"},
    {"broken by esc \xe2\x80\x1b[m", "broken by esc \\xe2\\x80\\x1b[m"},
    {"overlong \xc0\x9b \xe0\x82\x9b", "overlong \\xc0\\x9b \\xe0\\x82\\x9b"},
    {"surrogate \xed\xa0\x80", "surrogate \\xed\\xa0\\x80"},
    {"past the end \xf4\x90\x80\x80 \xff", "past the end \\xf4\\x90\\x80\\x80 \\xff"},
    {"back\\slash", "back\\slash"},
    {"", ""},
};

/* Goal: pieces come as the network cuts them. Method: every text, cut at every place. */
static void every_cut_gives_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        const size_t n = strlen(pairs[i].text);
        for (size_t cut = 0; cut <= n; cut++) {
            struct buf out;
            buf_init(&out, 1024);
            escape_cut(pairs[i].text, n, cut, &out);
            assert_int_equal(out.n, strlen(pairs[i].want));
            assert_memory_equal(out.n ? out.data : (const uint8_t *)"", pairs[i].want, out.n);
            buf_deinit(&out);
        }
    }
}

/* Goal: nothing that a terminal obeys gets through, whatever comes. Method: all pairs of bytes, in
 * the middle of text and byte by byte; what comes out has no control byte and no C1 character. */
static void no_pair_of_bytes_gets_a_control_through(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 1U << 16; v++) {
        const char text[] = {'a', (char)(v >> 8), (char)v, 'b'};
        struct escaper e = {.one_line = true};
        struct buf out;
        buf_init(&out, 64);
        for (size_t i = 0; i < sizeof(text); i++) {
            assert_int_equal(escape_text(&e, &out, &text[i], 1), 0);
        }
        assert_int_equal(escape_end(&e, &out), 0);
        for (size_t i = 0; i < out.n; i++) {
            assert_true(out.data[i] >= 0x20 && out.data[i] != 0x7f);
            assert_false(out.data[i] == 0xc2 && out.data[i + 1] < 0xa0);
        }
        buf_deinit(&out);
    }
}

static void one_line_has_neither_newline_nor_tab(void **state)
{
    char *line = escape_line("a\nb\tc");
    (void)state;

    assert_string_equal(line, "a\\x0ab\\x09c");
    free(line);
}

static void columns_are_characters(void **state)
{
    (void)state;
    assert_int_equal(text_columns("abc"), 3);
    assert_int_equal(text_columns("\xc3\xa9t\xc3\xa9"), 3);
    assert_int_equal(text_columns(""), 0);
}

static void a_full_buffer_is_told(void **state)
{
    struct escaper e = {0};
    struct buf out;
    (void)state;

    buf_init(&out, 3);
    assert_true(escape_text(&e, &out, "\x1b", 1) < 0);
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_gives_the_same),
        cmocka_unit_test(no_pair_of_bytes_gets_a_control_through),
        cmocka_unit_test(one_line_has_neither_newline_nor_tab),
        cmocka_unit_test(columns_are_characters),
        cmocka_unit_test(a_full_buffer_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
