#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

#include "daemon/broker/gate.h"

#define S UINT64_C(1000000000)
#define DAY UINT64_C(86400)

static struct moment at(uint64_t ms)
{
    return (struct moment){.now_ns = 1000 * S + ms * (S / 1000), .unix_s = 20000 * DAY + ms / 1000};
}

static const struct moment start = {.now_ns = 1000 * S, .unix_s = 20000 * DAY};

static void open_gate(struct gate *g, const struct rates *all)
{
    gate_init(g);
    buckets_set(&g->all, all, &start);
}

static void open_line(struct gate_line *l, const struct rates *own)
{
    gate_line_init(l);
    buckets_set(&l->own, own, &start);
}

/* What the broker does with a request that may wait. Returns the predicted wait. */
static uint64_t come(struct gate *g, struct gate_line *l, struct ticket *t, uint64_t tokens,
                     const struct moment *now)
{
    uint64_t wait = 0;

    ticket_init(t);
    const enum rate_limit why = gate_ask(g, l, t, tokens, now, &wait);
    if (why != RATE_NONE) {
        gate_wait(g, t, why);
    }
    return wait;
}

static void who_waits_for_its_own_bucket_blocks_nobody(void **state)
{
    const struct rates slow = {.tokens_per_s = 10, .burst_s = 10};
    const struct rates none = {0};
    struct ticket a[50], b;
    struct gate_line ann, bob;
    struct gate g;
    (void)state;

    open_gate(&g, &none);
    open_line(&ann, &slow);
    open_line(&bob, &none);
    for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
        (void)come(&g, &ann, &a[i], 60, &start);
        assert_int_equal(gate_waits(&a[i]), i > 0);
    }
    assert_int_equal(come(&g, &bob, &b, 1000000, &start), 0);
    assert_true(b.charge.taken);
    for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
        gate_leave(&g, &a[i], 0, &start);
    }
    assert_true(list_empty(&g.lines));
    assert_true(gate_line_idle(&ann, &start)); /* all of it came back */
}

static void a_line_is_served_in_its_order_and_small_ones_do_not_overtake(void **state)
{
    const struct rates slow = {.tokens_per_s = 10, .burst_s = 10};
    const struct rates none = {0};
    struct ticket first, large, small;
    struct gate_line ann;
    struct gate g;
    uint64_t wait = 0;
    (void)state;

    open_gate(&g, &none);
    open_line(&ann, &slow);
    (void)come(&g, &ann, &first, 50, &start);
    assert_int_equal(come(&g, &ann, &large, 90, &start) / S, 4);
    assert_int_equal(large.why, RATE_TOKENS);
    assert_int_equal(come(&g, &ann, &small, 1, &start) / S, 4); /* behind it, though 50 are left */
    assert_true(gate_waits(&small));
    struct moment now = at(3999);
    assert_null(gate_next(&g, &now, &wait));
    assert_true(wait <= S / 500);
    now = at(4001);
    assert_ptr_equal(gate_next(&g, &now, &wait), &large);
    assert_null(gate_next(&g, &now, &wait));
    now = at(4101);
    assert_ptr_equal(gate_next(&g, &now, &wait), &small);
    assert_null(gate_next(&g, &now, &wait));
    assert_int_equal(wait, UINT64_MAX);
}

/* Goal: at a limit of all together one identity with many waiters gets no more turns than
 * another. */
