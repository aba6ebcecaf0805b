/* No core file, by neither of the two ways that one is made. */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/coredump.h"

static void neither_a_file_nor_a_program_gets_this_memory(void **state)
{
    const char *sanitized = getenv("ONEBIT_SANITIZED");
    struct rlimit limit;
    (void)state;

    assert_int_equal(prctl(PR_GET_DUMPABLE), 1);
    coredump_forbid();
    assert_int_equal(getrlimit(RLIMIT_CORE, &limit), 0);
    assert_int_equal(limit.rlim_cur, 0);
    assert_int_equal(limit.rlim_max, 0);
    if (!sanitized || strcmp(sanitized, "1") != 0) {
        assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neither_a_file_nor_a_program_gets_this_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
