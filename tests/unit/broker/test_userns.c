#include "tests/support/test.h"

#include <string.h>

#include "daemon/broker/userns.h"

static uint64_t users(const char *map)
{
    return userns_users(map, strlen(map));
}

static void the_users_of_all_lines_are_counted(void **state)
{
    (void)state;

    assert_int_equal(users("         0          0 4294967295\n"), 4294967295);
    assert_int_equal(users("0 100000 65536\n65536 1000 1\n"), 65537);
    assert_int_equal(users("0 0 1\n996 996 1"), 2); /* PrivateUsers=yes of a system's unit */
    assert_int_equal(users("1000 1000 1\n"), 1);
}

static void what_is_no_map_has_no_users(void **state)
{
    (void)state;

    assert_int_equal(users(""), 0);
    assert_int_equal(users("\n\n"), 0);
    assert_int_equal(users("0 0\n0 0\n"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_users_of_all_lines_are_counted),
        cmocka_unit_test(what_is_no_map_has_no_users),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
