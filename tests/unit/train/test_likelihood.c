#include "tests/support/test.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/train/toy.h"
#include "train/loop/export.h"
#include "train/loop/likelihood.h"
#include "train/loop/prompt.h"
#include "train/loop/trainer.h"

#define ROWS 6
#define TOO_LONG 3 /* the row that no context holds */

struct given {
    const struct vocab *vocab;
    int32_t end;
    size_t n_tokens;
    int fail; /* what the callback says */
};

static int give(void *arg, size_t i, int32_t *ids, size_t n_max, size_t *ret_prompt, size_t *ret_n)
{
    struct given *g = arg;
    char text[512] = "";
    size_t n = 0;

    if (g->fail) {
        return g->fail;
    }
    if (i == TOO_LONG) {
        memset(text, 'x', sizeof(text) - 1);
    } else {
        for (size_t k = 0; k <= i; k++) {
            strcat(text, k % 2 ? " the fan" : " on");
        }
    }
    int r = prompt_ids(g->vocab, CHAT_CHATML, strview_of(text), ids, n_max, ret_prompt);
    if (r == PROMPT_OK) {
        r = answer_ids(g->vocab, strview_of("{\"on\":1}"), g->end, ids + *ret_prompt,
                       n_max - *ret_prompt, &n);
    }
    *ret_n = *ret_prompt + n;
    g->n_tokens += n;
    return r;
}

static struct model *model_of(struct toy *toy)
{
    const struct export_card card = {0};
    const struct model_limits limits = {0};
    const int fd = memfd_create("model", MFD_CLOEXEC);
    struct trainer *t = NULL;
    struct model *m = NULL;

    toy_init(toy, 64, NET_W_BINARY, NET_A_INT8);
    assert_int_equal(trainer_new(&t, &toy->recipe), 0);
    assert_int_equal(
        export_gguf(trainer_net(t), &toy->recipe, trainer_at(t), &toy->vocabulary, &card, fd), 0);
    trainer_free(t);
    assert_int_equal(model_open_gguf(&m, fd, &limits, NULL), MODEL_OK);
    (void)close(fd);
    return m;
}

/* -log of the chance of all tokens from n_prompt on, a step each. */
static double one_by_one(const struct model *m, const int32_t *ids, size_t n_prompt, size_t n)
{
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = 1};
    const struct stepper_limits limits = {.n_tokens_max = 1, .n_logits_max = 1};
    struct engine *e = NULL;
    struct kv_pool *pool = NULL;
    struct stepper *st = NULL;
    struct seq *seq = NULL;
    struct model_info info;
    double chance = 1;

    model_info(m, &info);
    assert_int_equal(engine_new(&e, &options), 0);
    assert_int_equal(kv_pool_new(&pool, m, KV_F32, info.n_ctx_train / KV_BLOCK + 1), 0);
    assert_int_equal(seq_new(&seq, pool, info.n_ctx_train), 0);
    assert_int_equal(stepper_new(&st, e, m, &limits), 0);
    for (size_t i = 0; i + 1 < n; i++) {
        struct step_item item = {.seq = seq, .ids = ids + i, .n_ids = 1, .n_logits = 1};
        double sum = 0;
        assert_int_equal(stepper_run(st, &item, 1, NULL), STEP_OK);
        for (size_t k = 0; k < info.n_vocab; k++) {
            sum += exp((double)item.logits[k]);
        }
        chance *= i + 1 >= n_prompt ? exp((double)item.logits[ids[i + 1]]) / sum : 1;
    }
    stepper_free(st);
    seq_free(seq);
    kv_pool_free(pool);
    engine_free(e);
    return -log(chance);
}

/* Goal: the answers' tokens count, all of them and no others. Method: against a walk of the engine
 * by single tokens; a row that does not fit is skipped. */
static void the_sum_is_that_of_the_answers_tokens(void **state)
{
    struct likelihood found;
    struct toy toy;
    struct model *m = model_of(&toy);
    struct given g = {.vocab = model_vocab(m)};
    double want = 0;

    assert_int_equal(prompt_end(g.vocab, &g.end), 0);
    for (size_t i = 0; i < ROWS; i++) {
        int32_t ids[256];
        size_t n_prompt = 0, n = 0;
        if (i != TOO_LONG) {
            assert_int_equal(give(&g, i, ids, ARRAY_SIZE(ids), &n_prompt, &n), PROMPT_OK);
            want += one_by_one(m, ids, n_prompt, n);
        }
    }
    const size_t n_tokens = g.n_tokens;
    assert_int_equal(likelihood_run(m, KV_F32, 1, ROWS, give, &g, &found), 0);
    assert_int_equal(found.n_tokens, n_tokens);
    assert_int_equal(found.n_rows, ROWS - 1);
    assert_int_equal(found.n_skipped, 1);
    assert_true(fabs(found.sum - want) < 1e-6 * want);
    g.fail = -EIO;
    assert_int_equal(likelihood_run(m, KV_F32, 1, ROWS, give, &g, &found), -EIO);
    g.fail = PROMPT_HARD;
    assert_int_equal(likelihood_run(m, KV_F32, 2, ROWS, give, &g, &found), 0);
    assert_int_equal(found.n_tokens, 0);
    model_free(m);
    toy_deinit(&toy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sum_is_that_of_the_answers_tokens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
