/* The public error table is the protocol's. */
#include "tests/support/test.h"

#include <string.h>

#include "base/compiler.h"
#include "client/onebit.h"
#include "ipc/error.h"

static void every_row_of_the_protocol_is_told_to_applications(void **state)
{
    (void)state;
    for (int code = 0; code < ERR_CODES; code++) {
        const struct onebit_error_info *mine = onebit_error_info(code);
        const struct error_info *want = error_info((enum error_code)code);
        assert_non_null(mine);
        assert_int_equal(mine->code, code);
        assert_int_equal(mine->number, want->number);
        assert_int_equal(mine->retryable, want->retryable);
        assert_int_equal(mine->exit_code, want->exit_code);
        assert_string_equal(mine->name, want->name);
        assert_string_equal(mine->meaning, want->meaning);
        assert_string_equal(mine->hint, want->hint);
    }
}

static void numbers_outside_the_table_have_no_row(void **state)
{
    (void)state;
    assert_null(onebit_error_info(-1));
    assert_null(onebit_error_info(ERR_CODES));
}

/* Goal: the names in onebit.h stand for the errors they say. Method: by the stable names. */
static void names_find_their_codes(void **state)
{
    static const struct {
        const char *name;
        enum onebit_error code;
    } rows[] = {
        {"bad_request", ONEBIT_ERR_BAD_REQUEST},
        {"no_model", ONEBIT_ERR_NO_MODEL},
        {"context_too_long", ONEBIT_ERR_CONTEXT_TOO_LONG},
        {"queue_full", ONEBIT_ERR_QUEUE_FULL},
        {"cancelled", ONEBIT_ERR_CANCELLED},
        {"request_crashed", ONEBIT_ERR_REQUEST_CRASHED},
        {"draining", ONEBIT_ERR_DRAINING},
        {"model_too_big", ONEBIT_ERR_MODEL_TOO_BIG},
        {"no_such_name", ONEBIT_OK},
        {"", ONEBIT_OK},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(onebit_error_by_name(rows[i].name), rows[i].code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_of_the_protocol_is_told_to_applications),
        cmocka_unit_test(numbers_outside_the_table_have_no_row),
        cmocka_unit_test(names_find_their_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
