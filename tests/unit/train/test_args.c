#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "train/args.h"
#include "train/train.h"

#define WORDS_MAX 40

static const char *const colours[] = {"red", "green", NULL};

struct values {
    const char *first, *second, *text;
    struct arg_texts texts;
    uint64_t whole;
    double real;
    unsigned colour;
    bool flag;
};

static struct values v;
static struct arg args[8];

static void reset(void)
{
    v = (struct values){.whole = 7, .real = 0.5, .colour = 1};
    const struct arg fresh[] = {
        {"FIRST", NULL, "one", ARG_TEXT, &v.first},
        {"SECOND", NULL, "two", ARG_TEXT, &v.second},
        {"--text", "T", "three", ARG_TEXT, &v.text},
        {"--texts", "T", "four", ARG_TEXTS, &v.texts},
        {"--whole", "N", "five", ARG_INT, &v.whole, .lo = 1, .hi = 100},
        {"--real", "X", "six", ARG_REAL, &v.real, .flo = 0, .fhi = 1},
        {"--colour", "C", "seven", ARG_WORD, &v.colour, .words = colours},
        {"--flag", NULL, "eight", ARG_FLAG, &v.flag},
    };
    memcpy(args, fresh, sizeof(args));
}

/* A command line of words that single spaces part. */
static int parse(const char *line)
{
    static char copy[512];
    char *words[WORDS_MAX];
    int n = 0;

    reset();
    (void)snprintf(copy, sizeof(copy), "%s", line);
    for (char *p = strtok(copy, " "); p; p = strtok(NULL, " ")) {
        words[n++] = p;
    }
    return args_parse(args, ARRAY_SIZE(args), n, words);
}

static void every_kind_is_taken_in_both_spellings(void **state)
{
    assert_int_equal(parse("a --whole 3 --real=.25 b --colour red --flag --text=x=y --texts 1 "
                           "--texts 2"),
                     TRAIN_OK);
    assert_string_equal(v.first, "a");
    assert_string_equal(v.second, "b");
    assert_string_equal(v.text, "x=y");
    assert_true(v.whole == 3 && v.real == 0.25 && v.colour == 0 && v.flag && v.texts.n == 2);
    assert_string_equal(v.texts.at[1], "2");
    assert_true(args_given(args, ARRAY_SIZE(args), "--whole"));
    assert_int_equal(parse("-- --text"), TRAIN_OK);
    assert_string_equal(v.first, "--text");
    assert_false(args_given(args, ARRAY_SIZE(args), "--whole"));
    assert_true(v.whole == 7 && v.real == 0.5 && v.colour == 1 && !v.flag && v.texts.n == 0);
}

static void what_is_not_known_or_out_of_bounds_is_refused(void **state)
{
    static const char *const bad[] = {"--wholes 3",   "--whol 3",
                                      "--whole",      "--whole 0",
                                      "--whole 101",  "--whole -1",
                                      "--whole +1",   "--whole 3x",
                                      "--whole=",     "--real 1.5",
                                      "--real nan",   "--real -0",
                                      "--real 1e999", "--colour blue",
                                      "--flag=yes",   "a b c",
                                      "-x",           "--whole 99999999999999999999"};
    char many[512] = "";

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (parse(bad[i]) != TRAIN_USAGE) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    for (unsigned i = 0; i <= ARG_TEXTS_MAX; i++) {
        strcat(many, "--texts=x ");
    }
    assert_int_equal(parse(many), TRAIN_USAGE);
}

static void help_says_every_default(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    reset();
    args_help(f, args, ARRAY_SIZE(args));
    assert_int_equal(fclose(f), 0);
    assert_non_null(strstr(text, "five (default 7)"));
    assert_non_null(strstr(text, "six (default 0.5)"));
    assert_non_null(strstr(text, "seven (default green)"));
    assert_non_null(strstr(text, "--flag"));
    free(text);
    char *ask[] = {(char[]){"a"}, (char[]){"--help"}}, *data[] = {(char[]){"--"}, ask[1]};
    assert_true(args_wants_help(2, ask) && !args_wants_help(2, data));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_is_taken_in_both_spellings),
        cmocka_unit_test(what_is_not_known_or_out_of_bounds_is_refused),
        cmocka_unit_test(help_says_every_default),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
