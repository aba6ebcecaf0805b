#include "tests/support/test.h"

#include "base/compiler.h"
#include "daemon/broker/budget.h"

#define MIB (UINT64_C(1) << 20)

static void the_default_is_the_lesser_of_the_machines_part_and_the_cgroups(void **state)
{
    (void)state;
    assert_true(budget_default(1000 * MIB, UINT64_MAX) == 600 * MIB);
    assert_true(budget_default(1000 * MIB, 500 * MIB) == 450 * MIB);
    assert_true(budget_default(1000 * MIB, 900 * MIB) == 600 * MIB);
    assert_true(budget_default(0, 500 * MIB) == 450 * MIB); /* /proc cannot be read */
    assert_true(budget_default(8 * MIB, 8 * MIB) == BUDGET_LEAST);
}

/* Goal: a container may show no /proc/meminfo; the figure then has to do for signed readers too.
 * Method: nothing known, and limits that are as good as none (version 1 has one below 2^63). */
static void a_budget_that_nothing_limits_is_the_same_number_each_time(void **state)
{
    (void)state;
    assert_true(budget_default(0, UINT64_MAX) == BUDGET_NONE);
    assert_true(budget_default(0, UINT64_C(0x7ffffffffffff000)) == BUDGET_NONE);
    assert_true(budget_default(UINT64_MAX, UINT64_MAX) == BUDGET_NONE);
    assert_true(BUDGET_NONE + BUDGET_NONE < (uint64_t)INT64_MAX);
    assert_true(budget_default(1000 * MIB, UINT64_MAX) < BUDGET_NONE);
}

/* Three models of 270 MiB under 584. */
static const struct share_plan three = {
    .total = 584 * MIB,
    .free = 584 * MIB,
    .bytes = 270 * MIB,
    .all = 810 * MIB,
    .n_models = 3,
    .n_max = 8,
    .least = 15 * MIB,
};

static void a_pool_leaves_room_for_as_many_models_as_fit(void **state)
{
    struct share_plan p = three;
    (void)state;

    assert_true(beside_share(&p) == 22 * MIB); /* two: 292 each */
    p.n_max = 1;
    assert_true(beside_share(&p) == 314 * MIB);
    p = three;
    p.n_models = 1;
    p.all = 270 * MIB;
    assert_true(beside_share(&p) == 314 * MIB);
    p = three;
    p.total = p.free = 2000 * MIB; /* all fit: what is left is dealt out */
    assert_true(beside_share(&p) == (2000 - 810) * MIB / 3);
}

static void models_of_different_sizes_share_what_all_together_leave(void **state)
{
    struct share_plan p = three;
    (void)state;

    p.n_models = 2;
    p.all = 500 * MIB; /* this one is 270 */
    assert_true(beside_share(&p) == 42 * MIB);
}

static void a_pool_is_no_larger_than_what_is_free_and_no_smaller_than_needed(void **state)
{
    struct share_plan p = three;
    (void)state;

    p.free = 290 * MIB;
    assert_true(beside_share(&p) == 20 * MIB);
    p.free = 280 * MIB; /* who asked has made sure that there is as much */
    assert_true(beside_share(&p) == 15 * MIB);
    p.free = 0;
    assert_true(beside_share(&p) == 15 * MIB);
    p = three;
    p.least = 200 * MIB; /* one sequence of the context that is set takes so much */
    assert_true(beside_share(&p) == 314 * MIB);
}

static void the_least_kv_grows_with_the_model(void **state)
{
    (void)state;
    assert_true(kv_least(0, 1024 * MIB) == MIB);
    assert_true(kv_least(160 * MIB, 1024 * MIB) == 10 * MIB);
    assert_true(kv_least(UINT64_MAX, 1024 * MIB) == 64 * MIB);
    assert_true(kv_least(160 * MIB, 2 * MIB) == 2 * MIB); /* as configured */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_is_the_lesser_of_the_machines_part_and_the_cgroups),
        cmocka_unit_test(a_budget_that_nothing_limits_is_the_same_number_each_time),
        cmocka_unit_test(a_pool_leaves_room_for_as_many_models_as_fit),
        cmocka_unit_test(models_of_different_sizes_share_what_all_together_leave),
        cmocka_unit_test(a_pool_is_no_larger_than_what_is_free_and_no_smaller_than_needed),
        cmocka_unit_test(the_least_kv_grows_with_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
