#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "engine/text/pretok.h"
#include "engine/text/utf8.h"

struct cutter {
    struct pretok_code *code;
    struct pretok *p;
};

static struct cutter cutter_of(enum vocab_pre pre)
{
    struct cutter c;

    assert_int_equal(pretok_compile(pre, &c.code), 0);
    assert_int_equal(pretok_new(&c.p, c.code), 0);
    return c;
}

static void cutter_free(struct cutter *c)
{
    pretok_delete(c->p);
    pretok_free(c->code);
}

/* `want` has a bar between words; no text here has one of its own. */
static void cuts(enum vocab_pre pre, const char *want)
{
    const size_t n_want = strlen(want);
    char text[256], got[512];
    size_t n = 0, n_got = 0;
    struct cutter c = cutter_of(pre);

    for (size_t i = 0; i < n_want; i++) {
        if (want[i] != '|') {
            text[n++] = want[i];
        }
    }
    pretok_begin(c.p, text, n);
    for (size_t at = 0, end = 0; at < n; at = end) {
        assert_int_equal(pretok_next(c.p, &end), PRETOK_OK);
        if (at > 0) {
            got[n_got++] = '|';
        }
        memcpy(got + n_got, text + at, end - at);
        n_got += end - at;
    }
    if (n_got != n_want || memcmp(got, want, n_got) != 0) {
        fail_msg("cut as \"%.*s\", not \"%s\"", (int)n_got, got, want);
    }
    cutter_free(&c);
}

/* Goal: falcon's three patterns, one after the other. Method: cases derived by hand: punctuation
 * goes first, so no contraction survives it; then words with their space; then digits in threes
 * from the left, which leaves the space of a number alone. */
static void falcon_cuts_punctuation_words_and_threes(void **state)
{
    cuts(PRE_FALCON, "Hello|,| world|!| |123|45");
    cuts(PRE_FALCON, "I|'|m| we|'|ll");
    cuts(PRE_FALCON, "3|.|141|59|,|123|456|7");
    cuts(PRE_FALCON, "12| 12| |123");
    cuts(PRE_FALCON, "a| | b|  \n\n| you|\n");
    cuts(PRE_FALCON, "$|5|+`|x|`=|y|<=>^~|z");
    cuts(PRE_FALCON, "\xc2\xbd|123|4"); /* a half is a number, no digit */
    cuts(PRE_FALCON, "\xe4\xbd\xa0\xe5\xa5\xbd|\xe3\x80\x82|\xe4\xb8\x96\xe7\x95\x8c");
    cuts(PRE_FALCON, "\xf0\x9f\x98\x80|!|\xf0\x9f\x98\x80\xf0\x9f\x98\x80| \xf0\x9f\x98\x80");
}

/* Goal: the six patterns of deepseek-llm. Method: cases derived by hand: line ends alone, letters
 * of scripts with case and signs with at most one space before them, spaces at the end of a piece,
 * East Asian text as a run, digits one by one. */
static void deepseek_llm_cuts_in_six_rounds(void **state)
{
    cuts(PRE_DEEPSEEK_LLM, "Hello| world|,| you| there|!");
    cuts(PRE_DEEPSEEK_LLM, "I|'|m| |1|2");
    cuts(PRE_DEEPSEEK_LLM, "abc|1|2|3|def| =| |1|;");
    cuts(PRE_DEEPSEEK_LLM, "a| | b|  ");
    cuts(PRE_DEEPSEEK_LLM, "a|\r|\n|\r|\n|b|\n| | c");
    cuts(PRE_DEEPSEEK_LLM, "\xe4\xbd\xa0\xe5\xa5\xbd|\xef\xbc\x8c|\xe4\xb8\x96\xe7\x95\x8c|1|2");
    cuts(PRE_DEEPSEEK_LLM, "a| |\xe4\xb8\xad|  ");
    cuts(PRE_DEEPSEEK_LLM,
         "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe3\x83\x86\xe3\x82\xad\xe3\x82\xb9"
         "\xe3\x83\x88|\xe3\x80\x82|\xed\x95\x9c\xea\xb8\x80");
    /* Arabic has neither case nor a place in the ranges: what lies between stays together. */
    cuts(PRE_DEEPSEEK_LLM, "\xd8\xb9\xd8\xb1\xd8\xa8 \xd8\xb9 |1|2");
    /* The signs' class runs from ':' to '~' and so takes the letters between out of a word. */
    cuts(PRE_DEEPSEEK_LLM, "\xc3\xa9|t|\xc3\xa9");
    cuts(PRE_DEEPSEEK_LLM, " \xd0\x96\xd0\xb8|A|\xd0\xb6");
    /* The ends of the ranges, and what lies just past them: U+1BA and U+1BB, U+1F7D and U+1F7E.
     * Above U+800 the fifth round takes the space off again. */
    cuts(PRE_DEEPSEEK_LLM, " \xc6\xba|\xc6\xbb|\xc6\xbc");
    cuts(PRE_DEEPSEEK_LLM, " |\xe1\xbd\xbd|\xe1\xbd\xbe| |\xe2\x84\xa6");
}

