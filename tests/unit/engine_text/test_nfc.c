#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/compiler.h"
#include "engine/text/nfc.h"
#include "engine/text/utf8.h"

#define ROOM ((size_t)1 << 24)

static void becomes(const char *text, size_t n, const char *want, size_t n_want)
{
    struct strview got = {0};
    struct buf scratch;

    buf_init(&scratch, ROOM);
    assert_int_equal(nfc_normalize(&scratch, text, n, &got), NFC_OK);
    if (got.n != n_want || memcmp(got.data, want, n_want) != 0) {
        fail_msg("\"%.*s\" became \"%.*s\", not \"%s\"", (int)n, text, (int)got.n, got.data, want);
    }
    assert_true((got.data == text) == (n == n_want && memcmp(text, want, n) == 0));
    buf_deinit(&scratch);
}

static void gives(const char *text, const char *want)
{
    becomes(text, strlen(text), want, strlen(want));
}

/* Goal: text that is in form C already is not copied. Method: scripts of each kind of run; the
 * result is the text itself. */
static void text_in_form_c_is_not_copied(void **state)
{
    gives("", "");
    gives("plain\r\n\t text", "plain\r\n\t text");
    gives("gr\xc3\xbc\xc3\x9f dich \xd0\x96\xd0\xb8", "gr\xc3\xbc\xc3\x9f dich \xd0\x96\xd0\xb8");
    gives("\xe4\xbd\xa0\xed\x95\x9c\xe3\x81\x8c", "\xe4\xbd\xa0\xed\x95\x9c\xe3\x81\x8c");
    gives("q\xcc\x81", "q\xcc\x81"); /* no such letter: the mark stays */
    gives("\xcc\x81", "\xcc\x81");
    gives("\xff\xc3\x80\xe2\x82 \xf0", "\xff\xc3\x80\xe2\x82 \xf0");
}

/* Goal: form C as the standard has it. Method: one case of each rule. */
static void other_text_is_normalized(void **state)
{
    gives("e\xcc\x81t\xc3\xa9", "\xc3\xa9t\xc3\xa9");   /* composed */
    gives("xa\xcc\x81\xcc\xa1y", "x\xc3\xa1\xcc\xa1y"); /* past a mark of another class */
    gives("a\xcc\x87\xcc\xa3", "\xe1\xba\xa1\xcc\x87"); /* put in order, then composed */
    gives("\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"); /* Hangul from its parts */
    gives("\xed\x95\x98\xe1\x86\xab", "\xed\x95\x9c");             /* and from a syllable */
    /* U+11A7 lies just before the finals and is none; utf8proc 2.8 would drop it. */
    gives("\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xa7", "\xed\x95\x98\xe1\x86\xa7");
    gives("\xed\x95\x98\xe1\x86\xa7", "\xed\x95\x98\xe1\x86\xa7");
    gives("\xe2\x84\xa6", "\xce\xa9");                 /* a sign that is a letter */
    gives("\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"); /* excluded from composing */
    gives("\xcd\x84", "\xcc\x88\xcc\x81");             /* a mark of two */
    gives("\xf0\x9d\x85\xa0",
          "\xf0\x9d\x85\x98\xf0\x9d\x85\xa5\xf0\x9d\x85\xae"); /* grows to three times */
    gives("\xef\xa4\x80\xe8\xb1\x88", "\xe8\xb1\x88\xe8\xb1\x88");
}

/* Goal: bytes that are no text stay where they are and keep marks from what is before them. */
static void invalid_bytes_stay_and_part_the_text(void **state)
{
    gives("e\xff\xcc\x81", "e\xff\xcc\x81");
    gives("\xff"
          "e\xcc\x81\xcc",
          "\xff\xc3\xa9\xcc");
    gives("e\xcc\x81\xe1\x84", "\xc3\xa9\xe1\x84");
    gives("\xed\xa0\x80\xcc\x81"
          "e\xcc\x81",
          "\xed\xa0\x80\xcc\x81\xc3\xa9");
    becomes("\0e\xcc\x81\0", 5, "\0\xc3\xa9\0", 4);
}

/* Goal: runs are cut only where nothing acts across. Method: every code point: what it decomposes
 * to begins with one that begins a run exactly if it does so itself, and goes on with ones that do
 * not; so does whatever composes, as it is what those decompose to. */
static void no_run_begins_with_what_may_compose(void **state)
{
    for (uint32_t c = 0; c < 0x110000; c++) {
        utf8proc_int32_t parts[8];
        if (c - 0xd800u < 0x800u) {
            continue;
        }
        const utf8proc_ssize_t n = utf8proc_decompose_char(
            (utf8proc_int32_t)c, parts, 8, UTF8PROC_STABLE | UTF8PROC_COMPOSE, NULL);
        assert_true(n >= 1 && n <= 8);
        if (nfc_begins(c)) {
            assert_int_equal(utf8proc_get_property((utf8proc_int32_t)c)->combining_class, 0);
            assert_true(nfc_begins((uint32_t)parts[0]));
        }
        for (utf8proc_ssize_t i = 1; i < n; i++) {
            assert_false(nfc_begins((uint32_t)parts[i]));
        }
    }
}

