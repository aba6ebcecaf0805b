#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fdio.h"
#include "tests/unit/train/toy.h"
#include "train/loop/checkpoint.h"
#include "train/loop/trainer.h"

static const struct mode {
    enum net_weights weights;
    enum net_activations activations;
    bool stochastic;
} modes[] = {
    {NET_W_FLOAT, NET_A_FLOAT, false},   {NET_W_TERNARY, NET_A_INT8, false},
    {NET_W_BINARY, NET_A_INT8, false},   {NET_W_BINARY, NET_A_INT8, true},
    {NET_W_BINARY, NET_A_BINARY, false},
};

static void steps(struct trainer *t, const struct toy *toy, size_t n, struct step_report *ret)
{
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(trainer_step(t, toy->data, ret), TRAINER_OK);
    }
}

/* All that is kept, but the clock. @ret_n bytes; the caller frees. */
static uint8_t *bytes_of(struct trainer *t, size_t *ret_n)
{
    const int fd = memfd_create("checkpoint", MFD_CLOEXEC);
    struct checkpoint c;

    trainer_save(t, &c);
    c.at.seconds = 0;
    assert_int_equal(checkpoint_write(fd, &c), 0);
    *ret_n = (size_t)lseek(fd, 0, SEEK_END);
    uint8_t *data = malloc(*ret_n);
    assert_non_null(data);
    assert_int_equal(fd_read_all_at(fd, data, *ret_n, 0), 0);
    (void)close(fd);
    return data;
}

/* Goal: a training that was stopped gives the same bytes as one that was not. Method: fourteen
 * steps, against nine, a checkpoint, another process's trainer in effect, and five more, where the
 * rows' second pass begins in between. */
static void a_resumed_training_is_the_uninterrupted_one(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        struct trainer *whole = NULL, *first = NULL, *second = NULL;
        struct step_report report;
        struct checkpoint c;
        struct toy toy;
        size_t n[3];

        toy_init(&toy, 90, modes[i].weights, modes[i].activations);
        toy.recipe.stochastic = modes[i].stochastic;
        assert_int_equal(trainer_new(&whole, &toy.recipe), 0);
        assert_int_equal(trainer_new(&first, &toy.recipe), 0);
        assert_int_equal(trainer_new(&second, &toy.recipe), 0);
        steps(whole, &toy, 14, &report);
        steps(first, &toy, 9, &report);
        uint8_t *kept = bytes_of(first, &n[0]);
        assert_int_equal(checkpoint_parse(&c, kept, n[0], NULL), CHECKPOINT_OK);
        assert_int_equal(trainer_load(second, &c), 0);
        steps(second, &toy, 5, &report);
        uint8_t *a = bytes_of(whole, &n[1]), *b = bytes_of(second, &n[2]);
        assert_int_equal(n[1], n[2]);
        assert_memory_equal(a, b, n[1]);
        free(kept);
        free(a);
        free(b);
        trainer_free(whole);
        trainer_free(first);
        trainer_free(second);
        toy_deinit(&toy);
    }
}

static void the_seed_decides(void **state)
{
    struct trainer *t[3] = {NULL};
    struct step_report report;
    uint8_t *bytes[3];
    struct toy toy;
    size_t n[3];

    toy_init(&toy, 40, NET_W_BINARY, NET_A_INT8);
    for (size_t i = 0; i < 3; i++) {
        toy.recipe.seed = i == 2 ? 4 : 3;
        assert_int_equal(trainer_new(&t[i], &toy.recipe), 0);
        steps(t[i], &toy, 3, &report);
        bytes[i] = bytes_of(t[i], &n[i]);
        trainer_free(t[i]);
    }
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    assert_memory_not_equal(bytes[0] + sizeof(struct recipe) + 64,
                            bytes[2] + sizeof(struct recipe) + 64, n[0] - 512);
    for (size_t i = 0; i < 3; i++) {
        free(bytes[i]);
    }
    toy_deinit(&toy);
}

