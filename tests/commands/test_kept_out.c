#include "tests/support/test.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "train/commands/kept_out.h"

static uint64_t hash(const char *text)
{
    return kept_out_hash(text, strlen(text));
}

static bool same(const char *a, const char *b)
{
    return hash(a) == hash(b);
}

/* Goal: a sentence is known however it is written. Method: pairs; the numbers are what keep_out.py
 * makes of two. */
static void a_sentence_is_known_however_it_is_written(void **state)
{
    assert_true(hash("Dim the lamp to twenty-five percent!") == UINT64_C(0x58cb13769f959992));
    assert_true(hash("turn on the 0123456789012345678901234567890123456789012345678901234567890"
                     "123456789012345678\xc3\xa9 twenty five lamps") ==
                UINT64_C(0x3dba6db3be769173));
    assert_true(same("Dim the lamp to twenty-five percent!", "dim lamp to 25 percent"));
    assert_true(same("dim lamp to 25", "  DIM my lamp, to twenty five"));
    assert_true(same("what's on", "whats on"));
    assert_true(same("set it to twenty", "set it to 20"));
    assert_true(same("twenty ten", "20 10"));
    assert_true(same("twenty thirty one", "20 31"));
    assert_true(same("", "the"));
    assert_false(same("lamp on", "lamp off"));
    assert_false(same("lamp on", "on lamp"));
    assert_false(same("a lamp", "alamp"));
    assert_false(same("caf\xc3\xa9", "caf"));
}

static void only_what_is_on_the_list_is_kept_out(void **state)
{
    struct grammar_fault fault;
    struct kept_out k;
    char text[200];

    snprintf(text, sizeof(text), "# two\n%016" PRIx64 "\n\n%016" PRIx64, hash("lamp on"),
             hash("fan on"));
    assert_int_equal(kept_out_parse(&k, strview_of(text), &fault), GRAMMAR_OK);
    assert_int_equal(k.n, 2);
    assert_true(kept_out_has(&k, "The lamp on.", strlen("The lamp on.")));
    assert_true(kept_out_has(&k, "fan on", strlen("fan on")));
    assert_false(kept_out_has(&k, "fan off", strlen("fan off")));
    kept_out_deinit(&k);
    assert_int_equal(kept_out_parse(&k, strview_of(""), &fault), GRAMMAR_OK);
    assert_false(kept_out_has(&k, "fan on", strlen("fan on")));
    kept_out_deinit(&k);
}

static void what_is_no_list_is_refused_with_its_line(void **state)
{
    static const char *const bad[] = {"0123456789abcde\n", "0123456789abcdef0\n",
                                      "0123456789ABCDEF\n", "0123456789abcdef \n", "lamp on\n"};
    struct grammar_fault fault;
    struct kept_out k;
    char text[64];

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        snprintf(text, sizeof(text), "#\n0123456789abcdef\n%s", bad[i]);
        assert_int_equal(kept_out_parse(&k, strview_of(text), &fault), GRAMMAR_SYNTAX);
        assert_int_equal(fault.line, 3);
        kept_out_deinit(&k);
    }
    assert_int_equal(kept_out_read(&k, "/nonexistent/list", &fault), -ENOENT);
    assert_int_equal(fault.line, 0);
    kept_out_deinit(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sentence_is_known_however_it_is_written),
        cmocka_unit_test(only_what_is_on_the_list_is_kept_out),
        cmocka_unit_test(what_is_no_list_is_refused_with_its_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
