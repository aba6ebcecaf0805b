/* The bounded msgpack reader: every form is read, and every lie about lengths is refused. */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "ipc/mp.h"

struct sample {
    uint8_t bytes[10];
    size_t n;
    struct mp_value v;
};

static const struct sample scalars[] = {
    {{0xc0}, 1, {.type = MP_NIL}},
    {{0xc2}, 1, {.type = MP_BOOL, .b = false}},
    {{0xc3}, 1, {.type = MP_BOOL, .b = true}},
    {{0x00}, 1, {.type = MP_INT, .u = 0}},
    {{0x7f}, 1, {.type = MP_INT, .u = 127, .f = 127}},
    {{0xcc, 0xff}, 2, {.type = MP_INT, .u = 255, .f = 255}},
    {{0xcd, 0x01, 0x02}, 3, {.type = MP_INT, .u = 0x102, .f = 0x102}},
    {{0xce, 0xff, 0xff, 0xff, 0xff}, 5, {.type = MP_INT, .u = UINT32_MAX, .f = 4294967295.0}},
    {{0xcf, 0x80, 0, 0, 0, 0, 0, 0, 0}, 9, {.type = MP_INT, .u = UINT64_C(1) << 63, .f = 0x1p63}},
    {{0xff}, 1, {.type = MP_INT, .negative = true, .u = UINT64_MAX, .f = -1}},
    {{0xe0}, 1, {.type = MP_INT, .negative = true, .u = (uint64_t)-32, .f = -32}},
    {{0xd0, 0x80}, 2, {.type = MP_INT, .negative = true, .u = (uint64_t)-128, .f = -128}},
    {{0xd0, 0x7f}, 2, {.type = MP_INT, .u = 127, .f = 127}},
    {{0xd1, 0x80, 0x00}, 3, {.type = MP_INT, .negative = true, .u = (uint64_t)-32768, .f = -32768}},
    {{0xd2, 0xff, 0xff, 0xff, 0xfe},
     5,
     {.type = MP_INT, .negative = true, .u = (uint64_t)-2, .f = -2}},
    {{0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0},
     9,
     {.type = MP_INT, .negative = true, .u = UINT64_C(1) << 63, .f = -0x1p63}},
    {{0xca, 0x3f, 0xc0, 0x00, 0x00}, 5, {.type = MP_FLOAT, .f = 1.5}},
    {{0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0}, 9, {.type = MP_FLOAT, .f = 1.5}},
};

/* Goal: each scalar form is read as its number, and never when it is cut short.
 * Method: every prefix of each form, in an allocation of its own size. */
static void every_scalar_form_is_read_whole_or_not_at_all(void **state)
{
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(scalars); i++) {
        const struct sample *s = &scalars[i];
        for (size_t n = 0; n <= s->n; n++) {
            uint8_t *bytes = malloc(n ? n : 1);
            struct cursor c;
            struct mp_value v = {0};

            assert_non_null(bytes);
            memcpy(bytes, s->bytes, n);
            c = cursor_of(bytes, n);
            if (n < s->n) {
                assert_false(mp_next(&c, &v));
                assert_true(c.bad);
            } else {
                assert_true(mp_next(&c, &v));
                assert_int_equal(cursor_left(&c), 0);
                assert_int_equal(v.type, s->v.type);
                assert_int_equal(v.b, s->v.b);
                assert_int_equal(v.negative, s->v.negative);
                assert_true(v.u == s->v.u);
                assert_true(v.f == s->v.f);
            }
            free(bytes);
        }
    }
}

static void strings_and_bins_of_every_width_are_views(void **state)
{
    static const struct {
        uint8_t head[5];
        size_t n_head;
        enum mp_type type;
    } forms[] = {
        {{0xa3}, 1, MP_STR},
        {{0xd9, 3}, 2, MP_STR},
        {{0xda, 0, 3}, 3, MP_STR},
        {{0xdb, 0, 0, 0, 3}, 5, MP_STR},
        {{0xc4, 3}, 2, MP_BIN},
        {{0xc5, 0, 3}, 3, MP_BIN},
        {{0xc6, 0, 0, 0, 3}, 5, MP_BIN},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        uint8_t bytes[8] = {0};
        struct mp_value v = {0};

        memcpy(bytes, forms[i].head, forms[i].n_head);
        memcpy(bytes + forms[i].n_head, "abc", 3);
        struct cursor c = cursor_of(bytes, forms[i].n_head + 3);
        assert_true(mp_next(&c, &v));
        assert_int_equal(v.type, forms[i].type);
        assert_int_equal(v.str.n, 3);
        assert_ptr_equal(v.str.data, bytes + forms[i].n_head);
        c = cursor_of(bytes, forms[i].n_head + 2);
        assert_false(mp_next(&c, &v)); /* one byte short */
    }
}

static bool reads(const void *bytes, size_t n)
{
    struct cursor c = cursor_of(bytes, n);
    struct mp_value v;

    return mp_next(&c, &v);
}

#define READS(literal) reads(literal, sizeof(literal) - 1)
#define VALID(literal) mp_valid((const uint8_t *)(literal), sizeof(literal) - 1)

static void counts_past_the_bytes_left_are_refused(void **state)
{
    (void)state;
    assert_true(READS("\x92\x01\x02"));
    assert_false(READS("\x93\x01\x02"));
    assert_true(READS("\xdc\x00\x02\x01\x02"));
    assert_false(READS("\xdd\xff\xff\xff\xff"));
    assert_false(READS("\xdd\x00\x00\x00\x03\x01\x02"));
    assert_true(READS("\x81\xa0\x01"));
    assert_false(READS("\x82\xa0\x01\xa0")); /* two pairs need four bytes */
    assert_false(READS("\xdf\xff\xff\xff\xff"));
    assert_false(READS("\xdf\x80\x00\x00\x00\x01\x02")); /* 2n must not wrap */
    assert_false(READS("\xdb\xff\xff\xff\xff xyz"));
    assert_false(READS("\xc6\xff\xff\xff\xff xyz"));
}

