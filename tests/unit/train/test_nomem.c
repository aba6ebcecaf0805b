/* The net without memory. */
#include "tests/support/test.h"

#include <stdlib.h>

#include "tests/support/nomem.h"
#include "tests/unit/train/small.h"

#define ALLOCATIONS_MAX 200u

/* Goal: a failed allocation anywhere is -ENOMEM, leaks nothing, and the same call made again
 * works. Method: let the first n allocations succeed, for every n until all do; a sanitizer watches
 * for leaks. */
static void a_net_survives_every_failed_allocation(void **state)
{
    const struct net_modes modes = {.weights = NET_W_BINARY, .activations = NET_A_BINARY};
    const struct net_shape shape = small_shape(&modes);
    struct small s;
    int r = -12;
    size_t n = 0;
    (void)state;

    small_batch(&s, &shape, 1);
    for (; r == -12; n++) {
        struct net *net = NULL;
        assert_true(n < ALLOCATIONS_MAX);
        nomem_after(n);
        r = net_new(&net, &shape, &modes, 2, 1);
        (void)nomem_off();
        assert_true((r == 0) == (net != NULL));
        net_free(net);
    }
    assert_int_equal(r, 0);
    assert_true(n > 10);
}

static void and_so_does_the_count_of_its_numbers(void **state)
{
    const struct net_modes modes = {.weights = NET_W_BINARY, .activations = NET_A_BINARY};
    const struct net_shape shape = small_shape(&modes);
    size_t n = 0, n_params, n_state;
    int r = -12;

    for (; r == -12; n++) {
        assert_true(n < ALLOCATIONS_MAX);
        nomem_after(n);
        r = net_measure(&shape, &modes, &n_params, &n_state);
        (void)nomem_off();
    }
    assert_int_equal(r, 0);
    assert_true(n > 3);
}

static void a_step_survives_every_failed_allocation(void **state)
{
    const struct net_modes modes = {.weights = NET_W_BINARY, .activations = NET_A_BINARY};
    const struct net_shape shape = small_shape(&modes);
    struct net *net = small_net(&shape, &modes, 2);
    net_real *grads = calloc(net_size(net), sizeof(*grads));
    struct small s;
    int r = -12;
    size_t n = 0;
    (void)state;

    small_batch(&s, &shape, 1);
    for (; r == -12; n++) {
        assert_true(n < ALLOCATIONS_MAX);
        nomem_after(n % 2); /* each call keeps what it got */
        r = net_step(net, &s.batch, grads, NULL);
        (void)nomem_off();
    }
    assert_int_equal(r, 0);
    assert_true(n > 3);
    nomem_after(0); /* and the next step takes none */
    assert_int_equal(net_step(net, &s.batch, grads, NULL), 0);
    assert_int_equal(net_loss(net, &s.batch, NULL), 0);
    (void)nomem_off();
    free(grads);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_net_survives_every_failed_allocation),
        cmocka_unit_test(and_so_does_the_count_of_its_numbers),
        cmocka_unit_test(a_step_survives_every_failed_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
