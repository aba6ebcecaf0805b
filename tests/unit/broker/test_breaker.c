#include "tests/support/test.h"

#include <stdio.h>

#include "daemon/broker/breaker.h"

#define S UINT64_C(1000000000)

static const struct breaker_limits limits = {.faults = 5, .open_ns = 30 * S};

/* Goal: it opens, probes and closes as written. Method: each row is a story; what an ask brings
 * (p pass, ! probe, - refuse), f fault, F the probe's, s success, S the probe's, n/N no word, and
 * digits are seconds that pass. */
static void it_opens_probes_and_closes(void **state)
{
    static const struct {
        const char *story, *why;
    } rows[] = {
        {"ffffp", "four faults are not enough"},
        {"fffff-", "five open it"},
        {"ffffsffffp", "a success in between starts the count anew"},
        {"fffff-9-9-9-3!-", "after 30 s one probe, and one alone"},
        {"fffff9993!Spffffp", "the probe's success closes it, and the count is 0"},
        {"fffff9993!F-9993!Sp", "the probe's fault opens it for another 30 s, at once"},
        {"fffff9993!N!-", "a probe that says nothing leaves the place to the next"},
        {"fffffs-", "what was let in before does not close it"},
        {"fffff9993!f-Sp", "nor does it open it again, or end the probe"},
        {"fffff99f93!", "nor make the rest longer"},
        {"nnnnnnp", "a client's errors are no faults"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct breaker b = {0};
        uint64_t now = 100 * S;

        for (const char *at = rows[i].story; *at; at++) {
            uint64_t wait = 0;
            enum breaker_verdict want = BREAKER_PASS;

            switch (*at) {
            case 'f':
            case 'F':
                (void)breaker_fault(&b, &limits, *at == 'F', now);
                continue;
            case 's':
            case 'S':
                (void)breaker_success(&b, *at == 'S');
                continue;
            case 'n':
            case 'N':
                breaker_no_word(&b, *at == 'N');
                continue;
            case '!':
                want = BREAKER_PROBE;
                break;
            case '-':
                want = BREAKER_REFUSE;
                break;
            case 'p':
                break;
            default:
                now += (uint64_t)(*at - '0') * S;
                continue;
            }
            if (breaker_ask(&b, now, &wait) != want) {
                fail_msg("%s: at '%s'", rows[i].story, at);
            }
            assert_true((want == BREAKER_REFUSE) == (wait > 0));
            assert_true(wait <= limits.open_ns);
        }
    }
}

static void it_says_when_it_changes_and_when_to_come_back(void **state)
{
    struct breaker b = {0};
    uint64_t wait = 0;
    (void)state;

    for (int i = 0; i < 4; i++) {
        assert_false(breaker_fault(&b, &limits, false, 0));
    }
    assert_true(breaker_fault(&b, &limits, false, 0));
    assert_false(breaker_fault(&b, &limits, false, S));
    assert_int_equal(breaker_ask(&b, 10 * S, &wait), BREAKER_REFUSE);
    assert_int_equal(wait, 20 * S);
    assert_int_equal(breaker_ask(&b, 30 * S, &wait), BREAKER_PROBE);
    assert_true(breaker_fault(&b, &limits, true, 31 * S));
    assert_int_equal(breaker_ask(&b, 31 * S, &wait), BREAKER_REFUSE);
    assert_int_equal(wait, 30 * S);
    assert_int_equal(breaker_ask(&b, 61 * S, &wait), BREAKER_PROBE);
    assert_true(breaker_success(&b, true));
    assert_false(breaker_success(&b, false));
}

static void zero_faults_mean_that_it_never_opens(void **state)
{
    const struct breaker_limits never = {.faults = 0, .open_ns = S};
    struct breaker b = {0};
    uint64_t wait = 0;
    (void)state;

    for (int i = 0; i < 100; i++) {
        assert_false(breaker_fault(&b, &never, false, 0));
        assert_int_equal(breaker_ask(&b, 0, &wait), BREAKER_PASS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_opens_probes_and_closes),
        cmocka_unit_test(it_says_when_it_changes_and_when_to_come_back),
        cmocka_unit_test(zero_faults_mean_that_it_never_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
