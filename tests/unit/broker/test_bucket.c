#include "tests/support/test.h"

#include <inttypes.h>
#include <stdio.h>

#include "daemon/broker/bucket.h"

#define S UINT64_C(1000000000)
#define DAY UINT64_C(86400)

/* Goal: waits and levels are what a pencil says. Method: one bucket a row, steps in a virtual
 * time. */
static void a_bucket_lets_through_its_burst_and_then_its_rate(void **state)
{
    static const struct {
        uint64_t per_s, burst_s;
        struct {
            uint64_t at_ms, n, wait_ms;
        } steps[6];
    } rows[] = {
        {10,
         2,
         {{0, 20, 0}, {0, 1, 100}, {99, 1, 1}, {101, 1, 0}, {10000, 20, 0}, {10000, 5, 500}}},
        {1,
         1,
         {{0, 1, 0}, {500, 1, 500}, {1001, 1, 0}, {1001, 1, 1000}, {9000, 1, 0}, {9000, 1, 1000}}},
        /* larger than the bucket: a full one lets it through, and the debt is paid off */
        {10,
         1,
         {{0, 50, 0},
          {0, 1, 4100},
          {4100, 1, 0},
          {4100, 50, 1000},
          {5101, 50, 0},
          {5101, 10, 5000}}},
        /* no burst at all: one unit is always possible */
        {5, 0, {{0, 1, 0}, {0, 1, 200}, {201, 1, 0}, {201, 3, 200}, {402, 3, 0}, {402, 1, 600}}},
        {0, 10, {{0, 1000000, 0}, {0, 1000000, 0}, {0, 1, 0}, {0, 1, 0}, {0, 1, 0}, {0, 1, 0}}},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct bucket b = {0};

        bucket_set(&b, rows[i].per_s, rows[i].burst_s, 5 * S);
        for (size_t k = 0; k < ARRAY_SIZE(rows[i].steps); k++) {
            const uint64_t now = 5 * S + rows[i].steps[k].at_ms * (S / 1000);
            const uint64_t wait = bucket_wait(&b, 0, rows[i].steps[k].n, now);

            if ((wait + S / 2000) / (S / 1000) != rows[i].steps[k].wait_ms) {
                fail_msg("row %zu step %zu: waits %" PRIu64 " ns", i, k, wait);
            }
            if (wait == 0) {
                bucket_take(&b, rows[i].steps[k].n, now);
            } else { /* the word is kept */
                assert_int_equal(bucket_wait(&b, 0, rows[i].steps[k].n, now + wait), 0);
            }
        }
    }
}

static void what_is_returned_can_be_used_and_never_overflows_the_bucket(void **state)
{
    struct bucket b = {0};
    (void)state;

    bucket_set(&b, 10, 10, 0);
    bucket_take(&b, 100, 0);
    bucket_return(&b, 40, 0);
    assert_int_equal(bucket_wait(&b, 0, 40, 0), 0);
    assert_int_not_equal(bucket_wait(&b, 0, 41, 0), 0);
    assert_false(bucket_full(&b, 0));
    bucket_return(&b, 1000, 0);
    assert_true(bucket_full(&b, 0));
    bucket_take(&b, 100, 0);
    assert_int_not_equal(bucket_wait(&b, 0, 1, 0), 0);
    bucket_return(&b, -50, 0); /* it used more than was estimated */
    assert_true(bucket_wait(&b, 0, 1, 0) > 5 * S);
}

static void a_year_may_pass(void **state)
{
    struct bucket b = {0};
    (void)state;

    bucket_set(&b, 1, 1, 0);
    bucket_take(&b, 1000000, 0);
    assert_int_equal(bucket_wait(&b, 0, 1, 366 * DAY * S), 0);
    assert_true(bucket_full(&b, UINT64_MAX));
    assert_true(bucket_wait(&b, 0, UINT64_MAX, 0) > 0);
}

