#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fdio.h"
#include "tests/unit/train/toy.h"
#include "train/loop/checkpoint.h"
#include "train/loop/trainer.h"

struct file {
    uint8_t *data; /* owned */
    size_t n;
};

static struct file file_of(const struct checkpoint *c)
{
    const int fd = memfd_create("checkpoint", MFD_CLOEXEC);
    struct file f = {0};

    assert_int_equal(checkpoint_write(fd, c), 0);
    f.n = (size_t)lseek(fd, 0, SEEK_END);
    f.data = malloc(f.n);
    assert_non_null(f.data);
    assert_int_equal(fd_read_all_at(fd, f.data, f.n, 0), 0);
    (void)close(fd);
    return f;
}

static struct file small_file(struct toy *toy)
{
    static const float params[] = {1, 2, 3}, m[] = {4, 5, 6}, v[] = {7, 8, 9}, state[] = {10};
    const struct checkpoint c = {.recipe = toy->recipe,
                                 .at = {.step = 7, .rows = 56, .tokens = 99, .seconds = 0.5},
                                 .vocabulary = (const uint8_t *)"words",
                                 .n_vocabulary = 5,
                                 .params = params,
                                 .m = m,
                                 .v = v,
                                 .n_params = 3,
                                 .state = state,
                                 .n_state = 1};

    return file_of(&c);
}

static void what_is_written_is_read_again(void **state)
{
    struct checkpoint c;
    struct toy toy;

    toy_init(&toy, 16, NET_W_BINARY, NET_A_BINARY);
    struct file f = small_file(&toy);
    assert_int_equal(f.n % 8, 0);
    assert_int_equal(checkpoint_parse(&c, f.data, f.n, NULL), CHECKPOINT_OK);
    assert_memory_equal(&c.recipe, &toy.recipe, sizeof(c.recipe));
    assert_true(c.at.step == 7 && c.at.rows == 56 && c.at.tokens == 99 && c.at.seconds == 0.5);
    assert_true(c.n_vocabulary == 5 && memcmp(c.vocabulary, "words", 5) == 0);
    assert_true(c.n_params == 3 && c.params[2] == 3 && c.m[0] == 4 && c.v[2] == 9);
    assert_true(c.n_state == 1 && c.state[0] == 10);
    free(f.data);
    toy_deinit(&toy);
}

/* Goal: a checkpoint that was cut, grew or has one bit changed is never used. */
static void a_file_with_one_bit_changed_or_cut_is_refused(void **state)
{
    struct checkpoint c;
    struct toy toy;

    toy_init(&toy, 16, NET_W_BINARY, NET_A_INT8);
    struct file f = small_file(&toy);
    for (size_t i = 0; i < f.n; i++) {
        struct diag diag = {0};
        f.data[i] ^= (uint8_t)(1u << (i % 8));
        assert_int_not_equal(checkpoint_parse(&c, f.data, f.n, &diag), CHECKPOINT_OK);
        assert_true(diag.set);
        f.data[i] ^= (uint8_t)(1u << (i % 8));
    }
    for (size_t n = 0; n < f.n; n++) {
        assert_int_equal(checkpoint_parse(&c, f.data, n, NULL), CHECKPOINT_MALFORMED);
    }
    assert_int_equal(checkpoint_parse(&c, f.data, f.n, NULL), CHECKPOINT_OK);
    free(f.data);
    toy_deinit(&toy);
}

/* Goal: a sound checksum does not make an impossible recipe possible. */
static void a_recipe_out_of_bounds_is_refused_by_name(void **state)
{
    struct checkpoint c;
    struct diag diag = {0};
    struct toy toy;

    toy_init(&toy, 16, NET_W_BINARY, NET_A_INT8);
    toy.recipe.n_layer = 0;
    struct file f = small_file(&toy);
    assert_int_equal(checkpoint_parse(&c, f.data, f.n, &diag), CHECKPOINT_MALFORMED);
    assert_string_equal(diag.text, "n_layer is 0, not from 1 to 256");
    free(f.data);
    toy.recipe.n_layer = 2;
    toy.recipe.n_embd = 96;
    diag = (struct diag){0};
    f = small_file(&toy);
    assert_int_equal(checkpoint_parse(&c, f.data, f.n, &diag), CHECKPOINT_MALFORMED);
    assert_non_null(strstr(diag.text, "multiple of 128 for binary weights in Q1_0"));
    free(f.data);
    toy_deinit(&toy);
}

static void a_trainer_refuses_the_numbers_of_another_net(void **state)
{
    struct trainer *t = NULL;
    struct checkpoint c;
    struct diag diag = {0};
    struct toy toy;

    toy_init(&toy, 16, NET_W_BINARY, NET_A_INT8);
    assert_int_equal(trainer_new(&t, &toy.recipe), 0);
    struct file f = small_file(&toy);
    assert_int_equal(checkpoint_parse(&c, f.data, f.n, NULL), CHECKPOINT_OK);
    assert_int_equal(trainer_fits(&c, &diag), TRAINER_OTHER_NET);
    assert_non_null(strstr(diag.text, "has 3 parameters and 1 numbers of state, and its"));
    assert_int_equal(trainer_load(t, &c), -22);
    assert_int_equal(trainer_warm(t, &c, NULL), TRAINER_OTHER_NET);
    trainer_save(t, &c);
    assert_int_equal(trainer_fits(&c, NULL), TRAINER_OK);
    c.recipe.activations = NET_A_BINARY; /* has deviations */
    assert_int_equal(trainer_fits(&c, NULL), TRAINER_OTHER_NET);
    trainer_free(t);
    trainer_free(NULL);
    free(f.data);
    toy_deinit(&toy);
}

/* Goal: as many numbers are not yet the same net. Method: three heads with keys of their own have
 * as many weights as four that share two. */
static void a_warm_start_wants_the_same_net_number_by_number(void **state)
{
    struct trainer *four = NULL, *three = NULL;
    struct checkpoint c;
    struct diag diag = {0};
    struct toy toy;

    toy_init(&toy, 16, NET_W_FLOAT, NET_A_FLOAT);
    assert_int_equal(trainer_new(&four, &toy.recipe), 0);
    toy.recipe.n_head = toy.recipe.n_head_kv = 3;
    assert_true(recipe_check(&toy.recipe, NULL));
    assert_int_equal(trainer_new(&three, &toy.recipe), 0);
    assert_int_equal(net_size(trainer_net(four)), net_size(trainer_net(three)));
    trainer_save(four, &c);
    assert_int_equal(trainer_warm(three, &c, &diag), TRAINER_OTHER_NET);
    assert_string_equal(diag.text, "its n_head is 4, not 3");
    c.recipe.weights = NET_W_BINARY;
    c.recipe.n_ctx = 32;
    assert_int_equal(trainer_warm(four, &c, NULL), TRAINER_OK);
    trainer_free(four);
    trainer_free(three);
    toy_deinit(&toy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(a_file_with_one_bit_changed_or_cut_is_refused),
        cmocka_unit_test(a_recipe_out_of_bounds_is_refused_by_name),
        cmocka_unit_test(a_trainer_refuses_the_numbers_of_another_net),
        cmocka_unit_test(a_warm_start_wants_the_same_net_number_by_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
