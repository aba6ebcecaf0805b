#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"
#include "tests/unit/train/toy.h"
#include "train/loop/export.h"
#include "train/loop/prompt.h"
#include "train/loop/trainer.h"

#define CTX 48

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

/* The engine's logits of all tokens. */
static void engine_logits(const struct model *model, const int32_t *ids, size_t n, size_t n_vocab,
                          float *ret)
{
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = 1};
    const struct stepper_limits limits = {.n_tokens_max = CTX, .n_logits_max = CTX};
    struct engine *e = NULL;
    struct kv_pool *pool = NULL;
    struct seq *seq = NULL;
    struct stepper *st = NULL;

    assert_int_equal(engine_new(&e, &options), 0);
    assert_int_equal(kv_pool_new(&pool, model, KV_F32, (CTX + KV_BLOCK - 1) / KV_BLOCK), 0);
    assert_int_equal(seq_new(&seq, pool, CTX), 0);
    assert_int_equal(stepper_new(&st, e, model, &limits), 0);
    struct step_item item = {.seq = seq, .ids = ids, .n_ids = n, .n_logits = n};
    assert_int_equal(stepper_run(st, &item, 1, NULL), STEP_OK);
    memcpy(ret, item.logits, n * n_vocab * sizeof(*ret));
    stepper_free(st);
    seq_free(seq);
    kv_pool_free(pool);
    engine_free(e);
}

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

static int exported(struct trainer *t, const struct toy *toy)
{
    const struct export_card card = {.name = "toy"};
    const int fd = memfd_create("exported", MFD_CLOEXEC);

    assert_int_equal(
        export_gguf(trainer_net(t), trainer_recipe(t), trainer_at(t), &toy->vocabulary, &card, fd),
        0);
    return fd;
}

struct gap {
    double rms;  /* of the difference, over the rms of the logits */
    size_t best; /* rows with another largest logit */
};

static size_t argmax(const float *x, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++) {
        best = x[i] > x[best] ? i : best;
    }
    return best;
}

static struct gap compare(const float *a, const float *b, size_t rows, size_t n)
{
    double difference = 0, size = 0;
    struct gap g = {0};

    for (size_t i = 0; i < rows * n; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    for (size_t r = 0; r < rows; r++) {
        g.best += argmax(a + r * n, n) != argmax(b + r * n, n);
    }
    g.rms = sqrt(difference / size);
    return g;
}

static struct gap gap_of(struct trainer *t, const struct toy *toy, const struct model *model)
{
    const size_t n_vocab = (size_t)toy->recipe.n_vocab;
    float *ours = calloc(CTX * n_vocab, sizeof(*ours));
    float *engines = calloc(CTX * n_vocab, sizeof(*engines));
    int32_t ids[CTX];
    size_t n = 0;

    assert_true(ours && engines);
    assert_int_equal(prompt_ids(toy->vocabulary.vocab, CHAT_CHATML,
                                strview_of("turn off the heater in the hall, please!"), ids, CTX,
                                &n),
                     PROMPT_OK);
    assert_int_equal(net_logits(trainer_net(t), ids, n, ours), 0);
    engine_logits(model, ids, n, n_vocab, engines);
    const struct gap g = compare(engines, ours, n, n_vocab);
    free(ours);
    free(engines);
    return g;
}

/* The engine and the net add floats up in different orders, nothing else: logits are equal up to
 * that, as engine/NUMERICS.md says of sums. Where a value is rounded to int8 or to its sign, such a
 * difference may now and then cross a border, and a whole step of the quantizer comes of it. */
static double bound(const struct mode *m)
{
    return m->activations == NET_A_BINARY                          ? 5e-2
           : m->activations == NET_A_INT8 || m->head == NET_H_INT8 ? 5e-3
                                                                   : 1e-5;
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
    const int fd = exported(t, &toy);
    const int r = model_open_gguf(&model, fd, &limits, &diag);
    if (r != MODEL_OK) {
        fail_msg("%s weights, %s activations: outcome %d: %s", recipe_weights_names[m->weights],
                 recipe_activations_names[m->activations], r, diag.text);
    }
    model_info(model, &info);
    assert_string_equal(info.formats, m->formats);
    assert_int_equal(info.chat, CHAT_CHATML);
    assert_string_equal(info.name, "toy");
    const struct gap g = gap_of(t, &toy, model);
    print_message("%-8s %-7s %-10s differs by %.2e, %zu other tokens\n",
                  recipe_weights_names[m->weights], recipe_activations_names[m->activations],
                  info.formats, g.rms, g.best);
    assert_true(g.rms < bound(m) && g.best == 0);
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
    const int sound = exported(t, &toy);
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