static void a_reload_keeps_what_was_used(void **state)
{
    struct bucket b = {0};
    (void)state;

    bucket_set(&b, 10, 10, 0);
    bucket_take(&b, 90, 0);
    bucket_set(&b, 10, 100, 0); /* larger, but it does not fill by that */
    assert_int_equal(bucket_wait(&b, 0, 10, 0), 0);
    assert_int_not_equal(bucket_wait(&b, 0, 11, 0), 0);
    bucket_set(&b, 5, 1, 0); /* smaller */
    assert_int_equal(bucket_wait(&b, 0, 5, 0), 0);
    bucket_take(&b, 5, 0);
    bucket_set(&b, 0, 1, 0); /* no limit any more */
    assert_int_equal(bucket_wait(&b, 0, 1000, 0), 0);
    bucket_set(&b, 5, 1, 0);
    assert_true(bucket_full(&b, 0));
}

static const struct rates tight = {
    .requests_per_s = 1, .tokens_per_s = 100, .burst_s = 10, .tokens_per_day = 5000};

/* Goal: the refusal names the limit that is farthest away, and nothing is taken then. */
static void the_limit_that_is_farthest_away_is_named(void **state)
{
    static const struct {
        struct rates all, own;
        uint64_t tokens, repeat; /* so many go through, the next is refused */
        enum rate_limit limit;
        uint64_t wait_s;
    } rows[] = {
        {{0}, {.requests_per_s = 2, .burst_s = 3}, 10, 6, RATE_REQUESTS, 1},
        {{0}, {.tokens_per_s = 10, .burst_s = 10}, 50, 2, RATE_TOKENS, 5},
        {{0}, {.tokens_per_day = 100}, 30, 3, RATE_DAY, 86000},
        {{.requests_per_s = 1, .burst_s = 2}, {0}, 10, 2, RATE_ALL_REQUESTS, 1},
        {{.tokens_per_s = 10, .burst_s = 6},
         {.tokens_per_s = 20, .burst_s = 3},
         60,
         1,
         RATE_ALL_TOKENS,
         6},
        {{.tokens_per_day = 10}, {.tokens_per_s = 1, .burst_s = 1}, 9, 1, RATE_ALL_DAY, 86000},
        {{0}, {0}, UINT32_MAX, 100, RATE_NONE, 0},
    };
    const struct moment at = {.now_ns = 7 * S, .unix_s = 20000 * DAY + 400};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct buckets all = {0}, own = {0};
        struct charge charge = {0};
        uint64_t wait = 0;

        buckets_set(&all, &rows[i].all, &at);
        buckets_set(&own, &rows[i].own, &at);
        for (uint64_t k = 0; k < rows[i].repeat; k++) {
            assert_int_equal(buckets_take(&all, &own, rows[i].tokens, &at, &charge, &wait),
                             RATE_NONE);
            assert_true(charge.taken);
        }
        const struct buckets all_before = all, own_before = own;
        const enum rate_limit got = buckets_take(&all, &own, rows[i].tokens, &at, &charge, &wait);
        if (got != rows[i].limit) {
            fail_msg("row %zu: %s", i, rate_limit_name(got));
        }
        if (got != RATE_NONE) {
            assert_int_equal((wait + S - 2) / S, rows[i].wait_s); /* up, but for 1 ns */
            assert_memory_equal(&all, &all_before, sizeof(all));
            assert_memory_equal(&own, &own_before, sizeof(own));
        }
    }
}

