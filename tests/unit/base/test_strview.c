#include "tests/support/test.h"

#include "base/strview.h"

/* Goal: any two views compare by length and bytes, views of nothing among them. */
static void views_compare_by_their_bytes(void **state)
{
    static const struct strview nothing = {0};
    (void)state;

    assert_true(strview_eq(nothing, strview_of("")));
    assert_true(strview_eq(strview_of(NULL), nothing));
    assert_true(strview_is(strview_of("abc"), "abc"));
    assert_false(strview_is(strview_of("abc"), "abd"));
    assert_false(strview_is(strview_of("abc"), "ab"));
    assert_false(strview_is((struct strview){"a\0b", 3}, "a"));
    assert_true(strview_starts(strview_of("abc"), "ab"));
    assert_true(strview_starts(strview_of("abc"), ""));
    assert_true(strview_starts(nothing, ""));
    assert_false(strview_starts(strview_of("ab"), "abc"));
    assert_false(strview_starts(nothing, "a"));
}

/* Goal: a copy ends with a NUL inside its room whatever the length, and writes nothing behind it.
 * Method: a sentinel behind rooms that are too small, just right and too large. */
static void a_copy_is_cut_to_its_room(void **state)
{
    static const char *const want[] = {"", "a", "ab", "abc", "abc"};
    (void)state;

    for (size_t room = 1; room <= 5; room++) {
        char to[8] = "~~~~~~~";
        strview_copy(to, room, strview_of("abc"));
        assert_string_equal(to, want[room - 1]);
        for (size_t i = room; i < 7; i++) {
            assert_int_equal(to[i], '~');
        }
    }
}

static void a_copy_of_nothing_is_empty(void **state)
{
    char to[4] = "abc";
    (void)state;

    strview_copy(to, sizeof(to), (struct strview){0});
    assert_string_equal(to, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_compare_by_their_bytes),
        cmocka_unit_test(a_copy_is_cut_to_its_room),
        cmocka_unit_test(a_copy_of_nothing_is_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
