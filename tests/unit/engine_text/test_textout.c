#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/utf8.h"
#include "tests/unit/engine_text/tiny.h"

static struct textout *started(const struct vocab *v, const char *const *stops, size_t n)
{
    struct strview views[STOPS_MAX];
    struct textout *t = NULL;

    for (size_t i = 0; i < n; i++) {
        views[i] = strview_of(stops[i]);
    }
    assert_int_equal(textout_new(&t, v, views, n), 0);
    return t;
}

static void feed(struct textout *t, int32_t id, const char *want, bool stop)
{
    struct strview got = {0};

    assert_int_equal(textout_feed(t, id, &got), stop);
    if (!strview_is(got, want)) {
        fail_msg("id %d: \"%.*s\", not \"%s\"", id, (int)got.n, got.data, want);
    }
}

static void finish(struct textout *t, const char *want)
{
    struct strview got = {0};

    textout_finish(t, &got);
    if (!strview_is(got, want)) {
        fail_msg("at the end: \"%.*s\", not \"%s\"", (int)got.n, got.data, want);
    }
}

/* Goal: only whole characters come out, and bytes that never become one turn into U+FFFD. */
static void characters_are_delivered_whole(void **state)
{
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));
    struct textout *t = started(v, NULL, 0);

    feed(t, 0xe2, "", false);
    feed(t, 0x82, "", false);
    feed(t, 0xac, "\xe2\x82\xac", false);
    feed(t, 0xe2, "", false);
    feed(t, 0x82, "", false);
    feed(t, 'a',
         "\xef\xbf\xbd"
         "a",
         false);
    feed(t, 0xff, "\xef\xbf\xbd", false);
    feed(t, 0xf0, "", false);
    finish(t, "\xef\xbf\xbd");
    finish(t, "");
    textout_free(t);
    vocab_free(v);
}

/* Goal: a character of four bytes comes out when its last byte is there, however the bytes were cut
 * into tokens; one that is cut off becomes one U+FFFD, once its bytes cannot go on. Method: each
 * way of going on: a letter, another character's first byte, a byte that begins none, the end. */
static void four_bytes_are_held_until_whole(void **state)
{
    static const struct {
        int32_t next;
        const char *want;
    } ways[] = {{'a', "\xef\xbf\xbd"
                      "a"},
                {B_ABC, "\xef\xbf\xbd"
                        "abc"},
                {0xf0, "\xef\xbf\xbd"},
                {0xff, "\xef\xbf\xbd\xef\xbf\xbd"}};
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));
    struct textout *t = started(v, NULL, 0);

    for (int round = 0; round < 2; round++) {
        feed(t, 0xf0, "", false);
        feed(t, 0x9f, "", false);
        feed(t, 0x98, "", false);
        feed(t, 0x80, "\xf0\x9f\x98\x80", false);
    }
    finish(t, "");
    textout_free(t);
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        t = started(v, NULL, 0);
        feed(t, 0xf0, "", false);
        feed(t, 0x9f, "", false);
        feed(t, 0x98, "", false);
        feed(t, ways[i].next, ways[i].want, false);
        finish(t, ways[i].next == 0xf0 ? "\xef\xbf\xbd" : "");
        textout_free(t);
    }
    t = started(v, NULL, 0);
    feed(t, 0xf0, "", false);
    feed(t, 0x9f, "", false);
    feed(t, 0x98, "", false);
    feed(t, B_EOT, "", false); /* an end's own token gives nothing and completes nothing */
    finish(t, "\xef\xbf\xbd");
    finish(t, "");
    textout_free(t);
    vocab_free(v);
}

/* Goal: whatever tokens come, what is delivered is valid UTF-8, call by call. Method: random bytes
 * of the kinds that begin, go on and break characters. */
static void every_delivery_is_valid(void **state)
{
    static const uint8_t bytes[] = {'a',  0x80, 0x9f, 0xbf, 0xc0, 0xc3, 0xe0, 0xe2,
                                    0xed, 0xf0, 0xf4, 0xf5, 0xff, 0x82, 0xac, 0x98};
    static const char *const stops[] = {"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                                        "a"};
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));
    uint32_t rng = 11;

    for (int round = 0; round < 500; round++) {
        struct textout *t = started(v, stops, (size_t)(round % 2));
        struct strview got = {0};
        bool stop = false;
        for (int i = 0; i < 40 && !stop; i++) {
            rng = rng * 1664525u + 1013904223u;
            stop = textout_feed(t, bytes[rng >> 28], &got);
            assert_true(utf8_valid(got.data, got.n));
        }
        textout_finish(t, &got);
        assert_true(utf8_valid(got.data, got.n));
        textout_free(t);
    }
    vocab_free(v);
}

/* Goal: control tokens give no text, user-defined ones do, and neither cuts a character. */
static void control_tokens_are_silent(void **state)
{
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));
    struct textout *t = started(v, NULL, 0);

    feed(t, B_EOT, "", false);
    feed(t, B_THINK, "<think>", false);
    feed(t, 0xc3, "", false);
    feed(t, B_EOT, "", false);
    feed(t, 0xbc, "\xc3\xbc", false);
    feed(t, -1, "", false);
    feed(t, B_COUNT, "", false);
    textout_free(t);
    vocab_free(v);
}

