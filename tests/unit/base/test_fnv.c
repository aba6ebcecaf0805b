#include "tests/support/test.h"

#include "base/fnv.h"

/* Goal: names of packed models, and checksums of files, stay what they are. Method: values that the
 * function's authors publish. */
static void the_values_are_the_published_ones(void **state)
{
    (void)state;
    assert_true(fnv_add(FNV_START, NULL, 0) == UINT64_C(0xcbf29ce484222325));
    assert_true(fnv_add(FNV_START, "a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(fnv_add(FNV_START, "foobar", 6) == UINT64_C(0x85944171f73967e8));
    assert_true(fnv_add(fnv_add(FNV_START, "foo", 3), "bar", 3) == UINT64_C(0x85944171f73967e8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_values_are_the_published_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