static void an_estimate_is_settled_by_what_was_used(void **state)
{
    struct moment at = {.now_ns = 0, .unix_s = 20000 * DAY};
    struct buckets all = {0}, own = {0};
    struct charge charge, other;
    uint64_t wait = 0;
    (void)state;

    buckets_set(&own, &tight, &at);
    assert_int_equal(buckets_take(&all, &own, 1000, &at, &charge, &wait), RATE_NONE);
    assert_int_equal(buckets_take(&all, &own, 200, &at, &other, &wait), RATE_TOKENS);
    buckets_settle(&all, &own, &charge, 20, &at);
    buckets_settle(&all, &own, &charge, 20, &at); /* once only */
    assert_int_equal(own.quota.used, 20);
    assert_int_equal(buckets_take(&all, &own, 980, &at, &other, &wait), RATE_NONE);
    /* used: nothing at all, so the request comes back with it; its eight fellows are still there */
    buckets_settle(&all, &own, &other, 0, &at);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(buckets_take(&all, &own, 1, &at, &other, &wait), RATE_NONE);
    }
    assert_int_equal(buckets_take(&all, &own, 1, &at, &other, &wait), RATE_REQUESTS);
}

static void the_quota_begins_anew_at_midnight_utc(void **state)
{
    struct moment at = {.now_ns = 0, .unix_s = 20000 * DAY + DAY - 60};
    const struct rates rates = {.tokens_per_day = 100};
    struct buckets all = {0}, own = {0};
    struct charge old, charge;
    uint64_t wait = 0;
    (void)state;

    buckets_set(&own, &rates, &at);
    assert_int_equal(buckets_take(&all, &own, 90, &at, &old, &wait), RATE_NONE);
    assert_int_equal(buckets_take(&all, &own, 20, &at, &charge, &wait), RATE_DAY);
    assert_int_equal(wait, 60 * S);
    assert_false(buckets_idle(&own, &at));
    at.unix_s += 60;
    assert_true(buckets_idle(&own, &at));
    assert_int_equal(buckets_take(&all, &own, 60, &at, &charge, &wait), RATE_NONE);
    buckets_settle(&all, &own, &old, 0, &at); /* yesterday's does not pay for today */
    assert_int_equal(buckets_take(&all, &own, 50, &at, &charge, &wait), RATE_DAY);
    at.unix_s += DAY; /* more than a day's worth: possible, once, on a fresh day */
    assert_int_equal(buckets_take(&all, &own, 1000, &at, &charge, &wait), RATE_NONE);
    assert_int_equal(buckets_take(&all, &own, 1, &at, &charge, &wait), RATE_DAY);
}

static void idle_buckets_can_be_forgotten_and_used_ones_cannot(void **state)
{
    struct moment at = {.now_ns = 0, .unix_s = 20000 * DAY};
    const struct rates rates = {.requests_per_s = 1, .tokens_per_s = 10, .burst_s = 2};
    struct buckets all = {0}, own = {0};
    struct charge charge;
    uint64_t wait = 0;
    (void)state;

    assert_true(buckets_idle(&own, &at));
    buckets_set(&own, &rates, &at);
    assert_true(buckets_idle(&own, &at));
    assert_int_equal(buckets_take(&all, &own, 5, &at, &charge, &wait), RATE_NONE);
    assert_false(buckets_idle(&own, &at));
    at.now_ns += S + 1;
    assert_true(buckets_idle(&own, &at));
}

static void every_limit_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (unsigned a = 0; a < RATE_LIMITS; a++) {
        assert_non_null(rate_limit_name(a));
        for (unsigned b = 0; b < a; b++) {
            assert_string_not_equal(rate_limit_name(a), rate_limit_name(b));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_lets_through_its_burst_and_then_its_rate),
        cmocka_unit_test(what_is_returned_can_be_used_and_never_overflows_the_bucket),
        cmocka_unit_test(a_year_may_pass),
        cmocka_unit_test(a_reload_keeps_what_was_used),
        cmocka_unit_test(the_limit_that_is_farthest_away_is_named),
        cmocka_unit_test(an_estimate_is_settled_by_what_was_used),
        cmocka_unit_test(the_quota_begins_anew_at_midnight_utc),
        cmocka_unit_test(idle_buckets_can_be_forgotten_and_used_ones_cannot),
        cmocka_unit_test(every_limit_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
