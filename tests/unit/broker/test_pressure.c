/* The levels of memory pressure: every row of the table, and what holds whatever is seen. */
#include "tests/support/test.h"

#include "base/clock.h"
#include "base/compiler.h"
#include "daemon/broker/pressure.h"

#define CALM_NS (30 * NS_PER_S)

static const struct memory_look calm = {.has_psi = true, .has_available = true, .available = 0.30};

static enum pressure_level look_for(struct pressure *p, const struct memory_look *l, uint64_t *now,
                                    unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        *now += NS_PER_S;
        (void)pressure_look(p, l, *now, CALM_NS);
    }
    return p->level;
}

/* What is seen, once a second, for so many looks: after the last the level is there, and with one
 * look less it is `before`. */
struct case_ {
    struct memory_look look;
    unsigned n;
    enum pressure_level before, level;
};

#define PSI .has_psi = true, .has_available = true, .available = 0.30
#define POLL .has_available = true, .available = 0.30

static void every_row_of_the_table_leads_to_its_level(void **state)
{
    static const struct case_ cases[] = {
        {{PSI, .some_ms = 99, .full_ms = 49}, 9, PRESSURE_NORMAL, PRESSURE_NORMAL},
        {{PSI, .some_ms = 100}, 1, PRESSURE_NORMAL, PRESSURE_TRIM},
        {{PSI, .told = true}, 1, PRESSURE_NORMAL, PRESSURE_TRIM},
        {{.has_available = true, .available = 0.149}, 1, PRESSURE_NORMAL, PRESSURE_TRIM},
        {{.has_available = true, .available = 0.15}, 9, PRESSURE_NORMAL, PRESSURE_NORMAL},
        {{POLL, .major_faults = 6}, 2, PRESSURE_NORMAL, PRESSURE_TRIM},
        {{POLL, .slow = 2, .refaults = 500}, 3, PRESSURE_NORMAL, PRESSURE_TRIM},
        {{POLL, .slow = 9}, 20, PRESSURE_NORMAL, PRESSURE_NORMAL}, /* heat, or a neighbour */
        {{PSI, .some_ms = 200}, 3, PRESSURE_TRIM, PRESSURE_SHED},
        {{PSI, .full_ms = 50}, 1, PRESSURE_NORMAL, PRESSURE_SHED},
        {{.has_available = true, .available = 0.099}, 1, PRESSURE_NORMAL, PRESSURE_SHED},
        {{POLL, .major_faults = 51}, 6, PRESSURE_TRIM, PRESSURE_SHED},
        {{POLL, .slow = 4, .refaults = 500}, 6, PRESSURE_TRIM, PRESSURE_SHED},
        {{PSI, .full_ms = 150}, 2, PRESSURE_SHED, PRESSURE_PAUSE},
        {{.has_available = true, .available = 0.059}, 1, PRESSURE_NORMAL, PRESSURE_PAUSE},
        {{PSI, .high_events = true}, 3, PRESSURE_NORMAL, PRESSURE_PAUSE},
        {{.has_available = true, .available = 0.029}, 1, PRESSURE_NORMAL, PRESSURE_SURVIVE},
        {{PSI, .oom_kills = 1}, 1, PRESSURE_NORMAL, PRESSURE_SURVIVE},
        {{.has_available = true, .available = 0.5, .oom_kills = 1},
         9,
         PRESSURE_NORMAL,
         PRESSURE_NORMAL},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct case_ *c = &cases[i];
        struct pressure p = {0};
        uint64_t now = NS_PER_S;
        if (look_for(&p, &c->look, &now, c->n - 1) != c->before && c->n > 1) {
            fail_msg("case %zu: too early at %s", i, pressure_name(p.level));
        }
        if (look_for(&p, &c->look, &now, 1) != c->level) {
            fail_msg("case %zu: %s", i, pressure_name(p.level));
        }
    }
}

/* Somebody reads a file that is larger than memory: pages come and go, and all of it is there to
 * be had. */
