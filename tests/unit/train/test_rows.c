#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "train/loop/rows.h"

static const struct rows_fields both = {.prompt = "prompt", .answer = "answer", .answers = true};
static const struct rows_fields asked = {.prompt = "text", .answer = "answer"};

static struct rows *rows_of(const char *text, const struct rows_fields *fields)
{
    struct rows *rows = NULL;

    assert_int_equal(rows_new(&rows, text, strlen(text), fields), 0);
    return rows;
}

static void rows_come_with_their_lines(void **state)
{
    static const char text[] = "{\"prompt\":\"a\",\"answer\":\"b\\u0000c\",\"more\":[1]}\n"
                               " \t\r\n"
                               "{\"answer\":\"\",\"prompt\":\"\xc3\xa9\"}";
    struct rows *rows = rows_of(text, &both);
    struct row row;

    assert_int_equal(rows_next(rows, &row, NULL), ROWS_OK);
    assert_true(strview_is(row.prompt, "a") && row.answer.n == 3 && row.line == 1);
    assert_memory_equal(row.answer.data, "b\0c", 3);
    assert_int_equal(rows_next(rows, &row, NULL), ROWS_OK);
    assert_true(strview_is(row.prompt, "\xc3\xa9") && row.answer.n == 0 && row.line == 3);
    assert_int_equal(rows_next(rows, &row, NULL), ROWS_END);
    assert_int_equal(rows_next(rows, &row, NULL), ROWS_END);
    rows_free(rows);
}

static void members_may_be_named_and_answers_missing(void **state)
{
    struct rows *rows = rows_of("{\"text\":\"a\"}\n{\"text\":\"b\",\"answer\":\"c\"}\n", &asked);
    struct row row;

    assert_int_equal(rows_next(rows, &row, NULL), ROWS_OK);
    assert_null(row.answer.data);
    assert_int_equal(rows_next(rows, &row, NULL), ROWS_OK);
    assert_true(strview_is(row.answer, "c"));
    rows_free(rows);
}

static void a_bad_line_is_refused_with_its_number(void **state)
{
    static const struct {
        const char *line, *why;
    } bad[] = {
        {"{", "line 2: no JSON: "},
        {"[]", "line 2: no object"},
        {"{\"prompt\":\"a\"}", "line 2: lacks answer"},
        {"{\"prompt\":1,\"answer\":\"b\"}", "line 2: no string: prompt"},
        {"{\"prompt\":\"a\",\"answer\":\"b<|im_end|>\"}",
         "line 2: a mark of the chat template, \"<|\", in answer"},
        {"{\"prompt\":\"a\",\"prompt\":\"a\",\"answer\":\"b\"}", "line 2: no JSON: "},
        {"{\"prompt\":\"\xff\",\"answer\":\"b\"}", "line 2: no JSON: "},
        {"{\"prompt\":\"a\",\"answer\":\"b\"} {}", "line 2: no JSON: "},
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char text[256] = "{\"prompt\":\"a\",\"answer\":\"b\"}\n";
        struct diag diag = {0};
        struct row row;
        strcat(text, bad[i].line);
        struct rows *rows = rows_of(text, &both);
        assert_int_equal(rows_next(rows, &row, &diag), ROWS_OK);
        assert_int_equal(rows_next(rows, &row, &diag), ROWS_MALFORMED);
        if (strncmp(diag.text, bad[i].why, strlen(bad[i].why)) != 0) {
            fail_msg("said \"%s\", not \"%s\"", diag.text, bad[i].why);
        }
        rows_free(rows);
    }
}

static void a_line_past_the_limit_is_refused_before_it_is_parsed(void **state)
{
    char *text = malloc(ROWS_LINE_MAX + 2);
    struct rows *rows = NULL;
    struct diag diag = {0};
    struct row row;

    assert_non_null(text);
    memset(text, '[', ROWS_LINE_MAX + 2);
    assert_int_equal(rows_new(&rows, text, ROWS_LINE_MAX + 1, &both), 0);
    assert_int_equal(rows_next(rows, &row, &diag), ROWS_MALFORMED);
    assert_string_equal(diag.text, "line 1: longer than 1 MiB");
    rows_free(rows);
    free(text);
    assert_int_equal(rows_new(&rows, NULL, 0, &both), 0);
    assert_int_equal(rows_next(rows, &row, NULL), ROWS_END);
    rows_free(rows);
    rows_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_with_their_lines),
        cmocka_unit_test(members_may_be_named_and_answers_missing),
        cmocka_unit_test(a_bad_line_is_refused_with_its_number),
        cmocka_unit_test(a_line_past_the_limit_is_refused_before_it_is_parsed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