/* Goal: a tail that may begin a stop string waits; what turns out harmless is delivered later. */
static void possible_stop_strings_are_held_back(void **state)
{
    static const char *const stops[] = {"abcX", "cd"};
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));
    struct textout *t = started(v, stops, 2);

    feed(t, 'z', "z", false);
    feed(t, B_ABC, "", false);
    feed(t, 'a', "abc", false);
    feed(t, B_ABC, "a", false);
    feed(t, 'd', "ab", true); /* the shorter one, inside the longer one's beginning */
    feed(t, 'z', "", true);
    finish(t, "");
    textout_free(t);

    t = started(v, stops, 2);
    feed(t, B_ABC, "", false);
    finish(t, "abc");
    textout_free(t);
    vocab_free(v);
}

/* Goal: the first stop string to complete ends the text, the longest of those that complete
 * together; also in the middle of a token and across characters. */
static void the_first_stop_string_to_complete_ends_the_text(void **state)
{
    static const char *const stops[] = {"bc", "abc", "\xc3\xbc!"};
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));
    struct textout *t = started(v, stops, 3);

    feed(t, 'x', "x", false);
    feed(t, B_ABC, "", true);
    textout_free(t);

    t = started(v, stops, 3);
    feed(t, 'b', "", false);
    feed(t, 'b', "b", false);
    feed(t, 'c', "", true);
    textout_free(t);

    t = started(v, stops, 3);
    feed(t, 0xc3, "", false);
    feed(t, 0xbc, "", false);
    feed(t, 'x', "\xc3\xbcx", false);
    feed(t, 0xc3, "", false);
    feed(t, 0xbc, "", false);
    feed(t, '!', "", true);
    textout_free(t);
    vocab_free(v);
}

/* Goal: stop strings whose beginnings repeat are found. Method: "aab" in "aaab". */
static void repeating_stop_strings_are_found(void **state)
{
    static const char *const stops[] = {"aab"};
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));
    struct textout *t = started(v, stops, 1);

    feed(t, 'a', "", false);
    feed(t, 'a', "", false);
    feed(t, 'a', "a", false);
    feed(t, 'b', "", true);
    textout_free(t);
    vocab_free(v);
}

/* Goal: the space that SentencePiece puts before a text does not come out. */
static void the_leading_space_is_dropped_once(void **state)
{
    struct vocab *v = tiny_opened(tiny_spm());
    struct textout *t = started(v, NULL, 0);

    feed(t, 1, "", false);
    feed(t, S_MARK_A, "a", false);
    feed(t, S_MARK_A, " a", false);
    textout_free(t);
    vocab_free(v);
}

/* Goal: how bytes were cut into tokens changes nothing in the whole text. Method: "abc" as one, two
 * and three tokens, with a stop string that is never completed. */
static void the_whole_text_depends_on_bytes_alone(void **state)
{
    static const char *const stops[] = {"bcz", "c a"};
    static const int32_t ways[][4] = {
        {B_ABC, ' ', -1, -1}, {B_AB, 'c', ' ', -1}, {'a', 'b', 'c', ' '}};
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));

    for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
        struct textout *t = started(v, stops, 2);
        char all[32];
        size_t n = 0;
        for (size_t i = 0; i < 5; i++) {
            struct strview got = {0};
            if (i == 4) {
                textout_finish(t, &got);
            } else {
                assert_false(textout_feed(t, ways[w][i], &got));
            }
            if (got.n > 0) {
                memcpy(all + n, got.data, got.n);
                n += got.n;
            }
        }
        assert_int_equal(n, 4);
        assert_memory_equal(all, "abc ", 4);
        textout_free(t);
    }
    vocab_free(v);
}

/* Goal: stop strings have bounds. Method: empty, too long, too many, not UTF-8; then the
 * longest. */
static void stop_strings_are_bounded(void **state)
{
    char text[STOP_BYTES_MAX + 1];
    struct strview views[STOPS_MAX + 1];
    struct vocab *v = tiny_opened(tiny_bpe("qwen2"));
    struct textout *t = NULL;

    memset(text, 'q', sizeof(text));
    for (size_t i = 0; i < ARRAY_SIZE(views); i++) {
        views[i] = (struct strview){text, STOP_BYTES_MAX};
    }
    assert_int_equal(textout_new(&t, v, views, STOPS_MAX + 1), -EINVAL);
    views[1] = (struct strview){text, STOP_BYTES_MAX + 1};
    assert_int_equal(textout_new(&t, v, views, 2), -EINVAL);
    views[1] = (struct strview){text, 0};
    assert_int_equal(textout_new(&t, v, views, 2), -EINVAL);
    views[1] = strview_of("\x80");
    assert_int_equal(textout_new(&t, v, views, 2), -EINVAL);
    assert_null(t);
    assert_int_equal(textout_new(&t, v, views, 1), 0);
    for (size_t i = 0; i + 1 < STOP_BYTES_MAX; i++) {
        feed(t, 'q', "", false);
    }
    feed(t, 'q', "", true);
    textout_free(t);
    vocab_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_are_delivered_whole),
        cmocka_unit_test(four_bytes_are_held_until_whole),
        cmocka_unit_test(every_delivery_is_valid),
        cmocka_unit_test(control_tokens_are_silent),
        cmocka_unit_test(possible_stop_strings_are_held_back),
        cmocka_unit_test(the_first_stop_string_to_complete_ends_the_text),
        cmocka_unit_test(repeating_stop_strings_are_found),
        cmocka_unit_test(the_leading_space_is_dropped_once),
        cmocka_unit_test(the_whole_text_depends_on_bytes_alone),
        cmocka_unit_test(stop_strings_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
