/* What is around the net, without memory. */
#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"
#include "tests/support/nomem.h"
#include "tests/unit/train/toy.h"
#include "train/bpe/bpe.h"
#include "train/bpe/corpus.h"
#include "train/bpe/keys.h"
#include "train/loop/export.h"
#include "train/loop/greedy.h"
#include "train/loop/prompt.h"
#include "train/loop/rows.h"
#include "train/loop/trainer.h"

#define ALLOCATIONS_MAX 20000u

struct place {
    struct toy toy;
    struct trainer *trainer;
    int fd; /* of a model */
    struct model *model;
};

typedef int everything_fn(struct place *p);

/* Goal: a failed allocation anywhere is -ENOMEM and leaks nothing. Method: none succeeds, then one,
 * then two, until all do; a sanitizer watches for leaks. */
static void fail_each(struct place *p, everything_fn *all, size_t at_least)
{
    size_t i = 0;

    for (bool failed = true; failed; i++) {
        assert_true(i < ALLOCATIONS_MAX);
        nomem_after(i);
        const int r = all(p);
        failed = nomem_off();
        assert_int_equal(r, failed ? -ENOMEM : 0);
    }
    assert_true(i > at_least);
}

static int make_vocabulary(struct place *p)
{
    const struct bpe_options o = {.n_tokens = 280, .count_min = 1};
    const int fd = memfd_create("words", MFD_CLOEXEC);
    struct vocabulary v = {0};
    struct gguf_writer *w = NULL;
    struct corpus *c = NULL;
    struct bpe *b = NULL;
    int r = corpus_new(&c, "qwen2");

    if (r == 0) {
        r = corpus_add(c, strview_of("turn on the fan in the hall, and the light of the hall"));
    }
    if (r == 0) {
        r = bpe_train(&b, c, &o);
    }
    if (r == 0) {
        r = gguf_writer_new(&w);
    }
    if (r == 0) {
        r = bpe_put_keys(w, b, "qwen2");
    }
    if (r == 0) {
        r = gguf_writer_begin(w, fd);
    }
    if (r == 0) {
        r = gguf_writer_end(w);
    }
    if (r == 0) {
        r = vocabulary_open(&v, fd, NULL);
    }
    vocabulary_close(&v);
    gguf_writer_free(w);
    bpe_free(b);
    corpus_free(c);
    (void)close(fd);
    return r;
}

/* jansson has an allocator of its own that is not made to fail here: it is linked as it is. */
static int read_rows(struct place *p)
{
    const uint32_t order[] = {1, 0};
    struct batch b = {0};
    struct data *d = NULL;
    int r = data_new(&d, &p->toy.vocabulary, 64);

    if (r == 0) {
        r = data_add(d, p->toy.rows, p->toy.n_rows_bytes, false, NULL);
    }
    if (r == 0) {
        r = batch_fill(&b, d, order, 2, 0);
    }
    batch_deinit(&b);
    data_free(d);
    return r;
}

static int export_model(struct place *p)
{
    const struct export_card card = {.name = "toy"};

    assert_int_equal(ftruncate(p->fd, 0), 0);
    assert_int_equal(lseek(p->fd, 0, SEEK_SET), 0);
    return export_gguf(trainer_net(p->trainer), &p->toy.recipe, trainer_at(p->trainer),
                       &p->toy.vocabulary, &card, p->fd);
}

static int give(void *arg, size_t i, int32_t *ids, size_t n_max, size_t *ret_n)
{
    return prompt_ids(arg, CHAT_CHATML, strview_of(i ? "on" : "turn off"), ids, n_max, ret_n);
}

static int take(void *arg, size_t i, struct strview text, bool ended)
{
    return 0;
}

static int answer(struct place *p)
{
    const struct greedy_options o = {.n_threads = 1, .kv = KV_F16, .n_answer_max = 4};
    struct greedy *g = NULL;
    int r = greedy_new(&g, p->model, &o);

    if (r == 0) {
        r = greedy_run(g, 2, give, take, p->toy.vocabulary.vocab);
    }
    greedy_free(g);
    return r;
}

static void a_vocabulary_is_made_or_memory_was_short(void **state)
{
    struct place p = {0};

    fail_each(&p, make_vocabulary, 30);
}

static void rows_and_batches_and_a_model_too(void **state)
{
    const struct model_limits limits = {0};
    struct place p = {.fd = memfd_create("model", MFD_CLOEXEC)};

    toy_init(&p.toy, 3, NET_W_BINARY, NET_A_INT8);
    assert_int_equal(trainer_new(&p.trainer, &p.toy.recipe), 0);
    fail_each(&p, read_rows, 30);
    fail_each(&p, export_model, 5);
    assert_int_equal(model_open_gguf(&p.model, p.fd, &limits, NULL), MODEL_OK);
    fail_each(&p, answer, 20);
    model_free(p.model);
    trainer_free(p.trainer);
    toy_deinit(&p.toy);
    (void)close(p.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vocabulary_is_made_or_memory_was_short),
        cmocka_unit_test(rows_and_batches_and_a_model_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
