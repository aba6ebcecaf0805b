#include "tests/support/test.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "daemon/broker/victim.h"

#define MIB (UINT64_C(1) << 20)
#define NOW (1000 * NS_PER_S)

/* Three models of 250 MiB, of which the middle one is worth least. */
static const struct candidate three[] = {
    {.bytes = 250 * MIB, .worth = 3},
    {.bytes = 250 * MIB, .worth = 1},
    {.bytes = 250 * MIB, .worth = 2},
};

static struct room find(const struct candidate *c, size_t n, struct room_need need)
{
    need.now_ns = NOW;
    return room_find(c, n, &need);
}

static const struct room_need none_left = {.bytes = 250 * MIB, .bytes_free = 0, .places_free = 1};

static void where_there_is_room_nobody_leaves(void **state)
{
    const struct room_need enough = {.bytes = 5, .bytes_free = 5, .places_free = 1};
    (void)state;

    assert_int_equal(find(three, 3, enough).verdict, ROOM_NOW);
    assert_int_equal(find(NULL, 0, enough).verdict, ROOM_NOW);
}

static void a_place_counts_as_bytes_do(void **state)
{
    const struct room_need no_place = {.bytes = 5, .bytes_free = 500, .places_free = 0};
    const struct room r = find(three, 3, no_place);
    (void)state;

    assert_int_equal(r.verdict, ROOM_DROP);
    assert_int_equal(r.victim, 1);
    assert_int_equal(find(NULL, 0, no_place).verdict, ROOM_NEVER);
}

/* Goal: each reason not to take the cheapest one. Method: a table of what is said of it. */
static void the_cheapest_leaves_unless_something_speaks_for_it(void **state)
{
    static const struct {
        struct candidate cheapest;
        enum room_verdict verdict;
        size_t victim;
    } table[] = {
        {{.bytes = 250 * MIB, .worth = 1}, ROOM_DROP, 1},
        {{.bytes = 250 * MIB, .worth = 1, .pinned = true}, ROOM_DROP, 2},
        {{.bytes = 250 * MIB, .worth = 1, .used = true}, ROOM_DROP, 2},
        {{.bytes = 250 * MIB, .worth = 1, .used = true, .held = true}, ROOM_DROP, 2},
        {{.bytes = 250 * MIB, .worth = 1, .until_ns = NOW + 1}, ROOM_DROP, 2},
        {{.bytes = 250 * MIB, .worth = 1, .until_ns = NOW}, ROOM_DROP, 1},
        {{.bytes = 249 * MIB, .worth = 1}, ROOM_DROP, 2}, /* another would have to leave, too */
        {{.bytes = 250 * MIB, .worth = 9, .used = true, .draining = true}, ROOM_DROP, 2},
        {{.bytes = 250 * MIB, .worth = 1, .used = true, .draining = true}, ROOM_DROP, 1},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const struct candidate c[] = {three[0], table[i].cheapest, three[2]};
        const struct room r = find(c, 3, none_left);
        assert_int_equal(r.verdict, table[i].verdict);
        assert_int_equal(r.victim, table[i].victim);
    }
}

static void where_all_have_work_one_drains_and_stays_chosen(void **state)
{
    struct candidate c[] = {three[0], three[1], three[2]};
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        c[i].used = c[i].held = true;
    }
    struct room r = find(c, 3, none_left);
    assert_int_equal(r.verdict, ROOM_DRAIN);
    assert_int_equal(r.victim, 1);
    c[1].draining = true;
    c[1].worth = 10; /* others are worth less meanwhile */
    r = find(c, 3, none_left);
    assert_int_equal(r.verdict, ROOM_DRAIN);
    assert_int_equal(r.victim, 1);
    c[1].held = false; /* those that wait for it wait on */
    r = find(c, 3, none_left);
    assert_int_equal(r.verdict, ROOM_DROP);
    assert_int_equal(r.victim, 1);
}

