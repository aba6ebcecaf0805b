#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"
#include "tests/unit/train/both.h"
#include "train/loop/prompt.h"
#include "train/loop/trainer.h"

struct mode {
    enum net_weights weights;
    enum net_activations activations;
    enum net_head head;
    enum recipe_format format;
    const char *formats; /* that the engine says the file has */
    bool newer;          /* needs the key onebit.activations */
};

static const struct mode modes[] = {
    {NET_W_FLOAT, NET_A_FLOAT, NET_H_FLOAT, RECIPE_I2_S, "F32", false},
    {NET_W_FLOAT, NET_A_FLOAT, NET_H_INT8, RECIPE_I2_S, "F32+Q8_0", false},
    {NET_W_FLOAT, NET_A_INT8, NET_H_INT8, RECIPE_I2_S, "F32+Q8_0+int8-activations", true},
    {NET_W_FLOAT, NET_A_BINARY, NET_H_INT8, RECIPE_I2_S, "F32+Q8_0+binary-activations", true},
    {NET_W_TERNARY, NET_A_FLOAT, NET_H_INT8, RECIPE_I2_S, "F32+Q8_0", false},
    {NET_W_TERNARY, NET_A_INT8, NET_H_INT8, RECIPE_I2_S, "I2_S+Q8_0", false},
    {NET_W_TERNARY, NET_A_INT8, NET_H_FLOAT, RECIPE_TQ2_0, "TQ2_0+F32", false},
    {NET_W_TERNARY, NET_A_INT8, NET_H_INT8, RECIPE_Q2_0, "Q2_0+Q8_0", false},
    {NET_W_TERNARY, NET_A_BINARY, NET_H_INT8, RECIPE_I2_S, "I2_S+Q8_0+binary-activations", true},
    {NET_W_BINARY, NET_A_FLOAT, NET_H_INT8, RECIPE_I2_S, "F32+Q8_0", false},
    {NET_W_BINARY, NET_A_INT8, NET_H_INT8, RECIPE_I2_S, "Q1_0+Q8_0", false},
    {NET_W_BINARY, NET_A_INT8, NET_H_FLOAT, RECIPE_I2_S, "Q1_0+F32", false},
    {NET_W_BINARY, NET_A_BINARY, NET_H_INT8, RECIPE_I2_S, "Q1_0+Q8_0+binary-activations", true},
};

/* A net that has learned a little: weights, scales and thresholds are those of training. */
static struct trainer *trained(const struct toy *t)
{
    struct trainer *trainer = NULL;
    struct step_report report;

    assert_int_equal(trainer_new(&trainer, &t->recipe), 0);
    for (int i = 0; i < 30; i++) {
        assert_int_equal(trainer_step(trainer, t->data, &report), TRAINER_OK);
    }
    return trainer;
}

/* A sentence through both. */
static struct both_gap gap_of(struct trainer *t, const struct toy *toy, const struct model *model)
{
    struct both_gap g = {0};
    int32_t ids[BOTH_CTX];
    size_t n = 0;

    assert_int_equal(prompt_ids(toy->vocabulary.vocab, CHAT_CHATML,
                                strview_of("turn off the heater in the hall, please!"), ids,
                                BOTH_CTX, &n),
                     PROMPT_OK);
    both_add(&g, trainer_net(t), model, ids, n);
    return g;
}

static void try_mode(const struct mode *m)
{
    const struct model_limits limits = {0};
    struct model *model = NULL;
    struct model_info info;
    struct diag diag = {0};
    struct toy toy;

    toy_init(&toy, 64, m->weights, m->activations);
    toy.recipe.head = m->head;
    toy.recipe.format = m->format;
    assert_true(recipe_check(&toy.recipe, NULL));
    struct trainer *t = trained(&toy);
    const int fd = both_file(t, &toy);
    const int r = model_open_gguf(&model, fd, &limits, &diag);
    if (r != MODEL_OK) {
        fail_msg("%s weights, %s activations: outcome %d: %s", recipe_weights_names[m->weights],
                 recipe_activations_names[m->activations], r, diag.text);
    }
    model_info(model, &info);
    assert_string_equal(info.formats, m->formats);
    assert_int_equal(info.chat, CHAT_CHATML);
    assert_string_equal(info.name, "toy");
    const struct both_gap g = gap_of(t, &toy, model);
    print_message("%-8s %-7s %-10s differs by %.2e, %zu other tokens\n",
                  recipe_weights_names[m->weights], recipe_activations_names[m->activations],
                  info.formats, both_rms(&g), g.n_others);
    assert_true(both_rms(&g) < both_bound(&toy.recipe) && g.n_others == 0);
    model_free(model);
    trainer_free(t);
    toy_deinit(&toy);
    (void)close(fd);
}

/* Goal: an exported model is the net that was trained. Method: the same tokens through both, for
 * every weight mode, activation mode and format; some steps first, so that nothing is as it was at
 * the beginning. */
static void the_engine_gives_the_nets_own_logits(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        if (!modes[i].newer) {
            try_mode(&modes[i]);
        }
    }
}

/* Does this engine know onebit.activations? Then it refuses a word there that it does not know. */
static bool engine_knows_the_key(void)
{
    const struct model_limits limits = {0};
    const int fd = memfd_create("odd", MFD_CLOEXEC);
    struct gguf_writer *w = NULL;
    struct model *model = NULL;
    struct toy toy;
    int r;

    toy_init(&toy, 8, NET_W_FLOAT, NET_A_INT8);
    struct trainer *t = trained(&toy);
    const int sound = both_file(t, &toy);
    assert_int_equal(gguf_writer_new(&w), 0);
    assert_int_equal(gguf_put_from(w, sound, "general.", NULL), MODEL_OK);
    assert_int_equal(gguf_put_from(w, sound, "qwen3.", NULL), MODEL_OK);
    assert_int_equal(gguf_put_from(w, sound, "tokenizer.", NULL), MODEL_OK);
    assert_int_equal(gguf_put_str(w, "onebit.activations", strview_of("odd")), 0);
    for (size_t i = 0; i < net_count(trainer_net(t)); i++) {
        const struct net_tensor *x = net_tensor(trainer_net(t), i);
        assert_int_equal(gguf_put_tensor(w, x->name, "F32", x->cols, x->rows, x->rows == 1), 0);
    }
    assert_int_equal(gguf_writer_begin(w, fd), 0);
    for (size_t i = 0; i < net_count(trainer_net(t)); i++) {
        const struct net_tensor *x = net_tensor(trainer_net(t), i);
        assert_int_equal(gguf_writer_rows(w, net_params(trainer_net(t)) + x->at, x->rows), 0);
    }
    assert_int_equal(gguf_writer_end(w), 0);
    gguf_writer_free(w);
    r = model_open_gguf(&model, fd, &limits, NULL);
    model_free(model);
    trainer_free(t);
    toy_deinit(&toy);
    (void)close(sound);
    (void)close(fd);
    return r != MODEL_OK;
}

/* Goal: the same where the file's key says how inputs are rounded. */
static void and_so_where_a_key_says_how_inputs_are_rounded(void **state)
{
    if (!engine_knows_the_key()) {
        print_message("SKIPPED: this engine does not know the key onebit.activations\n");
        skip();
    }
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        if (modes[i].newer) {
            try_mode(&modes[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_engine_gives_the_nets_own_logits),
        cmocka_unit_test(and_so_where_a_key_says_how_inputs_are_rounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
