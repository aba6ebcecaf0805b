#include "tests/support/test.h"

#include "base/cursor.h"

/* Goal: a read that does not fit poisons the cursor. Method: read past the end, then read what
 * would have fitted. */
static void after_a_short_read_everything_is_zero(void **state)
{
    static const uint8_t bytes[] = {1, 2, 3, 4, 5};
    struct cursor c = cursor_of(bytes, sizeof(bytes));
    (void)state;

    assert_int_equal(cursor_u32(&c), 0x04030201);
    assert_int_equal(cursor_left(&c), 1);
    assert_int_equal(cursor_u16(&c), 0);
    assert_true(c.bad);
    assert_int_equal(cursor_u8(&c), 0);
    assert_int_equal(cursor_left(&c), 0);
}

static void a_huge_length_does_not_wrap(void **state)
{
    static const uint8_t bytes[] = {1, 2, 3};
    struct cursor c = cursor_of(bytes, sizeof(bytes));
    (void)state;

    assert_null(cursor_take(&c, UINT64_MAX));
    assert_true(c.bad);
}

static void taking_all_and_nothing_works(void **state)
{
    static const uint8_t bytes[] = {0x12, 0x34, 0, 0, 0x80, 0x3f};
    struct cursor c = cursor_of(bytes, sizeof(bytes)), none = cursor_of(NULL, 0);
    (void)state;

    assert_int_equal(cursor_be(&c, 2), 0x1234);
    assert_true(cursor_f32(&c) == 1.0f);
    assert_non_null(cursor_take(&c, 0));
    assert_false(c.bad);
    (void)cursor_take(&none, 0);
    assert_false(none.bad);
    assert_int_equal(cursor_u8(&none), 0);
    assert_true(none.bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_a_short_read_everything_is_zero),
        cmocka_unit_test(a_huge_length_does_not_wrap),
        cmocka_unit_test(taking_all_and_nothing_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
