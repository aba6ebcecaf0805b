#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/words.h"

struct list {
    char text[256]; /* words with bars between them */
    size_t n, left; /* words that are taken before this stops */
};

static int add(void *arg, const char *word, size_t n)
{
    struct list *l = arg;

    if (l->left-- == 0) {
        return 77;
    }
    l->n += (size_t)snprintf(l->text + l->n, sizeof(l->text) - l->n, "%s%.*s", l->n ? "|" : "",
                             (int)n, word);
    return 0;
}

static int cut(const char *pre, const char *text, struct list *l)
{
    struct words *w = NULL;

    assert_int_equal(words_new(&w, strview_of(pre)), 0);
    const int r = words_cut(w, text, strlen(text), add, l);
    words_free(w);
    return r;
}

static void words_are_those_of_the_named_pretokenizer(void **state)
{
    struct list qwen2 = {.left = 99}, gpt2 = {.left = 99};

    assert_int_equal(cut("qwen2", "it's 21 degrees\n", &qwen2), WORDS_OK);
    assert_string_equal(qwen2.text, "it|'s| |2|1| degrees|\n");
    assert_int_equal(cut("gpt-2", "it's 21 degrees\n", &gpt2), WORDS_OK);
    assert_string_equal(gpt2.text, "it|'s| 21| degrees|\n");
}

/* Goal: training sees the bytes that the tokenizer will. Method: an e with an accent of its own
 * comes out as one letter, in a second text of the same matcher, too. */
static void text_is_normalized_where_the_vocabulary_is(void **state)
{
    struct words *w = NULL;
    struct list l = {.left = 99};

    assert_int_equal(words_new(&w, strview_of("qwen2")), 0);
    assert_int_equal(words_cut(w, "cafe\xcc\x81", 6, add, &l), WORDS_OK);
    assert_int_equal(words_cut(w, " on", 3, add, &l), WORDS_OK);
    assert_int_equal(words_cut(w, "", 0, add, &l), WORDS_OK);
    assert_string_equal(l.text, "caf\xc3\xa9| on");
    words_free(w);
}

static void what_cannot_be_cut_is_refused(void **state)
{
    struct words *w = NULL;
    struct list l = {.left = 1};

    assert_int_equal(words_new(&w, strview_of("qwen9")), -EINVAL);
    assert_null(w);
    words_free(NULL);
    assert_int_equal(cut("qwen2", "a\xff", &l), WORDS_NOT_UTF8);
    assert_int_equal(cut("qwen2", "one two three", &l), 77); /* the taker's own word */
    assert_string_equal(l.text, "one");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_those_of_the_named_pretokenizer),
        cmocka_unit_test(text_is_normalized_where_the_vocabulary_is),
        cmocka_unit_test(what_cannot_be_cut_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
