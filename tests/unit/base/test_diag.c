#include "tests/support/test.h"

#include <string.h>

#include "base/diag.h"

static void the_first_complaint_stays(void **state)
{
    struct diag d = {0};
    (void)state;

    diag_set(&d, 7, "first %d", 1);
    diag_set(&d, 9, "second");
    assert_string_equal(d.text, "first 1");
    assert_int_equal(d.offset, 7);
    diag_set(NULL, 0, "nobody listens");
}

/* Goal: a name out of a hostile file cannot drive a terminal or overflow the text. */
static void outside_bytes_are_escaped_and_cut(void **state)
{
    struct diag d = {0}, full = {0};
    char longer[1000];
    (void)state;

    diag_set(&d, 0, "name %s", "a\x1b[2J\n\xff");
    assert_string_equal(d.text, "name a\\x1b[2J\\x0a\\xff");
    memset(longer, 0x1b, sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    diag_set(&full, 0, "%s", longer);
    assert_true(strlen(full.text) < sizeof(full.text));
    assert_true(strlen(full.text) % 4 == 0); /* no escape is cut in half */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_complaint_stays),
        cmocka_unit_test(outside_bytes_are_escaped_and_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