static void where_all_are_new_the_oldest_is_waited_for(void **state)
{
    struct candidate c[] = {three[0], three[1], three[2]};
    (void)state;

    c[0].until_ns = NOW + 30;
    c[1].until_ns = NOW + 20;
    c[2].until_ns = NOW + 10;
    c[2].pinned = true;
    const struct room r = find(c, 3, none_left);
    assert_int_equal(r.verdict, ROOM_WAIT);
    assert_true(r.at_ns == NOW + 20);
}

static void what_never_fits_is_told_with_what_there_could_be(void **state)
{
    struct candidate c[] = {three[0], three[1], three[2]};
    (void)state;

    c[0].pinned = true;
    c[1].held = c[1].used = true; /* it will end */
    c[2].until_ns = NOW + 5;
    struct room_need need = {.bytes = 501 * MIB, .bytes_free = MIB, .places_free = 1};
    assert_int_equal(find(c, 3, need).verdict, ROOM_DRAIN);
    need.bytes += 1;
    const struct room r = find(c, 3, need);
    assert_int_equal(r.verdict, ROOM_NEVER);
    assert_true(r.bytes == 501 * MIB);
}

static void swaps_past_their_bound_wait(void **state)
{
    struct swaps s = {0};
    struct room_need need = none_left;
    (void)state;

    assert_true(swaps_wait_ns(&s, 0, NOW) == UINT64_MAX); /* an explicit 0 means zero */
    for (unsigned i = 0; i < 3; i++) {
        assert_true(swaps_wait_ns(&s, 3, NOW + i * NS_PER_S) == 0);
        swaps_count(&s, NOW + i * NS_PER_S);
    }
    assert_true(swaps_wait_ns(&s, 3, NOW + 10 * NS_PER_S) == 50 * NS_PER_S);
    assert_true(swaps_wait_ns(&s, 4, NOW + 10 * NS_PER_S) == 0);
    assert_true(swaps_wait_ns(&s, 3, NOW + 60 * NS_PER_S) == 0);
    need.swap_wait_ns = 50 * NS_PER_S;
    const struct room r = find(three, 3, need);
    assert_int_equal(r.verdict, ROOM_WAIT);
    assert_true(r.at_ns == NOW + 50 * NS_PER_S);
    need.swap_wait_ns = UINT64_MAX;
    assert_int_equal(find(three, 3, need).verdict, ROOM_NEVER);
}

static void the_window_of_swaps_is_a_ring(void **state)
{
    struct swaps s = {0};
    (void)state;

    for (uint64_t i = 0; i < 1000; i++) {
        swaps_count(&s, NOW + i * NS_PER_S);
    }
    assert_true(s.n_ever == 1000);
    /* of the last minute: 60; the one that has to grow old first is the 30th from the end */
    assert_true(swaps_wait_ns(&s, 30, NOW + 999 * NS_PER_S) == 31 * NS_PER_S);
    assert_true(swaps_wait_ns(&s, SWAPS_MAX, NOW + 999 * NS_PER_S) == 0);
}

static void a_model_is_worth_its_load_as_often_as_it_is_used(void **state)
{
    struct use often = {0}, once = {0}, never = {0};
    (void)state;

    for (unsigned i = 0; i < 10; i++) {
        use_count(&often, NOW + i);
    }
    use_count(&once, NOW);
    assert_true(worth_of(1000, &often, MIB, NOW) > 9 * worth_of(1000, &once, MIB, NOW));
    assert_true(worth_of(1000, &once, MIB, NOW) > worth_of(1000, &never, MIB, NOW));
    assert_true(worth_of(2000, &never, MIB, NOW) > worth_of(1000, &never, MIB, NOW));
    assert_true(worth_of(1000, &once, MIB, NOW) > worth_of(1000, &once, 2 * MIB, NOW));
    /* an hour later nobody knows any more who was asked ten times, */
    assert_true(use_now(&often, NOW + 3600 * NS_PER_S) < 0.2);
    /* and a clock that a model is older than does no harm */
    assert_true(use_now(&often, NOW - 5 * NS_PER_S) == often.n);
    assert_true(worth_of(0, &never, 0, NOW) > 0);
}

