#include "tests/support/test.h"

#include <errno.h>

#include "daemon/broker/policy.h"

static void a_rule_for_the_user_decides_alone(void **state)
{
    const gid_t gids[] = {5};
    struct policy p;
    (void)state;

    policy_init(&p);
    assert_int_equal(policy_add(&p, true, 5, RIGHT_USE | RIGHT_LOAD), 0);
    assert_int_equal(policy_add(&p, false, 1000, 0), 0);
    const struct grant g = policy_grant(&p, 42, 1000, gids, 1);
    assert_true(g.known);
    assert_int_equal(g.rights, 0);
    assert_int_equal(policy_add(&p, false, 1000, RIGHT_USE), -EEXIST);
}

static void rules_for_groups_add_up(void **state)
{
    const gid_t gids[] = {1, 5, 6};
    struct policy p;
    (void)state;

    policy_init(&p);
    p.default_rights = 0;
    assert_int_equal(policy_add(&p, true, 5, RIGHT_USE), 0);
    assert_int_equal(policy_add(&p, true, 6, RIGHT_CANCEL), 0);
    assert_int_equal(policy_grant(&p, 42, 1000, gids, 3).rights, RIGHT_USE | RIGHT_CANCEL);
    assert_false(policy_grant(&p, 42, 1000, gids, 1).known);
}

static void root_and_the_daemons_user_may_do_all_unless_a_rule_says_otherwise(void **state)
{
    struct policy p;
    (void)state;

    policy_init(&p);
    p.default_rights = 0;
    assert_int_equal(policy_grant(&p, 42, 42, NULL, 0).rights, RIGHTS_ALL);
    assert_int_equal(policy_grant(&p, 42, 0, NULL, 0).rights, RIGHTS_ALL);
    assert_false(policy_grant(&p, 42, 43, NULL, 0).known);
    assert_int_equal(policy_add(&p, false, 42, RIGHT_USE), 0);
    assert_int_equal(policy_grant(&p, 42, 42, NULL, 0).rights, RIGHT_USE);
}

static void whoever_can_open_the_socket_may_use_it_by_default(void **state)
{
    struct policy p;
    (void)state;

    policy_init(&p);
    const struct grant g = policy_grant(&p, 42, 43, NULL, 0);
    assert_true(g.known);
    assert_int_equal(g.rights, RIGHT_USE);
}

static void rights_are_a_list_of_known_words(void **state)
{
    static const char *const bad[] = {"", ",", "use,", "use use", "Use", "use,none", "useful"};
    unsigned r = 0;
    (void)state;

    assert_true(policy_rights_parse("use , cancel", &r));
    assert_int_equal(r, RIGHT_USE | RIGHT_CANCEL);
    assert_true(policy_rights_parse("all", &r));
    assert_int_equal(r, RIGHTS_ALL);
    assert_true(policy_rights_parse("none", &r));
    assert_int_equal(r, 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(policy_rights_parse(bad[i], &r));
    }
}

static void rules_are_bounded(void **state)
{
    struct policy p;
    (void)state;

    policy_init(&p);
    for (uint32_t i = 0; i < POLICY_RULES_MAX; i++) {
        assert_int_equal(policy_add(&p, false, i, RIGHT_USE), 0);
    }
    assert_int_equal(policy_add(&p, true, 1, RIGHT_USE), -E2BIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rule_for_the_user_decides_alone),
        cmocka_unit_test(rules_for_groups_add_up),
        cmocka_unit_test(root_and_the_daemons_user_may_do_all_unless_a_rule_says_otherwise),
        cmocka_unit_test(whoever_can_open_the_socket_may_use_it_by_default),
        cmocka_unit_test(rights_are_a_list_of_known_words),
        cmocka_unit_test(rules_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
