/* Every weight mode with every activation mode, and every format they are stored in, from a
 * beginning at random to a file: what it has learned, and whether the engine has it, too. */
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/train/both.h"

#define ROWS 2000
#define SEEN 8 /* sentences that are run through the engine as well */

/* A mode, and the loss that it has to come to on sentences that are held back: about twice what it
 * was with three seeds, or for less than a hundredth, a hundredth. */
struct mode {
    enum net_weights weights;
    enum net_activations activations;
    enum net_head head;
    enum recipe_format format;
    double loss; /* nats for a token of an answer */
};

static struct mode modes[] = {
    {NET_W_FLOAT, NET_A_FLOAT, NET_H_FLOAT, RECIPE_I2_S, 0.01},
    {NET_W_FLOAT, NET_A_FLOAT, NET_H_INT8, RECIPE_I2_S, 0.01},
    {NET_W_FLOAT, NET_A_INT8, NET_H_INT8, RECIPE_I2_S, 0.01},
    {NET_W_FLOAT, NET_A_BINARY, NET_H_INT8, RECIPE_I2_S, 0.1},
    {NET_W_TERNARY, NET_A_FLOAT, NET_H_INT8, RECIPE_I2_S, 0.01},
    {NET_W_TERNARY, NET_A_INT8, NET_H_INT8, RECIPE_I2_S, 0.01},
    {NET_W_TERNARY, NET_A_INT8, NET_H_FLOAT, RECIPE_TQ2_0, 0.01},
    {NET_W_TERNARY, NET_A_INT8, NET_H_INT8, RECIPE_Q2_0, 0.01},
    {NET_W_TERNARY, NET_A_BINARY, NET_H_INT8, RECIPE_I2_S, 0.4},
    {NET_W_BINARY, NET_A_FLOAT, NET_H_INT8, RECIPE_I2_S, 0.01},
    {NET_W_BINARY, NET_A_INT8, NET_H_INT8, RECIPE_I2_S, 0.01},
    {NET_W_BINARY, NET_A_INT8, NET_H_FLOAT, RECIPE_I2_S, 0.01},
    {NET_W_BINARY, NET_A_BINARY, NET_H_INT8, RECIPE_I2_S, 0.4},
};

static bool sanitized(void)
{
    const char *said = getenv("ONEBIT_SANITIZED");

    return said && strcmp(said, "1") == 0;
}

/* Under a sanitizer there is time to begin, and none to learn. */
static struct recipe recipe_of(const struct toy *toy, const struct mode *m)
{
    struct recipe r = toy->recipe;

    r.weights = m->weights;
    r.activations = m->activations;
    r.head = m->head;
    r.format = m->format;
    r.n_embd = m->format == RECIPE_TQ2_0 ? 256 : 128; /* whose groups have 256 columns */
    r.n_head = r.n_embd / r.head_dim;
    r.n_head_kv = 1;
    r.n_steps = sanitized() ? 12 : 250;
    r.n_warm = r.n_steps / 10;
    r.batch = 16;
    r.n_threads = 1;
    assert_true(recipe_check(&r, NULL));
    return r;
}

/* The loss of sentences that are held back. */
static double loss_of(struct trainer *t, const struct toy *toy, double *ret_right)
{
    struct net_loss l;

    assert_int_equal(trainer_loss(t, toy->held, NULL, &l), 0);
    *ret_right = (double)l.n_best / (double)l.n;
    return l.sum / l.weight;
}

static void check_loss(struct trainer *t, const struct toy *toy, const struct mode *m)
{
    struct step_report report;
    double right;
    const double before = loss_of(t, toy, &right);

    for (uint64_t i = 0; i < trainer_recipe(t)->n_steps; i++) {
        assert_int_equal(trainer_step(t, toy->data, &report), TRAINER_OK);
    }
    const double after = loss_of(t, toy, &right);
    print_message("  loss %.3f, then %.4f of at most %.3f, %.1f %% right\n", before, after, m->loss,
                  100 * right);
    assert_true(after < (sanitized() ? before : m->loss));
}

static void check_engine(struct trainer *t, const struct toy *toy)
{
    const struct model_limits limits = {0};
    uint32_t rows[SEEN];
    const int fd = both_file(t, toy);
    struct model *model = NULL;
    struct both_gap g = {0};
    struct batch b = {0};

    assert_int_equal(model_open_gguf(&model, fd, &limits, NULL), MODEL_OK);
    for (uint32_t i = 0; i < SEEN; i++) {
        rows[i] = i * (uint32_t)(data_rows(toy->held) / SEEN);
    }
    assert_int_equal(batch_fill(&b, toy->held, rows, SEEN, 0), 0);
    for (size_t i = 0; i < SEEN; i++) {
        both_add(&g, trainer_net(t), model, b.tokens + b.begin[i], b.begin[i + 1] - b.begin[i]);
    }
    print_message("  the engine's logits differ by %.1e of at most %.0e; of %zu tokens %zu are "
                  "equal, %zu have another largest one\n",
                  both_rms(&g), both_bound(trainer_recipe(t)), g.n, g.n_equal, g.n_others);
    assert_true(both_rms(&g) < both_bound(trainer_recipe(t)) && g.n_others <= g.n / 20);
    batch_deinit(&b);
    model_free(model);
    (void)close(fd);
}

/* Goal: each mode learns, and what it has learned is what the file says. Method: a net of 0.2 M
 * weights, some hundred steps, the loss of sentences that are held back; then these sentences with
 * their answers through the net and through the engine. */
static void it_learns_and_the_engine_says_the_same(void **state)
{
    const struct mode *m = *state;
    struct trainer *t = NULL;
    struct toy toy;

    toy_init_wide(&toy, ROWS);
    const struct recipe recipe = recipe_of(&toy, m);
    assert_int_equal(trainer_new(&t, &recipe), 0);
    check_loss(t, &toy, m);
    check_engine(t, &toy);
    trainer_free(t);
    toy_deinit(&toy);
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[ARRAY_SIZE(modes)];
    char names[ARRAY_SIZE(modes)][64];

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        struct mode *m = &modes[i];
        const struct recipe r = {.weights = m->weights,
                                 .activations = m->activations,
                                 .head = m->head,
                                 .format = m->format};
        (void)snprintf(names[i], sizeof(names[i]), "%s_weights_%s_activations_%s_head_as_%s",
                       recipe_weights_names[m->weights], recipe_activations_names[m->activations],
                       recipe_head_names[m->head], recipe_matrix_format(&r));
        tests[i] = (struct CMUnitTest){.name = names[i],
                                       .test_func = it_learns_and_the_engine_says_the_same,
                                       .initial_state = m};
    }
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
