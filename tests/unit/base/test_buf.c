#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

/* Goal: the ceiling holds to the byte. Method: fill to it, then ask for one more. */
static void a_buffer_never_passes_its_ceiling(void **state)
{
    struct buf b;
    (void)state;

    buf_init(&b, 100);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(buf_append(&b, "x", 1), 0);
    }
    assert_int_equal(buf_append(&b, "x", 1), -E2BIG);
    assert_int_equal(b.n, 100);
    assert_true(b.room <= 100);
    assert_int_equal(buf_reserve(&b, SIZE_MAX), -E2BIG);
    buf_deinit(&b);
}

static void dropping_keeps_the_rest_in_order(void **state)
{
    struct buf b;
    (void)state;

    buf_init(&b, 1000);
    assert_int_equal(buf_append(&b, "abcdef", 6), 0);
    buf_drop(&b, 2);
    assert_int_equal(b.n, 4);
    assert_memory_equal(b.data, "cdef\0\0", 6); /* nothing of what went */
    buf_drop(&b, 4);
    assert_int_equal(b.n, 0);
    assert_int_equal(buf_append(&b, NULL, 0), 0);
    buf_deinit(&b);
}

static void stolen_bytes_belong_to_the_caller(void **state)
{
    struct buf b;
    size_t n = 0;
    (void)state;

    buf_init(&b, 10);
    assert_int_equal(buf_append(&b, "abc", 3), 0);
    uint8_t *mine = buf_steal(&b, &n);
    assert_int_equal(n, 3);
    assert_int_equal(b.n, 0);
    assert_null(b.data);
    assert_int_equal(buf_append(&b, "0123456789", 10), 0); /* the ceiling is still known */
    assert_int_equal(buf_append(&b, "0", 1), -E2BIG);
    free(mine);
    buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_never_passes_its_ceiling),
        cmocka_unit_test(dropping_keeps_the_rest_in_order),
        cmocka_unit_test(stolen_bytes_belong_to_the_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
