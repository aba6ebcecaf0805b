/* Goal: OpenBLAS's oldest kernels run only where no better ones would, and what a person chose
 * stands. Method: the choice for each kind of CPU, and the environment before and after. */
#include "tests/support/test.h"

#include <stdlib.h>

#include "train/net/kernels.h"

static void a_cpu_that_openblas_does_not_know_gets_what_suits_it(void **state)
{
    (void)state;
    assert_string_equal(kernels_better("Prescott", true, true), "SkylakeX");
    assert_string_equal(kernels_better("Prescott", true, false), "Haswell");
    assert_string_equal(kernels_better("Barcelona", true, false), "Haswell");
}

static void an_old_cpu_and_one_that_is_known_keep_theirs(void **state)
{
    (void)state;
    assert_null(kernels_better("Prescott", false, false));
    assert_null(kernels_better("Haswell", true, true));
    assert_null(kernels_better("Cooperlake", true, true));
    assert_null(kernels_better("a name of next year", true, true));
}

static void what_a_person_chose_stands(void **state)
{
    char name[] = "test", *argv[] = {name, NULL};

    (void)state;
    assert_int_equal(setenv("OPENBLAS_CORETYPE", "Prescott", 1), 0);
    kernels_take(argv);
    assert_int_equal(kernels_by(), KERNELS_BY_PERSON);
    assert_string_equal(getenv("OPENBLAS_CORETYPE"), "Prescott");
}

static void what_was_set_for_the_new_process_is_gone_in_it(void **state)
{
    char name[] = "test", *argv[] = {name, NULL};

    (void)state;
    assert_int_equal(setenv("OPENBLAS_CORETYPE", "Haswell", 1), 0);
    assert_int_equal(setenv("ONEBIT_TRAIN_KERNELS", "Haswell", 1), 0);
    kernels_take(argv);
    assert_int_equal(kernels_by(), KERNELS_BY_US);
    assert_null(getenv("OPENBLAS_CORETYPE"));
    assert_null(getenv("ONEBIT_TRAIN_KERNELS"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cpu_that_openblas_does_not_know_gets_what_suits_it),
        cmocka_unit_test(an_old_cpu_and_one_that_is_known_keep_theirs),
        cmocka_unit_test(what_a_person_chose_stands),
        cmocka_unit_test(what_was_set_for_the_new_process_is_gone_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
