#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"
#include "tests/unit/train/toy.h"
#include "train/loop/export.h"
#include "train/loop/greedy.h"
#include "train/loop/prompt.h"
#include "train/loop/trainer.h"

#define PROMPTS 40
#define ANSWER_MAX 12

struct asked {
    const struct vocab *vocab;
    size_t n, from;             /* prompts from..from + n of all */
    char answers[PROMPTS][256]; /* of each */
    bool ended[PROMPTS], had[PROMPTS];
    size_t stop_at; /* an answer that ends the run; SIZE_MAX: none */
};

static int give(void *arg, size_t i, int32_t *ids, size_t n_max, size_t *ret_n)
{
    const struct asked *a = arg;
    char text[512] = "";

    i += a->from;
    if (i == 7) { /* more than the context holds */
        memset(text, 'x', sizeof(text) - 1);
    } else {
        for (size_t k = 0; k <= i % 9; k++) {
            strcat(text, k % 2 ? " the fan" : " on");
        }
    }
    return prompt_ids(a->vocab, CHAT_CHATML, strview_of(text), ids, n_max, ret_n);
}

static int take(void *arg, size_t i, struct strview text, bool ended)
{
    struct asked *a = arg;

    if (i == a->stop_at) {
        return 5;
    }
    i += a->from;
    assert_false(a->had[i]);
    a->had[i] = true;
    a->ended[i] = ended;
    strview_copy(a->answers[i], sizeof(a->answers[i]), text);
    return 0;
}

/* A model that has learned little, so that it says this and that. */
static struct model *model_of(struct toy *toy)
{
    const struct export_card card = {0};
    const struct model_limits limits = {0};
    const int fd = memfd_create("model", MFD_CLOEXEC);
    struct trainer *t = NULL;
    struct step_report report;
    struct model *m = NULL;

    toy_init(toy, 64, NET_W_BINARY, NET_A_INT8);
    assert_int_equal(trainer_new(&t, &toy->recipe), 0);
    for (int i = 0; i < 25; i++) {
        assert_int_equal(trainer_step(t, toy->data, &report), TRAINER_OK);
    }
    assert_int_equal(
        export_gguf(trainer_net(t), &toy->recipe, trainer_at(t), &toy->vocabulary, &card, fd), 0);
    trainer_free(t);
    assert_int_equal(model_open_gguf(&m, fd, &limits, NULL), MODEL_OK);
    (void)close(fd);
    return m;
}

static int ask(const struct model *m, struct asked *a)
{
    const struct greedy_options o = {.n_threads = 1, .kv = KV_F32, .n_answer_max = ANSWER_MAX};
    struct greedy *g = NULL;

    a->vocab = model_vocab(m);
    assert_int_equal(greedy_new(&g, m, &o), 0);
    const int r = greedy_run(g, a->n, give, take, a);
    greedy_free(g);
    return r;
}

/* Goal: an answer is the prompt's own. Method: more prompts than slots at once, against each by
 * itself; one of them does not fit and is not answered. */
static void an_answer_does_not_depend_on_the_company(void **state)
{
    struct asked *all = calloc(1, sizeof(*all)), *one = calloc(1, sizeof(*one));
    struct toy toy;
    struct model *m = model_of(&toy);
    size_t n_said = 0;

    assert_true(all && one);
    *all = (struct asked){.n = PROMPTS, .stop_at = SIZE_MAX};
    assert_int_equal(ask(m, all), 0);
    for (size_t i = 0; i < PROMPTS; i++) {
        *one = (struct asked){.n = 1, .from = i, .stop_at = SIZE_MAX};
        assert_int_equal(ask(m, one), 0);
        assert_true(all->had[i] && all->ended[i] == one->ended[i]);
        assert_string_equal(all->answers[i], one->answers[i]);
        n_said += all->answers[i][0] != '\0';
    }
    assert_true(n_said > PROMPTS / 2);
    assert_false(all->ended[7]);
    assert_string_equal(all->answers[7], "");
    free(all);
    free(one);
    model_free(m);
    toy_deinit(&toy);
}

static void who_takes_the_answers_may_end_the_run(void **state)
{
    struct asked *a = calloc(1, sizeof(*a));
    struct toy toy;
    struct model *m = model_of(&toy);

    assert_non_null(a);
    *a = (struct asked){.n = PROMPTS, .stop_at = 3};
    assert_int_equal(ask(m, a), 5);
    *a = (struct asked){.n = 0, .stop_at = 3};
    assert_int_equal(ask(m, a), 0);
    free(a);
    model_free(m);
    toy_deinit(&toy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_does_not_depend_on_the_company),
        cmocka_unit_test(who_takes_the_answers_may_end_the_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
