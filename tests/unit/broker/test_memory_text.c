/* memory_text: what the kernel's files say, and that nothing else is believed. */
#include "tests/support/test.h"

#include <string.h>

#include "daemon/broker/memory_text.h"

static void numbers_are_digits_that_fit(void **state)
{
    uint64_t n = 7;
    (void)state;

    assert_true(text_number(&n, " \t42 kB\n"));
    assert_int_equal(n, 42);
    assert_true(text_number(&n, "18446744073709551615"));
    assert_true(n == UINT64_MAX);
    static const char *const none[] = {
        "", " ", "-1", "max", "+3", "18446744073709551616", "99999999999999999999999", "\n5"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        n = 7;
        assert_false(text_number(&n, none[i]));
        assert_int_equal(n, 7);
    }
}

static void a_key_is_a_whole_word_at_a_line_s_beginning(void **state)
{
    static const char vmstat[] = "pgmajfaults 1\nxpgmajfault 2\npgmajfault 3\noom_kill 4";
    uint64_t n = 0;
    (void)state;

    assert_true(text_keyed(&n, vmstat, "pgmajfault"));
    assert_int_equal(n, 3);
    assert_true(text_keyed(&n, vmstat, "oom_kill")); /* no newline at the end */
    assert_int_equal(n, 4);
    assert_false(text_keyed(&n, vmstat, "pgmaj"));
    assert_false(text_keyed(&n, "", "x"));
    assert_true(text_kilobytes(&n, "MemTotal:  8 kB\nMemAvailable:    3 kB\n", "MemAvailable"));
    assert_int_equal(n, 3072);
    assert_false(text_kilobytes(&n, "MemTotal: 18446744073709551615 kB\n", "MemTotal"));
}

static void stalls_are_the_totals(void **state)
{
    struct memory_stall s = {.some_us = 9};
    (void)state;

    assert_true(text_stall(&s, "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n"
                               "full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"));
    assert_int_equal(s.some_us, 12);
    assert_int_equal(s.full_us, 5);
    assert_true(text_stall(&s, "some avg10=0.00 total=13\n"));
    assert_int_equal(s.full_us, 0);
    assert_false(text_stall(&s, "full avg10=0 total=5\n"));
    assert_false(text_stall(&s, "some avg10=0\nfull total=5\n")); /* of another line */
    assert_false(text_stall(&s, "some total=x"));
    assert_int_equal(s.some_us, 13);
}

static void no_limit_has_many_names(void **state)
{
    (void)state;
    assert_int_equal(text_limit("314572800\n"), 314572800);
    assert_int_equal(text_limit("0\n"), 0);
    assert_true(text_limit("max\n") == UINT64_MAX);
    assert_true(text_limit("9223372036854771712\n") == UINT64_MAX);
    assert_true(text_limit("") == UINT64_MAX);
}

static void our_cgroup_is_found_in_either_version(void **state)
{
    static const char hybrid[] = "9:name=systemd:/a\n4:cpu,memory:/m/n\n1:memoryx:/no\n0::/u\n";
    char path[16];
    (void)state;

    assert_true(text_cgroup(path, sizeof(path), hybrid, "memory"));
    assert_string_equal(path, "/m/n");
    assert_true(text_cgroup(path, sizeof(path), hybrid, ""));
    assert_string_equal(path, "/u");
    assert_true(text_cgroup(path, sizeof(path), "0::/\n", ""));
    assert_string_equal(path, "");
    assert_false(text_cgroup(path, sizeof(path), "0::/\n", "memory"));
    assert_false(text_cgroup(path, sizeof(path), "0::/../x\n", "")); /* outside of ours */
    assert_false(text_cgroup(path, sizeof(path), "0::/x/..\n", ""));
    assert_true(text_cgroup(path, sizeof(path), "0::/x/..y\n", ""));
    assert_false(text_cgroup(path, sizeof(path), "0::/a-name-that-is-too-long\n", ""));
    assert_false(text_cgroup(path, sizeof(path), "0::\n", ""));
    assert_false(text_cgroup(path, sizeof(path), "0", ""));
    assert_false(text_cgroup(path, sizeof(path), "", ""));
}

static void major_faults_are_found_behind_any_name(void **state)
{
    uint64_t n = 0;
    (void)state;

    assert_true(text_major_faults(&n, "12 (one) 9 9 9 9 9) S 1 2 3 4 5 6 7 8 99 10 11\n"));
    assert_int_equal(n, 99);
    assert_false(text_major_faults(&n, "12 (one) S 1 2 3"));
    assert_false(text_major_faults(&n, ""));
}

static void base64_is_decoded_or_refused(void **state)
{
    uint8_t out[64];
    (void)state;

    assert_int_equal(text_base64(out, sizeof(out), "c29tZSAyMDAwMDAgMjAwMDAwMAA="), 20);
    assert_memory_equal(out, "some 200000 2000000", 20);
    assert_int_equal(text_base64(out, sizeof(out), ""), 0);
    assert_int_equal(text_base64(out, sizeof(out), "QQ=="), 1);
    assert_int_equal(text_base64(out, sizeof(out), "QUI="), 2);
    assert_int_equal(text_base64(out, 2, "QUJD"), -1); /* no room */
    static const char *const bad[] = {"QQ=", "Q", "Q=Q=", "====", "QU\nD", "Q\303\244A", "=QQQ"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(text_base64(out, sizeof(out), bad[i]), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_digits_that_fit),
        cmocka_unit_test(a_key_is_a_whole_word_at_a_line_s_beginning),
        cmocka_unit_test(stalls_are_the_totals),
        cmocka_unit_test(no_limit_has_many_names),
        cmocka_unit_test(our_cgroup_is_found_in_either_version),
        cmocka_unit_test(major_faults_are_found_behind_any_name),
        cmocka_unit_test(base64_is_decoded_or_refused),
    };

    return cmocka_run_group_tests_name("memory_text", tests, NULL, NULL);
}