/* Goal: gradients that are added up are those of one large batch. Method: both ways, with float
 * weights; what is left is the order of sums. */
static void batches_that_are_added_up_are_one_large_batch(void **state)
{
    struct trainer *one = NULL, *four = NULL;
    struct step_report a, b;
    struct toy toy;

    toy_init(&toy, 64, NET_W_FLOAT, NET_A_FLOAT);
    toy.recipe.batch = 16;
    assert_int_equal(trainer_new(&one, &toy.recipe), 0);
    toy.recipe.batch = 4;
    toy.recipe.accumulate = 4;
    assert_int_equal(trainer_new(&four, &toy.recipe), 0);
    steps(one, &toy, 1, &a);
    steps(four, &toy, 1, &b);
    assert_true(fabs(a.loss.sum - b.loss.sum) < 1e-4 * a.loss.sum && a.tokens == b.tokens);
    assert_true(fabs(a.length - b.length) < 1e-4 * a.length);
    assert_true(trainer_at(one)->rows == 16 && trainer_at(four)->rows == 16);
    trainer_free(one);
    trainer_free(four);
    toy_deinit(&toy);
}

static void the_task_is_learned(void **state)
{
    struct trainer *t = NULL;
    struct step_report report;
    struct net_loss before, after;
    struct toy toy;

    toy_init(&toy, 200, NET_W_BINARY, NET_A_INT8);
    toy.recipe.n_steps = 150;
    assert_int_equal(trainer_new(&t, &toy.recipe), 0);
    assert_int_equal(trainer_loss(t, toy.data, NULL, &before), 0);
    steps(t, &toy, 150, &report);
    assert_int_equal(trainer_loss(t, toy.data, NULL, &after), 0);
    print_message("loss %.3f, then %.3f, %.1f %% right\n", before.sum / before.weight,
                  after.sum / after.weight, 100.0 * (double)after.n_best / (double)after.n);
    assert_true(before.sum / before.weight > 4 && after.sum / after.weight < 0.1);
    trainer_free(t);
    toy_deinit(&toy);
}

static void a_loss_over_many_rows_ends_when_it_is_told_to(void **state)
{
    volatile sig_atomic_t stop = 0;
    struct net_loss l = {.n = 99};
    struct trainer *t = NULL;
    struct toy toy;

    toy_init(&toy, 70, NET_W_BINARY, NET_A_INT8);
    assert_int_equal(trainer_new(&t, &toy.recipe), 0);
    stop = 15;
    assert_int_equal(trainer_loss(t, toy.data, &stop, &l), TRAINER_STOPPED);
    assert_int_equal(l.n, 99); /* untouched */
    stop = 0;
    assert_int_equal(trainer_loss(t, toy.data, &stop, &l), TRAINER_OK);
    assert_true(l.n > 99);
    trainer_free(t);
    toy_deinit(&toy);
}

static void numbers_that_are_none_end_the_training(void **state)
{
    struct trainer *t = NULL;
    struct step_report report;
    struct toy toy;

    toy_init(&toy, 16, NET_W_FLOAT, NET_A_FLOAT);
    assert_int_equal(trainer_new(&t, &toy.recipe), 0);
    net_params(trainer_net(t))[0] = NAN; /* of the embedding, which the head reads whole */
    assert_int_equal(trainer_step(t, toy.data, &report), TRAINER_DIVERGED);
    assert_int_equal(trainer_at(t)->step, 0);
    trainer_free(t);
    toy_deinit(&toy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resumed_training_is_the_uninterrupted_one),
        cmocka_unit_test(the_seed_decides),
        cmocka_unit_test(batches_that_are_added_up_are_one_large_batch),
        cmocka_unit_test(the_task_is_learned),
        cmocka_unit_test(a_loss_over_many_rows_ends_when_it_is_told_to),
        cmocka_unit_test(numbers_that_are_none_end_the_training),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
