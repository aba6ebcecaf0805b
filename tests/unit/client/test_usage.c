/* The command `onebit` without a daemon: its usage, its help, and what it says when it cannot
 * work. */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "client/onebit.h"
#include "tests/unit/client/command.h"

static void every_error_is_explained(void **state)
{
    for (int code = 1; onebit_error_info(code); code++) {
        const struct onebit_error_info *e = onebit_error_info(code);
        struct ran r;
        char number[8];
        RUN(&r, "", "explain", e->name);
        assert_int_equal(r.code, 0);
        assert_non_null(strstr(r.out, e->meaning));
        assert_non_null(strstr(r.out, e->hint));
        snprintf(number, sizeof(number), "%u", e->number);
        RUN(&r, "", "explain", number);
        assert_int_equal(r.code, 0);
        assert_non_null(strstr(r.out, e->name));
        RUN(&r, "", "explain");
        assert_int_equal(r.code, 0);
        assert_non_null(strstr(r.out, e->name));
    }
}

static void errors_are_explained_in_json_too(void **state)
{
    struct ran r;
    json_t *rows;

    RUN(&r, "", "explain", "--json", "413");
    assert_int_equal(r.code, 0);
    rows = json_loads(r.out, 0, NULL);
    assert_int_equal(json_array_size(rows), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 0), "name")),
                        onebit_error_info(ONEBIT_ERR_CONTEXT_TOO_LONG)->name);
    assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 0), "hint")),
                        onebit_error_info(ONEBIT_ERR_CONTEXT_TOO_LONG)->hint);
    json_decref(rows);
    RUN(&r, "", "explain", "--json", "nonsense");
    assert_int_equal(r.code, 64);
    assert_string_equal(r.out, "");
}

