#include "tests/support/test.h"

#include "daemon/broker/log_gate.h"

static void a_window_has_so_many_lines_and_one_count_of_the_rest(void **state)
{
    struct log_gate g = {0};
    uint64_t more = 99, now = 5;
    (void)state;

    for (unsigned i = 0; i < LOG_GATE_LINES; i++) {
        assert_true(log_gate_pass(&g, now++, &more));
        assert_int_equal(more, 0);
    }
    for (unsigned i = 0; i < 1000; i++) {
        assert_false(log_gate_pass(&g, now++, &more));
        assert_int_equal(more, 0);
    }
    assert_int_equal(log_gate_close(&g, 4 + LOG_GATE_NS, false), 0); /* not over yet */
    assert_true(log_gate_pass(&g, 5 + LOG_GATE_NS, &more));
    assert_int_equal(more, 1000);
    assert_int_equal(log_gate_close(&g, 5 + 2 * LOG_GATE_NS, false), 0); /* told once */
}

static void the_count_can_be_told_without_another_line(void **state)
{
    struct log_gate g = {0};
    uint64_t more;
    (void)state;

    for (unsigned i = 0; i < LOG_GATE_LINES + 7; i++) {
        (void)!log_gate_pass(&g, 1, &more);
    }
    assert_int_equal(log_gate_close(&g, 2, true), 7);
    for (unsigned i = 0; i < LOG_GATE_LINES + 3; i++) {
        (void)!log_gate_pass(&g, 3, &more);
    }
    assert_int_equal(log_gate_close(&g, 3 + LOG_GATE_NS, false), 3);
    assert_int_equal(log_gate_close(&g, UINT64_MAX, true), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_has_so_many_lines_and_one_count_of_the_rest),
        cmocka_unit_test(the_count_can_be_told_without_another_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
