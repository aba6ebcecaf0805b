/* Packing: the shortest form of each value, and one failure that is remembered. */
#include "tests/support/test.h"

#include <errno.h>
#include <string.h>

#include "ipc/mp.h"
#include "ipc/pack.h"

static struct buf out;

static int begin(void **state)
{
    (void)state;
    buf_init(&out, 4096);
    return 0;
}

static int end(void **state)
{
    (void)state;
    buf_deinit(&out);
    return 0;
}

static void wrote(const char *bytes, size_t n)
{
    assert_int_equal(out.n, n);
    assert_memory_equal(out.data, bytes, n);
    out.n = 0;
}

#define WROTE(literal) wrote(literal, sizeof(literal) - 1)

static void values_take_their_shortest_form(void **state)
{
    struct packer p = packer_of(&out);
    (void)state;

    pack_uint(&p, 127);
    WROTE("\x7f");
    pack_uint(&p, 128);
    WROTE("\xcc\x80");
    pack_uint(&p, UINT64_MAX);
    WROTE("\xcf\xff\xff\xff\xff\xff\xff\xff\xff");
    pack_int(&p, -1);
    WROTE("\xff");
    pack_int(&p, 300);
    WROTE("\xcd\x01\x2c");
    pack_int(&p, INT64_MIN);
    WROTE("\xd3\x80\0\0\0\0\0\0\0");
    pack_bool(&p, true);
    WROTE("\xc3");
    pack_bool(&p, false);
    WROTE("\xc2");
    pack_f32(&p, 1.5f);
    WROTE("\xca\x3f\xc0\0\0");
    pack_f64(&p, 1.5);
    WROTE("\xcb\x3f\xf8\0\0\0\0\0\0");
    pack_map(&p, 2);
    WROTE("\x82");
    pack_array(&p, 16);
    WROTE("\xdc\0\x10");
    pack_z(&p, "key");
    WROTE("\xa3key");
    pack_bin(&p, "\xff", 1);
    WROTE("\xc4\x01\xff");
    pack_bin(&p, NULL, 0);
    WROTE("\xc4\x00");
    pack_str(&p, (struct strview){NULL, 0});
    WROTE("\xa0");
    assert_int_equal(p.error, 0);
}

static void text_that_is_no_utf8_is_written_as_bin(void **state)
{
    struct packer p = packer_of(&out);
    (void)state;

    pack_str(&p, strview_of("\xc3\xa9"));
    WROTE("\xa2\xc3\xa9");
    pack_str(&p, strview_of("\xc3\x28"));
    WROTE("\xc4\x02\xc3\x28");
    assert_int_equal(p.error, 0);
}

static void the_first_failure_is_remembered_and_nothing_follows_it(void **state)
{
    struct buf small;
    struct packer p = packer_of(&small);
    (void)state;

    buf_init(&small, 4);
    pack_uint(&p, 1);
    assert_int_equal(p.error, 0);
    pack_z(&p, "too long");
    assert_int_equal(p.error, -E2BIG);
    const size_t n = small.n;
    pack_uint(&p, 1); /* would fit, but the message is broken already */
    assert_int_equal(small.n, n);
    assert_int_equal(p.error, -E2BIG);
    buf_deinit(&small);
}

#define IN_BUFFER(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_BUFFER(values_take_their_shortest_form),
        IN_BUFFER(text_that_is_no_utf8_is_written_as_bin),
        cmocka_unit_test(the_first_failure_is_remembered_and_nothing_follows_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