static void extensions_and_the_reserved_byte_are_refused(void **state)
{
    static const uint8_t tags[] = {0xc1, 0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
        uint8_t bytes[32] = {tags[i], 1};
        struct cursor c = cursor_of(bytes, sizeof(bytes));
        struct mp_value v;
        assert_false(mp_next(&c, &v));
        assert_true(c.bad);
    }
}

static void a_failed_read_leaves_its_result_alone(void **state)
{
    struct cursor c = cursor_of("\xcd\x01", 2);
    struct mp_value v = {.type = MP_BIN, .u = 42};
    (void)state;

    assert_false(mp_next(&c, &v));
    assert_int_equal(v.type, MP_BIN);
    assert_int_equal(v.u, 42);
    assert_false(mp_next(&c, &v)); /* and the cursor stays bad */
}

/* Goal: nesting is legal to MP_DEPTH_MAX and refused past it, whatever nests.
 * Method: arrays in arrays and maps in maps, of every depth. */
static void nesting_is_bounded(void **state)
{
    (void)state;

    for (unsigned depth = 1; depth < 40; depth++) {
        uint8_t arrays[64], maps[128];

        memset(arrays, 0x91, depth);
        arrays[depth] = 0xc0;
        struct cursor c = cursor_of(arrays, depth + 1);
        assert_int_equal(mp_skip(&c), depth <= MP_DEPTH_MAX);
        for (unsigned i = 0; i < depth; i++) {
            maps[2 * i] = 0x81;
            maps[2 * i + 1] = 0xa0;
        }
        maps[2 * depth] = 0xc0;
        assert_int_equal(mp_valid(maps, 2 * depth + 1), depth <= MP_DEPTH_MAX);
    }
}

static void a_skip_ends_behind_the_value(void **state)
{
    static const uint8_t bytes[] = "\x83\xa1"
                                   "a\x93\x01\x90\x80\xa1"
                                   "b\x81\xa1x\xc0\xa1"
                                   "c\xcb\0\0\0\0\0\0\0\0REST";
    struct cursor c = cursor_of(bytes, sizeof(bytes) - 1);
    (void)state;

    assert_true(mp_skip(&c));
    assert_int_equal(cursor_left(&c), 4);
    assert_memory_equal(c.at, "REST", 4);
}

static void a_body_is_one_map_to_the_last_byte(void **state)
{
    (void)state;
    assert_true(VALID("\x80"));
    assert_true(VALID("\x82\xa1"
                      "a\x01\xa1"
                      "b\x92\x01\x02"));
    assert_false(mp_valid(NULL, 0));
    assert_false(VALID("\x80\x80"));
    assert_false(VALID("\x90"));
    assert_false(VALID("\x01"));
    assert_false(VALID("\x81\xa1"
                       "a")); /* a key without its value */
    assert_false(VALID("\x82\xa1"
                       "a\x01\xa1"
                       "b"));
    assert_false(VALID("\x81\xa1"
                       "a\xd4\x01\x02"));
}

static bool utf8(const char *z)
{
    return mp_utf8_valid(strview_of(z));
}

static void strings_are_valid_utf8_and_bins_are_anything(void **state)
{
    (void)state;
    assert_true(VALID("\x81\xa1"
                      "a\xa2\xc3\xa9"));
    assert_false(VALID("\x81\xa1"
                       "a\xa2\xc3\x28"));
    assert_false(VALID("\x81\xa1\xff\x01")); /* keys, too */
    assert_true(VALID("\x81\xa1"
                      "a\xc4\x02\xc3\x28"));
}

static void utf8_has_one_form_for_each_character(void **state)
{
    (void)state;
    assert_true(utf8(""));
    assert_true(utf8("plain"));
    assert_true(utf8("\xc2\x80\xdf\xbf"));
    assert_true(utf8("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"));
    assert_true(utf8("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
    assert_true(mp_utf8_valid((struct strview){"a\0b", 3}));
    static const char *const wrong[] = {
        "\x80",             /* a continuation alone */
        "\xc0\x80",         /* overlong NUL */
        "\xc1\xbf",         /* overlong */
        "\xe0\x9f\xbf",     /* overlong */
        "\xed\xa0\x80",     /* surrogate */
        "\xed\xbf\xbf",     /* surrogate */
        "\xf0\x8f\xbf\xbf", /* overlong */
        "\xf4\x90\x80\x80", /* past U+10FFFF */
        "\xf5\x80\x80\x80", /* past U+10FFFF */
        "\xff",             /* never */
        "\xc3",             /* cut short */
        "\xe2\x82",         /* cut short */
        "\xf0\x9f\x98",     /* cut short */
        "\xe2\x82xx",       /* the third byte is no continuation */
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        assert_false(utf8(wrong[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scalar_form_is_read_whole_or_not_at_all),
        cmocka_unit_test(strings_and_bins_of_every_width_are_views),
        cmocka_unit_test(counts_past_the_bytes_left_are_refused),
        cmocka_unit_test(extensions_and_the_reserved_byte_are_refused),
        cmocka_unit_test(a_failed_read_leaves_its_result_alone),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(a_skip_ends_behind_the_value),
        cmocka_unit_test(a_body_is_one_map_to_the_last_byte),
        cmocka_unit_test(strings_are_valid_utf8_and_bins_are_anything),
        cmocka_unit_test(utf8_has_one_form_for_each_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