static void quick_loads_may_leave_sooner(void **state)
{
    (void)state;
    assert_true(stay_ns(1000, 10 * NS_PER_S) == STAY_LOADS * NS_PER_MS);
    assert_true(stay_ns(1000 * 1000, 10 * NS_PER_S) == 10 * NS_PER_S);
    assert_true(stay_ns(UINT64_MAX, 10 * NS_PER_S) == 10 * NS_PER_S);
    assert_true(stay_ns(1000 * 1000, 0) == 0);
}

#define STAY (5 * NS_PER_S)
#define PATIENCE (CLAIM_PATIENCE_S * NS_PER_S)

static void a_higher_class_is_loaded_for_first_until_patience_ends(void **state)
{
    const struct claim low = {CLASS_LOW, NOW}, high = {CLASS_HIGH, NOW + 2 * NS_PER_S};
    const struct claim older = {CLASS_HIGH, NOW}, pinned = {CLASS_HIGH, 0};
    const struct claim nobody = {CLASS_LOW, UINT64_MAX};
    (void)state;

    assert_true(claim_before(&high, &low, NOW + 3 * NS_PER_S));
    assert_false(claim_before(&low, &high, NOW + 3 * NS_PER_S));
    assert_true(claim_before(&older, &high, NOW + 3 * NS_PER_S));
    assert_false(claim_before(&low, &low, NOW));
    /* who has waited a minute is overtaken by nobody who came later, */
    assert_true(claim_before(&low, &high, NOW + PATIENCE));
    assert_true(claim_before(&pinned, &low, NOW + PATIENCE)); /* pinned models come before all */
    assert_true(claim_before(&low, &nobody, NOW));
}

/* Goal: a lower class does not displace what a higher one uses or used a moment ago, for a minute
 * at most; a higher or the same class does as ever. Method: a table of who claims and who used. */
static void a_model_stays_for_a_higher_class_than_the_one_that_wants_its_place(void **state)
{
    static const struct {
        struct standing standing;
        enum request_class class_;
        uint64_t waited_ns, until_ns;
    } table[] = {
        {{.used_by = -1}, CLASS_LOW, 0, 0},
        {{.used_by = CLASS_HIGH}, CLASS_LOW, 0, NOW + PATIENCE},
        {{.used_by = CLASS_NORMAL}, CLASS_LOW, NS_PER_S, NOW - NS_PER_S + PATIENCE},
        {{.used_by = CLASS_NORMAL}, CLASS_NORMAL, 0, 0},
        {{.used_by = CLASS_LOW}, CLASS_HIGH, 0, 0},
        {{.used_by = CLASS_HIGH}, CLASS_LOW, PATIENCE, 0},
        {{-1, {[CLASS_HIGH] = NOW - NS_PER_S}}, CLASS_LOW, 0, NOW - NS_PER_S + STAY},
        {{-1, {[CLASS_HIGH] = NOW - NS_PER_S}}, CLASS_NORMAL, 0, NOW - NS_PER_S + STAY},
        {{-1, {[CLASS_HIGH] = NOW - NS_PER_S}}, CLASS_HIGH, 0, 0},
        {{-1, {[CLASS_NORMAL] = NOW, [CLASS_HIGH] = NOW - STAY}}, CLASS_LOW, 0, NOW + STAY},
        {{-1, {[CLASS_LOW] = NOW}}, CLASS_LOW, 0, 0},
        {{-1, {[CLASS_HIGH] = NOW}}, CLASS_LOW, PATIENCE - NS_PER_S, NOW + NS_PER_S},
        {{-1, {[CLASS_HIGH] = NOW}}, CLASS_LOW, PATIENCE, 0},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const struct claim c = {table[i].class_, NOW - table[i].waited_ns};
        assert_true(standing_ns(&table[i].standing, &c, STAY, NOW) == table[i].until_ns);
    }
    const struct claim pinned = {CLASS_HIGH, 0}, nobody = {CLASS_LOW, UINT64_MAX};
    const struct standing used = {.used_by = CLASS_HIGH, .left_ns = {[CLASS_HIGH] = NOW}};
    assert_true(standing_ns(&used, &pinned, STAY, NOW) == 0);
    assert_true(standing_ns(&used, &nobody, STAY, NOW) == 0); /* there is nobody to wait */
}