static void lines_take_turns_at_what_they_share(void **state)
{
    const struct rates all = {.requests_per_s = 10, .burst_s = 1};
    const struct rates none = {0};
    struct ticket first[10], many[20], few[3];
    struct gate_line ann, bob;
    struct gate g;
    uint64_t wait = 0;
    unsigned n_few = 0;
    (void)state;

    open_gate(&g, &all);
    open_line(&ann, &none);
    open_line(&bob, &none);
    for (size_t i = 0; i < ARRAY_SIZE(first); i++) {
        assert_int_equal(come(&g, &ann, &first[i], 1, &start), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
        (void)come(&g, &ann, &many[i], 1, &start);
        assert_int_equal(many[i].why, RATE_ALL_REQUESTS);
    }
    for (size_t i = 0; i < ARRAY_SIZE(few); i++) {
        (void)come(&g, &bob, &few[i], 1, &start);
    }
    for (uint64_t i = 1; i <= 6; i++) { /* six turns: three each */
        const struct moment now = at(100 * i + 1);
        struct ticket *t = gate_next(&g, &now, &wait);
        assert_non_null(t);
        n_few += t->line == &bob;
        assert_null(gate_next(&g, &now, &wait));
    }
    assert_int_equal(n_few, 3);
}

/* Goal: a large request is not kept out by small ones that come later. */
static void newcomers_stand_behind_who_waits_for_what_they_share(void **state)
{
    const struct rates all = {.tokens_per_s = 100, .burst_s = 10};
    const struct rates none = {0};
    struct ticket t[3], small[40];
    struct gate_line ann, bob;
    struct gate g;
    uint64_t wait = 0;
    size_t n = 0;
    (void)state;

    open_gate(&g, &all);
    open_line(&ann, &none);
    open_line(&bob, &none);
    (void)come(&g, &ann, &t[0], 900, &start);
    const uint64_t said = come(&g, &ann, &t[1], 800, &start);
    assert_int_equal(said / S, 7);
    assert_int_equal(t[1].why, RATE_ALL_TOKENS);
    for (uint64_t ms = 100; ms <= 7100; ms += 200) { /* 50 tokens every 200 ms: half the rate */
        const struct moment now = at(ms);
        (void)come(&g, &bob, &small[n++], 50, &now);
        assert_true(gate_waits(&small[n - 1]) || ms > 7000);
        (void)gate_next(&g, &now, &wait);
        if (t[1].charge.taken) {
            assert_true(ms > 7000);
            break;
        }
    }
    assert_true(t[1].charge.taken);
    for (size_t i = 0; i < n; i++) {
        gate_leave(&g, &small[i], 0, &start);
    }
    assert_int_equal(g.waiting.tokens, 0);
    assert_int_equal(g.waiting.requests, 0);
}

static void a_used_up_day_of_all_lets_smaller_ones_use_the_rest(void **state)
{
    const struct rates all = {.tokens_per_day = 1000};
    const struct rates none = {0};
    struct ticket large, small;
    struct gate_line ann, bob;
    struct gate g;
    (void)state;

    open_gate(&g, &all);
    open_line(&ann, &none);
    open_line(&bob, &none);
    assert_int_equal(come(&g, &ann, &large, 900, &start), 0);
    ticket_init(&large);
    assert_int_equal(come(&g, &ann, &large, 200, &start), DAY * S);
    assert_int_equal(large.why, RATE_ALL_DAY);
    assert_int_equal(come(&g, &bob, &small, 100, &start), 0);
}

/* Goal: what is promised is kept, and the limit holds. Method: one identity, random sizes, random
 * gaps; each passes no later than it was told, and in no span more passes than rate x span and what
 * a full bucket gives, but for one request that is larger than the bucket. */
static void a_predicted_wait_is_kept_and_the_rate_holds(void **state)
{
    const struct rates rates = {.tokens_per_s = 100, .burst_s = 5, .requests_per_s = 3};
    const struct rates none = {0};
    static struct ticket tickets[400];
    static uint64_t due_ms[400];
    unsigned seed = 7;
    struct gate_line ann;
    struct gate g;
    uint64_t passed = 0, wait = 0;
    size_t n = 0, done = 0;
    (void)state;

    open_gate(&g, &none);
    open_line(&ann, &rates);
    for (uint64_t ms = 0; done < ARRAY_SIZE(tickets); ms++) {
        const struct moment now = at(ms);
        struct ticket *t;

        while ((t = gate_next(&g, &now, &wait))) {
            assert_ptr_equal(t, &tickets[done]);
            if (ms > due_ms[done] + 2) {
                fail_msg("ticket %zu: told %u ms, it is %u", done, (unsigned)due_ms[done],
                         (unsigned)ms);
            }
            passed += t->tokens;
            done++;
            assert_true(passed <= 500 + ms / 10 + 1000);
        }
        seed = seed * 1103515245u + 12345u;
        if (n < ARRAY_SIZE(tickets) && (seed >> 16) % 900 == 0) {
            seed = seed * 1103515245u + 12345u;
            const uint64_t tokens = 1 + (seed >> 16) % 600;
            due_ms[n] = ms + come(&g, &ann, &tickets[n], tokens, &now) / (S / 1000) + 1;
            if (tickets[n].charge.taken) {
                assert_int_equal(done, n);
                passed += tokens;
                done++;
            }
            n++;
        }
    }
}

static void leaving_gives_back_what_was_not_used(void **state)
{
    const struct rates rates = {.tokens_per_s = 10, .burst_s = 10};
    const struct rates none = {0};
    struct ticket a, b, c;
    struct gate_line ann;
    struct gate g;
    uint64_t wait = 0;
    (void)state;

    open_gate(&g, &none);
    open_line(&ann, &rates);
    ticket_init(&c);
    gate_leave(&g, &c, 0, &start); /* never asked */
    (void)come(&g, &ann, &a, 100, &start);
    (void)come(&g, &ann, &b, 40, &start);
    (void)come(&g, &ann, &c, 40, &start);
    assert_null(gate_next(&g, &start, &wait));
    gate_leave(&g, &a, 60, &start);
    gate_leave(&g, &a, 60, &start);
    assert_ptr_equal(gate_next(&g, &start, &wait), &b);
    assert_null(gate_next(&g, &start, &wait));
    gate_leave(&g, &c, 0, &start); /* while it waits */
    assert_true(list_empty(&g.lines));
    assert_int_equal(ann.waiting.tokens, 0);
    gate_leave(&g, &b, 0, &start);
    assert_true(ann.own.tokens.level == 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waits_for_its_own_bucket_blocks_nobody),
        cmocka_unit_test(a_line_is_served_in_its_order_and_small_ones_do_not_overtake),
        cmocka_unit_test(lines_take_turns_at_what_they_share),
        cmocka_unit_test(newcomers_stand_behind_who_waits_for_what_they_share),
        cmocka_unit_test(a_used_up_day_of_all_lets_smaller_ones_use_the_rest),
        cmocka_unit_test(a_predicted_wait_is_kept_and_the_rate_holds),
        cmocka_unit_test(leaving_gives_back_what_was_not_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
