#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/filemap.h"

static void a_file_is_seen_whole_after_its_descriptor_is_closed(void **state)
{
    struct filemap map;
    const int fd = memfd_create("test", MFD_CLOEXEC);
    (void)state;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "hello", 5), 5);
    assert_int_equal(filemap_open(&map, fd), 0);
    close(fd);
    assert_int_equal(map.size, 5);
    assert_memory_equal(map.data, "hello", 5);
    filemap_close(&map);
    filemap_close(&map);
    assert_null(map.data);
}

static void an_empty_file_is_an_empty_map_and_a_pipe_is_refused(void **state)
{
    struct filemap map = {.size = 99};
    int pipes[2];
    const int fd = memfd_create("test", MFD_CLOEXEC);
    (void)state;

    assert_int_equal(filemap_open(&map, fd), 0);
    assert_int_equal(map.size, 0);
    filemap_close(&map);
    close(fd);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(filemap_open(&map, pipes[0]), -EINVAL);
    assert_int_equal(filemap_open(&map, -1), -EBADF);
    close(pipes[0]);
    close(pipes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_seen_whole_after_its_descriptor_is_closed),
        cmocka_unit_test(an_empty_file_is_an_empty_map_and_a_pipe_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
