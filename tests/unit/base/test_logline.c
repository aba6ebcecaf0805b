/* A line of the log says what it should, in one line, and no more. */
#include "tests/support/test.h"

#include <string.h>

#include "base/compiler.h"
#include "base/logline.h"

static char line[LOGLINE_MAX + 1];

static const char *PRINTF_LIKE(3, 4) make(int priority, const char *who, const char *fmt, ...)
{
    va_list args;

    memset(line, 'Z', sizeof(line));
    va_start(args, fmt);
    const size_t n = logline_make(line, priority, who, fmt, args);
    va_end(args);
    assert_true(n <= LOGLINE_MAX);
    line[n] = '\0';
    return line;
}

static void a_priority_stands_in_front_for_the_journal_alone(void **state)
{
    (void)state;

    assert_string_equal(make(3, "", "x is %d", 1), "<3>x is 1\n");
    assert_string_equal(make(LOGLINE_PLAIN, "me: ", "x is %d", 1), "me: x is 1\n");
    assert_string_equal(make(LOGLINE_PRIORITY_MAX + 1, "me: ", "x"), "me: x\n");
}

static void control_characters_make_no_line_and_no_escape(void **state)
{
    (void)state;

    assert_string_equal(make(3, "", "%s", "a\n<0>b\x1b[2J\x7f\t\xc3\xa9"),
                        "<3>a?<0>b?[2J??\xc3\xa9\n");
}

static void a_long_line_is_cut_and_still_ends(void **state)
{
    char text[3 * LOGLINE_MAX];
    (void)state;

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(strlen(make(3, "who: ", "%s", text)), LOGLINE_MAX - 1);
    assert_int_equal(line[LOGLINE_MAX - 2], '\n');
    assert_int_equal(strlen(make(3, text, "b")), LOGLINE_MAX - 1);
}

static void only_our_own_stderr_counts_as_the_journals(void **state)
{
    (void)state;

    assert_true(logline_names("8:1234", 8, 1234));
    assert_false(logline_names("8:1234", 8, 123));
    assert_false(logline_names("8:1234", 9, 1234));
    assert_false(logline_names("8:1234x", 8, 1234));
    assert_false(logline_names("", 0, 0));
    assert_false(logline_names(NULL, 0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_priority_stands_in_front_for_the_journal_alone),
        cmocka_unit_test(control_characters_make_no_line_and_no_escape),
        cmocka_unit_test(a_long_line_is_cut_and_still_ends),
        cmocka_unit_test(only_our_own_stderr_counts_as_the_journals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
