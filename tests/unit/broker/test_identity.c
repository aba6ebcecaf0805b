#include "tests/support/test.h"

#include <string.h>

#include "daemon/broker/identity.h"

#define S UINT64_C(1000000000)

static const struct grant plain = {.known = true, .weight = 1};
static const struct grant limited = {
    .known = true, .weight = 3, .running_max = 2, .rates = {.tokens_per_s = 1, .burst_s = 600}};

static struct moment at(uint64_t s)
{
    return (struct moment){.now_ns = s * S, .unix_s = UINT64_C(1700000000) + s};
}

static void a_uid_and_a_unit_are_one_identity_over_reconnects(void **state)
{
    const struct moment now = at(1);
    struct identities t;
    (void)state;

    identities_init(&t);
    struct identity *ann = identity_get(&t, 1000, "", &limited, &now);
    struct identity *web = identity_get(&t, 1000, "web.service", &plain, &now);
    struct identity *bob = identity_get(&t, 1001, "", &plain, &now);
    assert_non_null(ann);
    assert_ptr_not_equal(ann, web);
    assert_ptr_not_equal(ann, bob);
    assert_ptr_equal(identity_get(&t, 1000, "", &limited, &now), ann);
    assert_int_equal(ann->n_conns, 2);
    assert_true(ann->account.weight == 3);
    assert_int_equal(ann->account.running_max, 2);

    ann->account.counter[CLASS_NORMAL] = 12345;
    identity_put(ann, &now);
    identity_put(ann, &now);
    const struct moment soon = at(30);
    assert_true(identities_sweep(&t, &soon) <= 31 * S);
    assert_ptr_equal(identity_get(&t, 1000, "", &limited, &soon), ann);
    assert_true(ann->account.counter[CLASS_NORMAL] == 12345);
    identities_deinit(&t);
}

static void an_idle_identity_vanishes_when_nothing_would_be_lost(void **state)
{
    const struct moment start = at(1);
    struct buckets all = {0};
    struct identities t;
    struct charge charge;
    uint64_t wait = 0;
    (void)state;

    identities_init(&t);
    struct identity *ann = identity_get(&t, 1000, "", &limited, &start);
    assert_int_equal(identities_sweep(&t, &(struct moment){UINT64_MAX / 2, 0}), UINT64_MAX);
    assert_int_equal(t.n, 1); /* connected */
    assert_int_equal(buckets_take(&all, &ann->line.own, 300, &start, &charge, &wait), RATE_NONE);
    identity_put(ann, &start);

    const struct moment minute = at(62), later = at(310);
    assert_int_equal(identities_sweep(&t, &minute), IDENTITY_IDLE_NS);
    assert_int_equal(t.n, 1); /* its bucket is not full again: 300 tokens take 300 s */
    assert_int_equal(identities_sweep(&t, &later), UINT64_MAX);
    assert_int_equal(t.n, 0);
    assert_null(identity_find(&t, 1000, ""));
    identities_deinit(&t);
}

static void each_has_a_salt_of_its_own_that_outlives_it(void **state)
{
    static const uint8_t zero[SEAM_SALT];
    const struct moment now = at(1), later = at(100);
    uint8_t salt[SEAM_SALT];
    struct identities t;
    (void)state;

    identities_init(&t);
    struct identity *ann = identity_get(&t, 1000, "", &plain, &now);
    struct identity *web = identity_get(&t, 1000, "web.service", &plain, &now);
    assert_memory_not_equal(ann->salt, zero, sizeof(zero));
    assert_memory_not_equal(ann->salt, web->salt, sizeof(zero));
    memcpy(salt, ann->salt, sizeof(salt));
    identity_put(ann, &now);
    (void)identities_sweep(&t, &later);
    assert_null(identity_find(&t, 1000, ""));
    ann = identity_get(&t, 1000, "", &plain, &later);
    assert_memory_equal(ann->salt, salt, sizeof(salt));
    identities_deinit(&t);
}

/* Goal: whoever makes many identities can neither fill the memory nor shut the others out. */
static void the_table_is_bounded_and_forgets_the_longest_idle(void **state)
{
    struct identities t;
    struct identity *id = NULL;
    (void)state;

    identities_init(&t);
    for (uint32_t i = 0; i < IDENTITIES_MAX; i++) {
        const struct moment now = at(1 + i);
        id = identity_get(&t, i, "", &plain, &now);
        assert_non_null(id);
        identity_put(id, &now);
    }
    const struct moment now = at(10000);
    assert_non_null(identity_get(&t, 70000, "", &plain, &now));
    assert_int_equal(t.n, IDENTITIES_MAX);
    assert_int_equal(t.salts.n, SALTS_MAX);
    assert_null(identity_find(&t, 0, ""));
    assert_non_null(identity_find(&t, 1, ""));
    for (uint32_t i = 1; i < IDENTITIES_MAX; i++) { /* now all of them are connected */
        assert_non_null(identity_get(&t, i, "", &plain, &now));
    }
    assert_null(identity_get(&t, 80000, "", &plain, &now));
    assert_int_equal(t.n, IDENTITIES_MAX);
    identities_deinit(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_uid_and_a_unit_are_one_identity_over_reconnects),
        cmocka_unit_test(an_idle_identity_vanishes_when_nothing_would_be_lost),
        cmocka_unit_test(each_has_a_salt_of_its_own_that_outlives_it),
        cmocka_unit_test(the_table_is_bounded_and_forgets_the_longest_idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
