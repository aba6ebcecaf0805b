/* Results of the daemon as JSON text. */
#include "tests/support/test.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "client/json.h"
#include "ipc/mp.h"
#include "ipc/pack.h"

static void gives(const struct buf *packed, const char *want)
{
    struct buf out;

    buf_init(&out, JSON_BYTES_MAX);
    const int r = json_from_msgpack(&out, (struct strview){(const char *)packed->data, packed->n});
    assert_int_equal(r, JSON_OK);
    assert_string_equal((const char *)out.data, want);
    assert_int_equal(out.n, strlen(want));
    buf_deinit(&out);
}

static void refuses(const void *bytes, size_t n)
{
    struct buf out;

    buf_init(&out, JSON_BYTES_MAX);
    assert_int_equal(json_from_msgpack(&out, (struct strview){bytes, n}), JSON_MALFORMED);
    buf_deinit(&out);
}

static void containers_nest_and_stand_in_order(void **state)
{
    struct buf b;
    struct packer p = packer_of(&b);
    (void)state;

    buf_init(&b, 1024);
    pack_map(&p, 4);
    pack_z(&p, "a");
    pack_array(&p, 3);
    pack_uint(&p, 1);
    pack_map(&p, 0);
    pack_array(&p, 0);
    pack_z(&p, "b");
    pack_map(&p, 1);
    pack_z(&p, "c");
    pack_int(&p, -5);
    pack_z(&p, "d");
    pack_bool(&p, true);
    pack_z(&p, "e");
    pack_uint(&p, UINT64_MAX);
    assert_int_equal(p.error, 0);
    gives(&b, "{\"a\":[1,{},[]],\"b\":{\"c\":-5},\"d\":true,\"e\":18446744073709551615}");
    buf_deinit(&b);
}

static void floats_are_short_and_finite_and_no_locale_changes_them(void **state)
{
    struct buf b;
    struct packer p = packer_of(&b);
    (void)state;

    (void)setlocale(LC_ALL, "de_DE.UTF-8"); /* where it is installed */
    buf_init(&b, 1024);
    pack_array(&p, 6);
    pack_f32(&p, 0.1F);
    pack_f64(&p, 0.1);
    pack_f64(&p, 1.0 / 3);
    pack_f64(&p, 1e300);
    pack_f64(&p, (double)NAN);
    pack_f64(&p, -(double)INFINITY);
    gives(&b, "[0.100000001,0.1,0.33333333333333331,1e+300,null,null]");
    buf_deinit(&b);
    (void)setlocale(LC_ALL, "C");
}

static void strings_are_escaped(void **state)
{
    struct buf b;
    struct packer p = packer_of(&b);
    (void)state;

    buf_init(&b, 1024);
    pack_array(&p, 4);
    pack_str(&p, strview_of("q\"b\\n\nt\tz\x7f"));
    pack_str(&p, strview_of("\x1b[2J"));
    pack_str(&p, strview_of("\xc2\x9b and \xc3\xa9 and \xf0\x9f\x99\x82"));
    pack_bin(&p, "a\xff\xc3", 3);
    gives(&b, "[\"q\\\"b\\\\n\\nt\\u0009z\\u007f\",\"\\u001b[2J\","
              "\"\\u009b and \xc3\xa9 and \xf0\x9f\x99\x82\",\"a\\ufffd\\ufffd\"]");
    buf_deinit(&b);
}

static void what_is_no_single_sound_value_is_refused(void **state)
{
    static const char deep[] = "\x91\x91\x91\x91\x91\x91\x91\x91\x91\x01";
    (void)state;

    refuses("", 0);
    refuses("\x92\x01", 2);             /* an element is missing */
    refuses("\x01\x01", 2);             /* a second value */
    refuses("\x81\x01\x01", 3);         /* a key that is no string */
    refuses("\xdd\xff\xff\xff\xff", 5); /* claims more than is there */
    refuses("\xc1", 1);                 /* no msgpack */
    refuses(deep, sizeof(deep) - 1);    /* nine deep */
}

/* Goal: no byte string makes the converter read or write out of bounds. Method: every value of
 * three bytes in front of a short tail; sanitizers judge. */
static void any_three_bytes_are_survived(void **state)
{
    char bytes[] = "\0\0\0\xa1k\x91\x01\xc0";
    (void)state;

    for (unsigned v = 0; v < 1U << 24; v += 7) {
        struct buf out;
        bytes[0] = (char)(v >> 16);
        bytes[1] = (char)(v >> 8);
        bytes[2] = (char)v;
        buf_init(&out, JSON_BYTES_MAX);
        const int r = json_from_msgpack(&out, (struct strview){bytes, sizeof(bytes) - 1});
        assert_in_range(r, JSON_OK, JSON_MALFORMED);
        buf_deinit(&out);
        v += v % 5;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(containers_nest_and_stand_in_order),
        cmocka_unit_test(floats_are_short_and_finite_and_no_locale_changes_them),
        cmocka_unit_test(strings_are_escaped),
        cmocka_unit_test(what_is_no_single_sound_value_is_refused),
        cmocka_unit_test(any_three_bytes_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
