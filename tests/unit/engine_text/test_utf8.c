#include "tests/support/test.h"

#include <string.h>

#include "engine/text/letters.h"
#include "engine/text/utf8.h"
#include "tests/unit/engine_text/tiny.h"

static int check(const char *s)
{
    return utf8_check((const uint8_t *)s, strlen(s));
}

/* Goal: exactly the sequences of the standard's table pass. Method: borders of every row. */
static void well_formed_characters_are_measured(void **state)
{
    assert_int_equal(check("a"), 1);
    assert_int_equal(check("\xc2\x80"), 2);
    assert_int_equal(check("\xe0\xa0\x80"), 3);
    assert_int_equal(check("\xed\x9f\xbf"), 3);
    assert_int_equal(check("\xee\x80\x80"), 3);
    assert_int_equal(check("\xf0\x90\x80\x80"), 4);
    assert_int_equal(check("\xf4\x8f\xbf\xbf"), 4);
}

/* Goal: what can never become a character is told from what may. Method: one of each kind. */
static void hopeless_and_unfinished_bytes_are_told_apart(void **state)
{
    assert_int_equal(check("\x80"), -1);
    assert_int_equal(check("\xc0\x80"), -1);
    assert_int_equal(check("\xf5"), -1);
    assert_int_equal(check("\xe0\x9f\xbf"), -1);
    assert_int_equal(check("\xed\xa0\x80"), -1);
    assert_int_equal(check("\xf4\x90\x80\x80"), -1);
    assert_int_equal(check("\xe2\x82"
                           "a"),
                     -2);
    assert_int_equal(check("\xf0\x9f\x98"
                           "a"),
                     -3);
    assert_int_equal(check("\xe2\x82"), 0);
    assert_int_equal(check("\xf0"), 0);
    assert_true(utf8_valid("", 0));
    assert_true(utf8_valid("gr\xc3\xbc\xc3\x9f", 6));
    assert_false(utf8_valid("gr\xc3", 3));
}

/* Goal: encoding undoes decoding. Method: both borders of every length. */
static void code_points_survive_the_round_trip(void **state)
{
    static const uint32_t points[] = {0, 0x7f, 0x80, 0x7ff, 0x800, 0xffff, 0x10000, 0x10ffff};

    for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
        uint8_t bytes[4];
        unsigned n = 0;
        const unsigned len = utf8_encode(points[i], bytes);
        assert_int_equal(utf8_decode(bytes, &n), points[i]);
        assert_int_equal(n, len);
    }
}

/* Goal: lenient reading as documented. Method: overlong, surrogate, too large, cut, stray. */
static void lax_reading_takes_bits_at_their_word(void **state)
{
    unsigned n;

    assert_int_equal(utf8_lax((const uint8_t *)"\xc1\x81", 2, &n), 0x41);
    assert_int_equal(n, 2);
    assert_int_equal(utf8_lax((const uint8_t *)"\xed\xa0\x80", 3, &n), 0xd800);
    assert_int_equal(n, 3);
    assert_int_equal(utf8_lax((const uint8_t *)"\xf4\x90\x80\x80", 4, &n), 0xfffd);
    assert_int_equal(n, 1);
    assert_int_equal(utf8_lax((const uint8_t *)"\xe2\x82", 2, &n), 0xfffd);
    assert_int_equal(n, 1);
    assert_int_equal(utf8_lax((const uint8_t *)"\xff", 1, &n), 0xfffd);
    assert_int_equal(n, 1);
}

/* Goal: the alphabet of byte-level files maps to all 256 bytes and refuses others. Method: every
 * letter as the tests' own encoder writes it, then characters outside the alphabet. */
static void letters_stand_for_every_byte(void **state)
{
    char out[8];
    size_t n;

    for (unsigned b = 0; b < 256; b++) {
        char letter[2];
        const struct strview text = {letter, tiny_letter(b, letter)};
        assert_true(letters_decode(text, out, &n));
        assert_int_equal(n, 1);
        assert_int_equal((uint8_t)out[0], b);
    }
    assert_false(letters_decode(strview_of(" "), out, &n));
    assert_false(letters_decode(strview_of("\xc5\x84"), out, &n)); /* U+0144, the first past it */
    assert_false(letters_decode(strview_of("\xe2\x96\x81"), out, &n));
    assert_false(letters_decode(strview_of("\xc4"), out, &n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(well_formed_characters_are_measured),
        cmocka_unit_test(hopeless_and_unfinished_bytes_are_told_apart),
        cmocka_unit_test(code_points_survive_the_round_trip),
        cmocka_unit_test(lax_reading_takes_bits_at_their_word),
        cmocka_unit_test(letters_stand_for_every_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
