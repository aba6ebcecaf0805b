/* Little goes to memory, much to disk, and neither leaves a name. */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/scratch_file.h"

static bool in_memory(int fd)
{
    return fcntl(fd, F_GET_SEALS) >= 0; /* of memory files alone */
}

static void holds(int fd)
{
    struct stat st;
    char c = 0;

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "x", 1, 99), 1);
    assert_int_equal(pread(fd, &c, 1, 99), 1);
    assert_int_equal(c, 'x');
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void little_is_kept_in_memory(void **state)
{
    const int fd = scratch_file(1 << 20);
    (void)state;

    holds(fd);
    assert_true(in_memory(fd));
    assert_int_equal(close(fd), 0);
}

static void what_would_fill_the_memory_goes_to_disk(void **state)
{
    (void)state;

    assert_int_equal(setenv("TMPDIR", getenv("ONEBIT_BUILD"), 1), 0);
    const int fd = scratch_file(UINT64_C(1) << 60);
    holds(fd);
    assert_false(in_memory(fd));
    assert_int_equal(close(fd), 0);
}

static void a_folder_that_is_not_there_is_an_error(void **state)
{
    (void)state;

    assert_int_equal(setenv("TMPDIR", "/nowhere/at/all", 1), 0);
    assert_int_equal(scratch_file(UINT64_C(1) << 60), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(little_is_kept_in_memory),
        cmocka_unit_test(what_would_fill_the_memory_goes_to_disk),
        cmocka_unit_test(a_folder_that_is_not_there_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