/* Goal: the older three, on what tells them apart: digits, contractions, line ends, spaces. */
static void one_pattern_cuts_the_whole_text(void **state)
{
    cuts(PRE_GPT2, "I|'m| 1234| '|LL| x|!?|\n|\n|y|  | z| ");
    cuts(PRE_LLAMA3, "I|'m| |123|4| \xc3\x9c"
                     "bung|\n\n|foo|'LL|!\n|  | z| ");
    cuts(PRE_QWEN2, "I|'m| |1|2|3|4| \xc3\x9c"
                    "bung|\n\n|foo|'LL|!\n|  | z| ");
}

static uint32_t random_char(uint32_t *rng)
{
    static const uint32_t likely[] = {' ',    ' ',    '\n',   '\r',   '\t',  '\'',  's',
                                      'S',    'l',    'e',    '1',    '9',   '.',   '$',
                                      0x180e, 0x3000, 0x4e00, 0xac00, 0x627, 0x301, 0x1f600};
    *rng = *rng * 1664525u + 1013904223u;
    const uint32_t r = *rng >> 8;
    if (r % 4 != 0) {
        return likely[r / 4 % ARRAY_SIZE(likely)];
    }
    const uint32_t c = r / 4 % 0x110000;
    return c - 0xd800u < 0x800u ? 0xfffd : c;
}

/* Goal: words cover the text without gaps, begin and end at characters' borders, and a matcher that
 * is used again gives the same. Method: random texts, every pre-tokenizer. */
static void words_cover_any_text(void **state)
{
    uint32_t rng = 7;

    for (int pre = PRE_NONE + 1; pre < PRE_COUNT; pre++) {
        struct cutter c = cutter_of((enum vocab_pre)pre);
        for (int round = 0; round < 400; round++) {
            char text[4 * 64];
            size_t n = 0, ends[4 * 64], n_ends = 0;
            for (int i = 0; i < 64; i++) {
                n += utf8_encode(random_char(&rng), (uint8_t *)text + n);
            }
            pretok_begin(c.p, text, n);
            for (size_t at = 0, end = 0; at < n; at = end) {
                assert_int_equal(pretok_next(c.p, &end), PRETOK_OK);
                assert_true(end > at && end <= n);
                assert_true(end == n || ((uint8_t)text[end] & 0xc0) != 0x80);
                ends[n_ends++] = end;
            }
            pretok_begin(c.p, text, n);
            for (size_t i = 0, end = 0; i < n_ends; i++) {
                assert_int_equal(pretok_next(c.p, &end), PRETOK_OK);
                assert_int_equal(end, ends[i]);
            }
        }
        cutter_free(&c);
    }
}

/* Goal: time grows with the text, not with its square. Method: a quarter of a megabyte of each of
 * the runs that a pattern could measure again from every place in them; squared that is many
 * minutes. */
static void long_runs_take_linear_time(void **state)
{
    static const char *const tails[] = {"x", "\n", "1", "\xe4\xb8\xad", ""};
    const size_t run = (size_t)1 << 18;
    char *text = malloc(run + 4);

    assert_non_null(text);
    for (int pre = PRE_NONE + 1; pre < PRE_COUNT; pre++) {
        struct cutter c = cutter_of((enum vocab_pre)pre);
        for (size_t k = 0; k < 5 * ARRAY_SIZE(tails); k++) {
            const char *tail = tails[k / 5];
            const size_t n = run + strlen(tail);
            memset(text, " !\r1a"[k % 5], run);
            memcpy(text + run, tail, n - run);
            pretok_begin(c.p, text, n);
            for (size_t at = 0; at < n;) {
                assert_int_equal(pretok_next(c.p, &at), PRETOK_OK);
            }
        }
        cutter_free(&c);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(falcon_cuts_punctuation_words_and_threes),
        cmocka_unit_test(deepseek_llm_cuts_in_six_rounds),
        cmocka_unit_test(one_pattern_cuts_the_whole_text),
        cmocka_unit_test(words_cover_any_text),
        cmocka_unit_test(long_runs_take_linear_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