static void same_as_library(const uint8_t *text, size_t n)
{
    utf8proc_uint8_t *want = NULL;
    const utf8proc_ssize_t n_want =
        utf8proc_map(text, (utf8proc_ssize_t)n, &want, UTF8PROC_STABLE | UTF8PROC_COMPOSE);

    assert_true(n_want >= 0);
    becomes((const char *)text, n, (const char *)want, (size_t)n_want);
    free(want);
}

/* Goal: run by run gives what the whole text gives. Method: every code point alone and between two
 * letters, then random texts of characters that act on each other. */
static void runs_give_what_the_whole_text_gives(void **state)
{
    static const uint32_t acting[] = {
        'a',    'e',    'o',    0x300,   0x301,   0x307,   0x323,   0x327,   0x344,
        0x345,  0x390,  0x3b9,  0x915,   0x93c,   0x958,   0x9c7,   0x9be,   0xf71,
        0xf73,  0x1025, 0x102e, 0x1100,  0x1161,  0x11a8,  0xac00,  0xac01,  0x212b,
        0x3099, 0x304b, 0xfb1d, 0x110a5, 0x110ba, 0x1d15f, 0x16d63, 0x16d67, 0x4e00};
    uint8_t text[4 * 16];
    uint32_t rng = 3;

    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c - 0xd800u >= 0x800u) {
            size_t n = utf8_encode(c, text);
            same_as_library(text, n);
            memmove(text + 1, text, n);
            text[0] = 'a';
            text[n + 1] = 'b';
            same_as_library(text, n + 2);
        }
    }
    for (int round = 0; round < 50000; round++) {
        size_t n = 0;
        for (int i = 0; i < 12; i++) {
            rng = rng * 1664525u + 1013904223u;
            n += utf8_encode(acting[(rng >> 8) % ARRAY_SIZE(acting)], text + n);
        }
        same_as_library(text, n);
    }
}

/* A letter and marks up to `n` bytes, the worst order: those of the higher class first. */
static void put_marks(char *text, size_t n)
{
    text[0] = 'e';
    for (size_t i = 1; i + 1 < n; i += 2) {
        memcpy(text + i, i < n / 2 ? "\xcc\x81" : "\xcc\xa3", 2);
    }
}

/* Goal: marks without end are refused, not sorted; up to the limit they take no time to speak of.
 * Method: a run of just the limit, one past it, and 1,024 of the limit in a row. */
static void endless_marks_are_hard(void **state)
{
    const size_t limit = NFC_RUN_BYTES_MAX - 1, runs = 1024; /* odd: one letter and whole marks */
    char *text = malloc(runs * limit);
    struct strview got = {0};
    struct buf scratch;

    assert_non_null(text);
    buf_init(&scratch, ROOM);
    put_marks(text, limit + 2);
    assert_int_equal(nfc_normalize(&scratch, text, limit + 2, &got), NFC_HARD);
    for (size_t i = 0; i < runs; i++) {
        put_marks(text + i * limit, limit);
    }
    assert_int_equal(nfc_normalize(&scratch, text, runs * limit, &got), NFC_OK);
    assert_int_equal(got.n, runs * limit); /* e and its first mark become one of three bytes */
    assert_memory_equal(got.data, "\xe1\xba\xb9\xcc\xa3", 5);
    buf_deinit(&scratch);
    free(text);
}

/* Goal: a result past the ceiling is refused before memory is taken for it. */
static void growth_is_bounded(void **state)
{
    static const char grows[] = "\xf0\x9d\x85\xa0\xf0\x9d\x85\xa0";
    struct strview got = {0};
    struct buf scratch;

    buf_init(&scratch, 23);
    assert_int_equal(nfc_normalize(&scratch, grows, 8, &got), -E2BIG);
    assert_null(got.data);
    buf_deinit(&scratch);
    buf_init(&scratch, 24);
    assert_int_equal(nfc_normalize(&scratch, grows, 8, &got), NFC_OK);
    assert_int_equal(got.n, 24);
    buf_deinit(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_in_form_c_is_not_copied),
        cmocka_unit_test(other_text_is_normalized),
        cmocka_unit_test(invalid_bytes_stay_and_part_the_text),
        cmocka_unit_test(no_run_begins_with_what_may_compose),
        cmocka_unit_test(runs_give_what_the_whole_text_gives),
        cmocka_unit_test(endless_marks_are_hard),
        cmocka_unit_test(growth_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