/* Goal: as much by the choice itself. Method: a low claim on two models, of which the one that is
 * worth less was a high request's. */
static void the_choice_falls_on_what_only_lower_classes_used(void **state)
{
    const struct standing of_high = {.used_by = -1, .left_ns = {[CLASS_HIGH] = NOW - NS_PER_S}};
    const struct claim low = {CLASS_LOW, NOW}, high = {CLASS_HIGH, NOW};
    struct candidate c[] = {{.bytes = 250 * MIB, .worth = 1}, {.bytes = 250 * MIB, .worth = 9}};
    (void)state;

    c[0].until_ns = standing_ns(&of_high, &low, STAY, NOW);
    struct room r = find(c, 2, none_left);
    assert_int_equal(r.verdict, ROOM_DROP);
    assert_int_equal(r.victim, 1);
    r = find(c, 1, none_left); /* there is no other: it is waited for */
    assert_int_equal(r.verdict, ROOM_WAIT);
    assert_true(r.at_ns == NOW - NS_PER_S + STAY);
    c[0].until_ns = standing_ns(&of_high, &high, STAY, NOW);
    r = find(c, 2, none_left);
    assert_int_equal(r.verdict, ROOM_DROP);
    assert_int_equal(r.victim, 0);
}

/* Goal: whatever comes, the chosen one is neither pinned nor worked for, nobody who waits is turned
 * away who was not told to drain, and the time to stay holds. Method: 200,000 random tables. */
static void the_choice_is_never_one_that_must_stay(void **state)
{
    (void)state;
    srand(1);
    for (unsigned round = 0; round < 200000; round++) {
        struct candidate c[6];
        const size_t n = (size_t)rand() % 7;
        for (size_t i = 0; i < n; i++) {
            c[i] = (struct candidate){.bytes = (uint64_t)(rand() % 4) * MIB,
                                      .until_ns = NOW - 5 + (uint64_t)(rand() % 10),
                                      .worth = rand() % 5,
                                      .pinned = rand() % 4 == 0,
                                      .held = rand() % 3 == 0,
                                      .draining = rand() % 5 == 0};
            c[i].used = c[i].held || rand() % 3 == 0;
        }
        const struct room_need need = {.bytes = (uint64_t)(rand() % 8) * MIB,
                                       .bytes_free = (uint64_t)(rand() % 3) * MIB,
                                       .places_free = (size_t)rand() % 2};
        const struct room r = find(c, n, need);
        if (r.verdict == ROOM_DROP || r.verdict == ROOM_DRAIN) {
            const struct candidate *v = &c[r.victim];
            assert_true(r.victim < n && !v->pinned && v->until_ns <= NOW);
            assert_true(r.verdict == ROOM_DRAIN || (!v->held && (!v->used || v->draining)));
        } else if (r.verdict == ROOM_WAIT) {
            assert_true(r.at_ns > NOW);
        }
        const size_t idle = victim_idle(c, n, NOW);
        assert_true(idle == n || (!c[idle].pinned && !c[idle].used && !c[idle].held));
    }
}

/* ---- a daemon in a simulated clock ---- */

#define LOAD_NS (300 * NS_PER_MS)
#define WORK_NS (200 * NS_PER_MS)
#define STAY_NS (2 * NS_PER_S)
#define STEP_NS (10 * NS_PER_MS)

struct sim_model {
    bool loaded, draining;
    uint64_t loaded_ns, busy_until_ns, load_end_ns;
    uint64_t waits_since_ns; /* the first that waits; 0: nobody */
    struct use use;
};

/* Goal: with three models of which two fit, nobody waits longer than the time to stay, what runs of
 * the one that leaves, and a load. Method: requests at random for an hour, in steps of 10 ms; what
 * runs of a model ends in WORK_NS, and nothing is started of one that drains. */