static void page_cache_alone_raises_nothing(void **state)
{
    const struct memory_look reading = {.has_psi = true,
                                        .has_available = true,
                                        .available = 0.6,
                                        .some_ms = 400,
                                        .full_ms = 100,
                                        .refaults = 50000,
                                        .slow = 3,
                                        .major_faults = 20};
    struct pressure p = {0};
    uint64_t now = NS_PER_S;
    (void)state;

    assert_int_equal(look_for(&p, &reading, &now, 600), PRESSURE_NORMAL);
    struct memory_look poll = reading;
    poll.has_psi = false;
    assert_int_equal(look_for(&p, &poll, &now, 600), PRESSURE_NORMAL);
}

static void levels_are_left_one_by_one_and_not_before_it_has_been_calm(void **state)
{
    struct memory_look l = calm;
    struct pressure p = {0};
    uint64_t now = NS_PER_S;
    (void)state;

    l.available = 0.02;
    assert_int_equal(look_for(&p, &l, &now, 1), PRESSURE_SURVIVE);
    l.available = 0.079; /* past 3 %, but not by five points */
    assert_int_equal(look_for(&p, &l, &now, 100), PRESSURE_SURVIVE);
    assert_true(pressure_down_ns(&p, PRESSURE_NORMAL, now, CALM_NS) == 4 * CALM_NS);
    l.available = 0.30;
    for (int level = PRESSURE_SURVIVE; level > PRESSURE_NORMAL; level--) {
        assert_int_equal(look_for(&p, &l, &now, level == PRESSURE_SURVIVE ? 30 : 29), level);
        assert_int_equal(look_for(&p, &l, &now, 1), level - 1);
    }
    assert_true(pressure_down_ns(&p, PRESSURE_NORMAL, now, CALM_NS) == 0);
}

static void a_short_relief_is_none(void **state)
{
    struct memory_look l = calm;
    struct pressure p = {0};
    uint64_t now = NS_PER_S;
    (void)state;

    for (unsigned i = 0; i < 60; i++) { /* five seconds on, five off */
        l.available = i % 2 == 0 ? 0.08 : 0.5;
        assert_int_equal(look_for(&p, &l, &now, 5), PRESSURE_SHED);
        assert_true((p.pressed_ns > 0) == (i % 2 == 0));
    }
}

/* Goal: whatever the sensors say, a level is left for the next lower one only, and only after
 * calm_ns without a look that would have entered it. */
static void no_level_is_skipped_on_the_way_down_and_none_left_early(void **state)
{
    uint64_t x = 88172645463325252u;
    struct pressure p = {0};
    uint64_t now = NS_PER_S, reached_ns = now;
    (void)state;

    for (unsigned i = 0; i < 200000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        const bool bad = i / 500 % 2 == 0;
        const struct memory_look l = {
            .has_psi = x & 1,
            .has_available = (x >> 1 & 7) > 0,
            .available = bad ? (double)(x >> 8 & 255) / 255 : 0.5,
            .some_ms = bad ? (double)(x >> 16 & 511) : 0,
            .full_ms = bad && (x >> 32 & 63) == 0 ? 200 : 0,
            .major_faults = bad ? (double)(x >> 24 & 63) : 0,
            .oom_kills = bad && (x >> 40 & 1023) == 0,
        };
        const enum pressure_level before = p.level;
        now += (x >> 50 & 1023) * NS_PER_MS + 1;
        (void)pressure_look(&p, &l, now, CALM_NS);
        assert_true(p.level >= before || p.level + 1 == before);
        if (p.level < before) {
            assert_true(now - reached_ns >= CALM_NS);
        }
        if (l.has_available && l.available < 0.03) {
            assert_int_equal(p.level, PRESSURE_SURVIVE);
        }
        reached_ns = p.level != before ? now : reached_ns;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_of_the_table_leads_to_its_level),
        cmocka_unit_test(page_cache_alone_raises_nothing),
        cmocka_unit_test(levels_are_left_one_by_one_and_not_before_it_has_been_calm),
        cmocka_unit_test(a_short_relief_is_none),
        cmocka_unit_test(no_level_is_skipped_on_the_way_down_and_none_left_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
