#include "tests/unit/train/both.h"

#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "train/loop/export.h"

#define EQUAL 1e-5 /* a token's difference, of the size of its logits, that is rounding alone */

int both_file(struct trainer *t, const struct toy *toy)
{
    const struct export_card card = {.name = "toy"};
    const int fd = memfd_create("exported", MFD_CLOEXEC);

    assert_int_equal(
        export_gguf(trainer_net(t), trainer_recipe(t), trainer_at(t), &toy->vocabulary, &card, fd),
        0);
    return fd;
}

/* The engine's logits of all tokens. */
static void engine_logits(const struct model *model, const int32_t *ids, size_t n, size_t n_vocab,
                          float *ret)
{
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = 1};
    const struct stepper_limits limits = {.n_tokens_max = BOTH_CTX, .n_logits_max = BOTH_CTX};
    struct engine *e = NULL;
    struct kv_pool *pool = NULL;
    struct seq *seq = NULL;
    struct stepper *st = NULL;

    assert_int_equal(engine_new(&e, &options), 0);
    assert_int_equal(kv_pool_new(&pool, model, KV_F32, (BOTH_CTX + KV_BLOCK - 1) / KV_BLOCK), 0);
    assert_int_equal(seq_new(&seq, pool, BOTH_CTX), 0);
    assert_int_equal(stepper_new(&st, e, model, &limits), 0);
    struct step_item item = {.seq = seq, .ids = ids, .n_ids = n, .n_logits = n};
    assert_int_equal(stepper_run(st, &item, 1, NULL), STEP_OK);
    memcpy(ret, item.logits, n * n_vocab * sizeof(*ret));
    stepper_free(st);
    seq_free(seq);
    kv_pool_free(pool);
    engine_free(e);
}

static size_t argmax(const float *x, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++) {
        best = x[i] > x[best] ? i : best;
    }
    return best;
}

static void add_token(struct both_gap *g, const float *ours, const float *engines, size_t n)
{
    double difference = 0, size = 0;

    for (size_t i = 0; i < n; i++) {
        const double d = (double)engines[i] - (double)ours[i];
        difference += d * d;
        size += (double)ours[i] * (double)ours[i];
    }
    g->difference += difference;
    g->size += size;
    g->n++;
    g->n_equal += sqrt(difference / size) <= EQUAL;
    g->n_others += argmax(ours, n) != argmax(engines, n);
}

void both_add(struct both_gap *g, struct net *net, const struct model *model, const int32_t *ids,
              size_t n)
{
    const size_t n_vocab = net_shape(net)->n_vocab;
    float *ours = calloc(BOTH_CTX * n_vocab, sizeof(*ours));
    float *engines = calloc(BOTH_CTX * n_vocab, sizeof(*engines));

    assert_true(ours && engines && n <= BOTH_CTX);
    assert_int_equal(net_logits(net, ids, n, ours), 0);
    engine_logits(model, ids, n, n_vocab, engines);
    for (size_t i = 0; i < n; i++) {
        add_token(g, ours + i * n_vocab, engines + i * n_vocab, n_vocab);
    }
    free(ours);
    free(engines);
}

double both_rms(const struct both_gap *g)
{
    return sqrt(g->difference / g->size);
}

double both_bound(const struct recipe *r)
{
    return r->activations == NET_A_BINARY                          ? 5e-2
           : r->activations == NET_A_INT8 || r->head == NET_H_INT8 ? 5e-3
                                                                   : 1e-5;
}
