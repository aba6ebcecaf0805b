/* The error table: whole, without doubles, and the same as the one people read. */
#include "tests/support/test.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/error.h"

static void every_row_is_whole(void **state)
{
    (void)state;

    for (unsigned i = ERR_NONE + 1; i < ERR_CODES; i++) {
        const struct error_info *e = error_info((enum error_code)i);
        assert_int_equal(e->code, i);
        assert_true(e->number >= 400 && e->number <= 599);
        assert_true(e->exit_code >= 64 && e->exit_code < 255);
        assert_non_null(e->name);
        assert_true(strlen(e->meaning) > 10 && e->meaning[strlen(e->meaning) - 1] == '.');
        assert_true(strlen(e->hint) > 10 && e->hint[strlen(e->hint) - 1] == '.');
        for (const char *p = e->name; *p; p++) {
            assert_true((*p >= 'a' && *p <= 'z') || *p == '_');
        }
    }
}

static void names_are_unique_and_lead_back_to_their_code(void **state)
{
    (void)state;

    for (unsigned i = ERR_NONE + 1; i < ERR_CODES; i++) {
        const char *name = error_info((enum error_code)i)->name;
        assert_int_equal(error_by_name(strview_of(name)), i);
        for (unsigned k = i + 1; k < ERR_CODES; k++) {
            assert_string_not_equal(name, error_info((enum error_code)k)->name);
        }
    }
}

static void an_unknown_name_or_code_is_never_a_null(void **state)
{
    (void)state;
    assert_int_equal(error_by_name(strview_of("no_such_error")), ERR_NONE);
    assert_int_equal(error_by_name(strview_of("")), ERR_NONE);
    assert_int_equal(error_by_name(strview_of("none")), ERR_NONE);
    assert_int_equal(error_info(ERR_CODES)->code, ERR_INTERNAL);
    assert_int_equal(error_info((enum error_code) - 1)->code, ERR_INTERNAL);
}

/* Goal: a client's mistake is never worth a retry, a full or stopping server always is. */
static void what_passes_by_itself_is_retryable(void **state)
{
    (void)state;

    for (unsigned i = ERR_NONE + 1; i < ERR_CODES; i++) {
        const struct error_info *e = error_info((enum error_code)i);
        if (e->number == 429 || e->number == 503 || e->number == 504) {
            assert_true(e->retryable);
        }
        if (e->number < 409 || e->number == 413 || e->number == 499) {
            assert_false(e->retryable);
        }
    }
}

/* Goal: the table in PROTOCOL.md says what the code does. Method: each row, as it must be printed.
 */
static void the_protocol_page_has_the_same_table(void **state)
{
    static char page[131072];
    char path[4096], row[1024];
    const char *source = getenv("ONEBIT_SOURCE");
    (void)state;

    assert_non_null(source);
    (void)snprintf(path, sizeof(path), "%s/ipc/PROTOCOL.md", source);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    const size_t n = fread(page, 1, sizeof(page) - 1, f);
    assert_true(n > 0 && feof(f));
    fclose(f);
    for (unsigned i = ERR_NONE + 1; i < ERR_CODES; i++) {
        const struct error_info *e = error_info((enum error_code)i);
        (void)snprintf(row, sizeof(row), "\n| `%s` | %u | %s | %u | %s | %s |\n", e->name,
                       e->number, e->retryable ? "yes" : "no", e->exit_code, e->meaning, e->hint);
        if (!strstr(page, row)) {
            print_error("PROTOCOL.md lacks the row%s", row);
            fail();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_whole),
        cmocka_unit_test(names_are_unique_and_lead_back_to_their_code),
        cmocka_unit_test(an_unknown_name_or_code_is_never_a_null),
        cmocka_unit_test(what_passes_by_itself_is_retryable),
        cmocka_unit_test(the_protocol_page_has_the_same_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
