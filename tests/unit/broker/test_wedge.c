#include "tests/support/test.h"

#include "daemon/broker/wedge.h"

/* Looks until it is told to be stuck, at most n; 0: not in n. */
static unsigned looks_until(struct wedge_sight *w, bool busy, uint64_t progress, unsigned n)
{
    for (unsigned i = 1; i <= n; i++) {
        if (wedge_look(w, busy, progress)) {
            return i;
        }
    }
    return 0;
}

static void who_is_busy_and_stands_still_is_stuck(void **state)
{
    struct wedge_sight w = {0};
    (void)state;

    assert_int_equal(looks_until(&w, true, 7, 100), 1 + WEDGE_LOOKS); /* the first saw another */
    assert_int_equal(looks_until(&w, true, 7, 100), WEDGE_LOOKS);     /* told once, then anew */
}

static void who_gets_on_however_slowly_is_not(void **state)
{
    struct wedge_sight w = {0};
    (void)state;

    for (uint64_t progress = 1; progress < 100; progress++) {
        assert_int_equal(looks_until(&w, true, progress, WEDGE_LOOKS), 0);
    }
}

static void who_is_idle_is_not_for_any_time(void **state)
{
    struct wedge_sight w = {0};
    (void)state;

    assert_int_equal(looks_until(&w, false, 0, 1000), 0);
    assert_int_equal(looks_until(&w, true, 0, WEDGE_LOOKS - 1), 0);
    assert_int_equal(looks_until(&w, false, 0, 1), 0);
    assert_int_equal(looks_until(&w, true, 0, WEDGE_LOOKS - 1), 0);
}

static void faults_and_ticks_are_found_behind_any_name(void **state)
{
    static const char *const texts[] = {
        "12 (onebit-runner) S 1 12 12 0 -1 4194304 900 0 33 0 70 5 0 0 25 5 9 0 1234 1 2",
        "12 (a) R 1 2) (b) ) R 1 12 12 0 -1 4194304 900 0 33 0 70 5 0 0",
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        uint64_t faults = 0, ticks = 0;
        assert_true(wedge_stat(texts[i], &faults, &ticks));
        assert_int_equal(faults, 33);
        assert_int_equal(ticks, 75);
    }
}

static void what_ends_too_early_is_refused(void **state)
{
    static const char *const texts[] = {"", "12", "12 (a", "12 (a)", "12 (a) S 1 2 3", ")))"};
    uint64_t faults = 1, ticks = 2;
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        assert_false(wedge_stat(texts[i], &faults, &ticks));
    }
    assert_int_equal(faults, 1);
    assert_int_equal(ticks, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_busy_and_stands_still_is_stuck),
        cmocka_unit_test(who_gets_on_however_slowly_is_not),
        cmocka_unit_test(who_is_idle_is_not_for_any_time),
        cmocka_unit_test(faults_and_ticks_are_found_behind_any_name),
        cmocka_unit_test(what_ends_too_early_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