static void wrong_usage_is_told_and_ends_with_64(void **state)
{
    static const char *const all[][WORDS_MAX] = {
        {NULL},
        {"nonsense"},
        {"help", "nonsense"},
        {"explain", "nonsense"},
        {"explain", "a", "b"},
        {"run", "--nonsense", "hi"},
        {"run", "-n"},
        {"run", "-n", "0", "hi"},
        {"run", "-n", "many", "hi"},
        {"run", "-n", "-3", "hi"},
        {"run", "--temperature", "hot", "hi"},
        {"run", "--temperature", "nan", "hi"},
        {"run", "--seed", "18446744073709551616", "hi"},
        {"run", "--class", "first", "hi"},
        {"run", "--logprobs", "3", "hi"},
        {"run", "--json", "--logprobs", "21", "hi"},
        {"run", "--raw", "--system", "x", "hi"},
        {"run", ""},
        {"list", "x"},
        {"list", "-n", "3"},
        {"load"},
        {"load", "a", "b"},
        {"cancel"},
        {"cancel", "0"},
        {"cancel", "-1"},
        {"cancel", "x"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        struct ran r;
        run(&r, "", all[i]);
        assert_int_equal(r.code, 64);
        assert_string_equal(r.out, "");
        assert_string_not_equal(r.err, "");
    }
}

/* Goal: a wrong option is named as it was typed, with what it takes; the bounds are the
 * daemon's. */
static void wrong_values_are_told_with_what_the_option_takes(void **state)
{
    static const struct {
        const char *words[WORDS_MAX], *says;
    } all[] = {
        {{"run", "-n", "0", "hi"}, "-n: \"0\" is no whole number from 1 to 1048576"},
        {{"run", "--max-tokens=0", "hi"}, "--max-tokens: \"0\" is no whole number from 1 to"},
        {{"run", "--temperature", "10.5", "hi"},
         "--temperature: \"10.5\" is no number from 0 to 10"},
        {{"run", "--temperature", "-1", "hi"}, "--temperature: \"-1\" is no number from 0 to 10"},
        {{"run", "--top-p", "0", "hi"}, "--top-p: \"0\" is no number above 0 and at most 1"},
        {{"run", "--top-p", "1.1", "hi"}, "--top-p: \"1.1\" is no number above 0 and at most 1"},
        {{"run", "--min-p", "1", "hi"}, "--min-p: \"1\" is no number from 0 to below 1"},
        {{"run", "--repeat-penalty", "0", "hi"}, "\"0\" is no number from 0.1 to 10"},
        {{"run", "--repeat-penalty", "11", "hi"}, "\"11\" is no number from 0.1 to 10"},
        {{"run", "--seed", "-1", "hi"},
         "--seed: \"-1\" is no whole number from 0 to 18446744073709551615"},
        {{"run", "--class", "first", "hi"}, "--class: \"first\" is none of low, normal and high"},
        {{"run", "--stop", "", "hi"}, "--stop: takes a text of 1 to 256 bytes"},
        {{"run", "-n"}, "run: -n wants a value"},
        {{"run", "--seed"}, "run: --seed wants a value"},
        {{"run", "--raw=1", "hi"}, "run: --raw takes no value"},
        {{"run", "-vx", "hi"}, "run: unknown option -x"},
        {{"run", "--nonsense", "hi"}, "run: unknown option --nonsense"},
        {{"load"}, "load needs a MODEL"},
        {{"unload"}, "unload needs a MODEL"},
        {{"cancel"}, "cancel needs a REQUEST"},
        {{"load", "a", "b"}, "load: \"b\" is one argument too many"},
        {{"list", "x"}, "list: \"x\" is one argument too many"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        struct ran r;
        run(&r, "", all[i].words);
        assert_int_equal(r.code, 64);
        if (!strstr(r.err, all[i].says)) {
            fail_msg("\"%s\" does not say \"%s\"", r.err, all[i].says);
        }
    }
}

/* Goal: the ends of a range that belong to it are taken. Method: no daemon: 69 and not 64. */
static void the_bounds_themselves_are_taken(void **state)
{
    static const char *const all[][2] = {
        {"-n", "1"},
        {"-n", "1048576"},
        {"--temperature", "0"},
        {"--temperature", "10"},
        {"--top-p", "1"},
        {"--top-p", "0.000001"},
        {"--min-p", "0"},
        {"--repeat-penalty", "0.1"},
        {"--repeat-penalty", "10"},
        {"--top-k", "0"},
        {"--top-k", "2147483647"},
        {"--seed", "18446744073709551615"},
        {"--deadline", "0"},
        {"--deadline", "4294967295"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        struct ran r;
        RUN(&r, "", "run", "-s", "/nonexistent/onebit.sock", all[i][0], all[i][1], "hi");
        assert_int_equal(r.code, 69);
    }
}

static void help_and_version_are_no_errors(void **state)
{
    static const char *const all[][WORDS_MAX] = {
        {"--help"},       {"-h"},           {"help"},          {"help", "run"},  {"run", "--help"},
        {"chat", "-h"},   {"list", "-h"},   {"ps", "-h"},      {"status", "-h"}, {"load", "--help"},
        {"unload", "-h"}, {"cancel", "-h"}, {"explain", "-h"}, {"--version"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        struct ran r;
        run(&r, "", all[i]);
        assert_int_equal(r.code, 0);
        assert_string_not_equal(r.out, "");
        assert_string_equal(r.err, "");
    }
}

static void without_a_daemon_every_verb_ends_with_69_and_a_hint(void **state)
{
    static const char *const verbs[] = {"run",    "chat", "list",   "ps",
                                        "status", "load", "unload", "cancel"};

    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        const bool bare = i >= 1 && i <= 4;
        struct ran r;
        RUN(&r, "", verbs[i], "-s", "/nonexistent/onebit.sock", bare ? NULL : "1");
        assert_int_equal(r.code, 69);
        assert_string_equal(r.out, "");
        assert_non_null(strstr(r.err, "/nonexistent/onebit.sock"));
        assert_non_null(strstr(r.err, "onebitd"));
    }
}

static void a_full_disk_is_reported(void **state)
{
    const int in = memory_file(""), full = open("/dev/full", O_WRONLY), err = memory_file("");
    const char *const words[WORDS_MAX] = {"explain"};
    char text[512];
    int status;
    const pid_t pid = start(words, in, full, err);

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status_code(status), 74);
    read_back(err, text, sizeof(text));
    assert_non_null(strstr(text, strerror(ENOSPC)));
    close(in);
    close(full);
}

/* Goal: without a standard output nothing is asked for nobody and nothing hangs, and no descriptor
 * of our own takes its number. Method: no daemon is there, so that whoever connects ends
 * otherwise. */
static void a_missing_standard_output_ends_what_prints_at_once(void **state)
{
    static const char *const all[][WORDS_MAX] = {
        {"run", "-s", "/nonexistent", "hi"},
        {"run", "-s", "/nonexistent", "--json", "hi"},
        {"chat", "-s", "/nonexistent"},
        {"list", "-s", "/nonexistent"},
        {"ps", "-s", "/nonexistent"},
        {"status", "-s", "/nonexistent"},
        {"explain"},
        {"help"},
        {"--help"},
        {"--version"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        const int in = memory_file("hello\n"), err = memory_file("");
        char text[512];
        int status;
        pid_t pid = start(all[i], in, -1, err);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status_code(status), 74);
        read_back(err, text, sizeof(text));
        assert_non_null(strstr(text, strerror(EBADF)));
        pid = start(all[i], -1, -1, -1);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status_code(status), 74);
        close(in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_is_explained),
        cmocka_unit_test(errors_are_explained_in_json_too),
        cmocka_unit_test(wrong_usage_is_told_and_ends_with_64),
        cmocka_unit_test(wrong_values_are_told_with_what_the_option_takes),
        cmocka_unit_test(the_bounds_themselves_are_taken),
        cmocka_unit_test(help_and_version_are_no_errors),
        cmocka_unit_test(without_a_daemon_every_verb_ends_with_69_and_a_hint),
        cmocka_unit_test(a_full_disk_is_reported),
        cmocka_unit_test(a_missing_standard_output_ends_what_prints_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