static void nobody_waits_longer_than_stay_drain_and_load(void **state)
{
    struct sim_model m[3] = {0};
    struct swaps swaps = {0};
    uint64_t worst = 0;
    (void)state;

    srand(2);
    for (uint64_t now = NOW; now < NOW + 3600 * NS_PER_S; now += STEP_NS) {
        size_t n_in = 0, next = 3, of[3];
        struct candidate c[3];
        bool loading = false;
        for (size_t i = 0; i < 3; i++) {
            if (rand() % 60 == 0) {
                use_count(&m[i].use, now);
                m[i].waits_since_ns = m[i].waits_since_ns ? m[i].waits_since_ns : now;
            }
            if (m[i].load_end_ns && m[i].load_end_ns <= now) {
                m[i].loaded = true;
                m[i].loaded_ns = m[i].load_end_ns;
                m[i].load_end_ns = 0;
            }
            loading |= m[i].load_end_ns != 0;
            if (m[i].loaded && !m[i].draining && m[i].waits_since_ns) {
                worst = now - m[i].waits_since_ns > worst ? now - m[i].waits_since_ns : worst;
                m[i].waits_since_ns = 0;
                m[i].busy_until_ns = now + WORK_NS;
            }
            if (m[i].loaded) {
                of[n_in] = i;
                c[n_in++] =
                    (struct candidate){.bytes = 250 * MIB,
                                       .until_ns = m[i].loaded_ns + STAY_NS,
                                       .worth = worth_of(LOAD_NS / 1000, &m[i].use, 250 * MIB, now),
                                       .used = m[i].busy_until_ns > now || m[i].waits_since_ns,
                                       .held = m[i].busy_until_ns > now,
                                       .draining = m[i].draining};
            } else if (!m[i].load_end_ns && m[i].waits_since_ns &&
                       (next == 3 || m[i].waits_since_ns < m[next].waits_since_ns)) {
                next = i;
            }
        }
        if (loading || next == 3) {
            continue;
        }
        const struct room_need need = {.bytes = 250 * MIB,
                                       .bytes_free = (600 - 250 * n_in) * MIB,
                                       .places_free = 8,
                                       .swap_wait_ns = swaps_wait_ns(&swaps, SWAPS_MAX, now),
                                       .now_ns = now};
        const struct room r = room_find(c, n_in, &need);
        if (r.verdict == ROOM_NOW) {
            m[next].load_end_ns = now + LOAD_NS;
        } else if (r.verdict == ROOM_DRAIN) {
            m[of[r.victim]].draining = true;
        } else if (r.verdict == ROOM_DROP) {
            swaps_count(&swaps, now);
            m[of[r.victim]].loaded = m[of[r.victim]].draining = false;
        } else {
            assert_int_equal(r.verdict, ROOM_WAIT);
        }
    }
    assert_true(worst > STAY_NS / 2);
    assert_true(worst <= STAY_NS + WORK_NS + LOAD_NS + 4 * STEP_NS);
    assert_true(swaps.n_ever <= 2 * 3600 * NS_PER_S / (STAY_NS + LOAD_NS) + 2);
    assert_true(swaps.n_ever > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_there_is_room_nobody_leaves),
        cmocka_unit_test(a_place_counts_as_bytes_do),
        cmocka_unit_test(the_cheapest_leaves_unless_something_speaks_for_it),
        cmocka_unit_test(where_all_have_work_one_drains_and_stays_chosen),
        cmocka_unit_test(where_all_are_new_the_oldest_is_waited_for),
        cmocka_unit_test(what_never_fits_is_told_with_what_there_could_be),
        cmocka_unit_test(swaps_past_their_bound_wait),
        cmocka_unit_test(the_window_of_swaps_is_a_ring),
        cmocka_unit_test(a_model_is_worth_its_load_as_often_as_it_is_used),
        cmocka_unit_test(quick_loads_may_leave_sooner),
        cmocka_unit_test(a_higher_class_is_loaded_for_first_until_patience_ends),
        cmocka_unit_test(a_model_stays_for_a_higher_class_than_the_one_that_wants_its_place),
        cmocka_unit_test(the_choice_falls_on_what_only_lower_classes_used),
        cmocka_unit_test(the_choice_is_never_one_that_must_stay),
        cmocka_unit_test(nobody_waits_longer_than_stay_drain_and_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
