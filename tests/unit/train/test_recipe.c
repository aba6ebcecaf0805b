#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/kernels/kernels.h"
#include "engine/shape.h"
#include "tests/unit/train/both.h"
#include "tests/unit/train/toy.h"
#include "train/loop/recipe.h"
#include "train/loop/trainer.h"

static struct recipe sound(enum net_weights weights, enum net_activations activations)
{
    struct toy toy;

    toy_init(&toy, 8, weights, activations);
    const struct recipe r = toy.recipe;
    toy_deinit(&toy);
    return r;
}

/* Goal: no member is taken as it comes. Method: each of them, too small and too large; what may
 * have any value is left out. */
static void every_member_has_its_bounds(void **state)
{
    const struct recipe good = sound(NET_W_BINARY, NET_A_INT8);
    const size_t n = sizeof(good) / 8;
    size_t n_refused = 0;

    for (size_t i = 0; i < n; i++) {
        const double real = NAN;
        const uint64_t whole = UINT64_MAX - 1; /* as a double that is a NaN, too */
        struct recipe r = good;
        struct diag diag = {0};
        memcpy((char *)&r + i * 8, &whole, 8);
        const bool refused = !recipe_check(&r, &diag);
        assert_true(refused == diag.set);
        memcpy((char *)&r + i * 8, &real, 8);
        n_refused += refused && !recipe_check(&r, NULL);
    }
    assert_int_equal(n_refused, n - 2); /* seed and hash */
    assert_true(recipe_check(&good, NULL));
}

static void what_does_not_go_together_is_refused_in_words(void **state)
{
    struct recipe r = sound(NET_W_BINARY, NET_A_INT8);
    struct diag diag = {0};

    r.format = RECIPE_TQ2_0;
    assert_false(recipe_check(&r, &diag));
    assert_non_null(strstr(diag.text, "TQ2_0 is for ternary weights"));
    r = sound(NET_W_TERNARY, NET_A_INT8);
    r.format = RECIPE_TQ2_0;
    assert_true(recipe_check(&r, NULL));
    r.n_ff = 128;
    assert_false(recipe_check(&r, NULL)); /* blocks of 256 */
    r = sound(NET_W_FLOAT, NET_A_FLOAT);
    r.n_head_kv = 3;
    assert_false(recipe_check(&r, NULL));
    r = sound(NET_W_FLOAT, NET_A_FLOAT);
    r.n_warm = r.n_steps + 1;
    assert_false(recipe_check(&r, NULL));
    r = sound(NET_W_FLOAT, NET_A_FLOAT);
    r.n_head = 64;
    r.head_dim = 512;
    diag = (struct diag){0};
    assert_false(recipe_check(&r, &diag));
    assert_string_equal(diag.text, "64 heads of 512 together are 32768 wide, more than 16384");
    r.n_head = 32;
    assert_true(recipe_check(&r, NULL));
}

/* Goal: what is trained can be run. Method: the trainer's maxima against the engine's, and a model
 * with the widest head, opened. */
static void nothing_may_be_larger_than_the_engine_takes(void **state)
{
    const struct model_limits limits = {0};
    struct model *model = NULL;
    struct model_info info;
    struct trainer *t = NULL;
    struct diag diag = {0};
    struct toy toy;

    assert_true(NET_LAYERS_MAX <= MODEL_LAYERS_MAX && NET_VOCAB_MAX <= MODEL_VOCAB_MAX);
    assert_true(NET_CTX_MAX <= MODEL_CTX_MAX && NET_WIDTH_MAX <= KERN_COLS_MAX);
    assert_true(NET_HEADS_MAX <= SHAPE_HEADS_MAX && NET_HEAD_DIM_MAX <= SHAPE_HEAD_DIM_MAX);
    toy_init(&toy, 8, NET_W_BINARY, NET_A_INT8);
    toy.recipe.n_layer = toy.recipe.n_head = toy.recipe.n_head_kv = 1;
    toy.recipe.head_dim = NET_HEAD_DIM_MAX;
    assert_true(recipe_check(&toy.recipe, NULL));
    assert_int_equal(trainer_new(&t, &toy.recipe), 0);
    const int fd = both_file(t, &toy);
    if (model_open_gguf(&model, fd, &limits, &diag) != MODEL_OK) {
        fail_msg("%s", diag.text);
    }
    model_info(model, &info);
    assert_int_equal(info.head_dim, NET_HEAD_DIM_MAX);
    (void)close(fd);
    model_free(model);
    trainer_free(t);
    toy_deinit(&toy);
}

/* Goal: what the command line takes the net takes, and the writer has a format for. Method: every
 * pair of modes; widths in blocks of 32 where the modes allow them. */
static void a_sound_recipe_makes_a_net(void **state)
{
    for (unsigned w = 0; w <= NET_W_BINARY; w++) {
        for (unsigned a = 0; a <= NET_A_BINARY; a++) {
            struct recipe r = sound((enum net_weights)w, (enum net_activations)a);
            for (r.n_embd = 32; r.n_embd <= 256; r.n_embd += 32) {
                struct trainer *t = NULL;
                r.n_ff = 512 - r.n_embd;
                const bool taken = recipe_check(&r, NULL);
                if (taken) {
                    assert_int_equal(trainer_new(&t, &r), 0);
                    trainer_free(t);
                }
                assert_true(taken || r.n_embd % 128 != 0);
            }
        }
    }
}

static void it_is_printed_by_name(void **state)
{
    const struct recipe r = sound(NET_W_TERNARY, NET_A_INT8);
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    recipe_print(f, &r);
    assert_int_equal(fclose(f), 0);
    assert_non_null(strstr(text, "weights          ternary\n"));
    assert_non_null(strstr(text, "lr               0.002\n"));
    assert_non_null(strstr(text, "n_layer          2\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_member_has_its_bounds),
        cmocka_unit_test(what_does_not_go_together_is_refused_in_words),
        cmocka_unit_test(nothing_may_be_larger_than_the_engine_takes),
        cmocka_unit_test(a_sound_recipe_makes_a_net),
        cmocka_unit_test(it_is_printed_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
