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

/* Goal: what was taken from a file does not depend on it any more. Method: two pages and a bit, one
 * byte taken; then the file is cut to nothing and read all the same. */
static void what_was_taken_of_a_file_stays_when_it_is_cut(void **state)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 2 * page + 5;
    uint8_t *bytes = malloc(n);
    struct filemap map;
    const int fd = memfd_create("test", MFD_CLOEXEC);
    (void)state;

    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(i * 7 + i / page);
    }
    assert_int_equal(write(fd, bytes, n), n);
    assert_int_equal(filemap_open(&map, fd), 0);
    const uint8_t *at = map.data;
    assert_int_equal(filemap_own(&map, fd, 0), 0);
    assert_int_equal(filemap_own(&map, fd, 1), 0);
    assert_ptr_equal(map.data, at);
    assert_int_equal(filemap_tail(1), page);
    assert_memory_equal(map.data, bytes, n);
    assert_int_equal(pwrite(fd, "other", 5, 0), 5);
    assert_int_equal(pwrite(fd, "other", 5, (off_t)page), 5);
    assert_memory_equal(map.data, bytes, page);
    assert_memory_equal(map.data + page, "other", 5); /* what was left to the file is the file's */
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_memory_equal(map.data, bytes, page);
    assert_int_equal(filemap_own(&map, fd, n), -EIO);
    assert_memory_equal(map.data, bytes, page);
    assert_int_equal(pwrite(fd, bytes, n, 0), n);
    assert_int_equal(filemap_own(&map, fd, n), 0); /* past the end of the file, to the page's */
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_memory_equal(map.data, bytes, n);
    filemap_close(&map);
    close(fd);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_seen_whole_after_its_descriptor_is_closed),
        cmocka_unit_test(an_empty_file_is_an_empty_map_and_a_pipe_is_refused),
        cmocka_unit_test(what_was_taken_of_a_file_stays_when_it_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
