/* likelihood: a row goes through the engine in steps of CHUNK tokens, which ask for the logits of
 * those alone that foretell one of the answer's. */
#include "train/loop/likelihood.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "train/loop/prompt.h"

#define CHUNK ((size_t)256) /* tokens of a step */

struct work {
    struct engine *engine; /* owned, as everything below */
    struct kv_pool *pool;
    struct stepper *stepper;
    struct seq *seq;
    int32_t *ids; /* (n_ctx + 1): the last one is only foretold */
    size_t n_ctx, n_vocab;
};

static void deinit(struct work *w)
{
    stepper_free(w->stepper);
    seq_free(w->seq);
    kv_pool_free(w->pool);
    engine_free(w->engine);
    free(w->ids);
}

static int init(struct work *w, const struct model *model, enum kv_type kv, unsigned n_threads)
{
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = n_threads};
    const struct stepper_limits limits = {.n_tokens_max = CHUNK, .n_logits_max = CHUNK};
    struct model_info info;

    model_info(model, &info);
    *w = (struct work){.n_ctx = info.n_ctx_train, .n_vocab = info.n_vocab};
    w->ids = calloc(w->n_ctx + 1, sizeof(*w->ids));
    int r = w->ids ? engine_new(&w->engine, &options) : -ENOMEM;
    if (r == 0) {
        r = kv_pool_new(&w->pool, model, kv, (w->n_ctx + KV_BLOCK - 1) / KV_BLOCK);
    }
    if (r == 0) {
        r = seq_new(&w->seq, w->pool, w->n_ctx);
    }
    return r == 0 ? stepper_new(&w->stepper, w->engine, model, &limits) : r;
}

/* -log of the share that softmax gives one token; NaN for logits that are no numbers. */
static double surprise(const float *logits, size_t n, int32_t id)
{
    double most = -INFINITY, sum = 0;

    for (size_t i = 0; i < n; i++) {
        if (!isfinite(logits[i])) {
            return NAN;
        }
        most = logits[i] > most ? (double)logits[i] : most;
    }
    for (size_t i = 0; i < n; i++) {
        sum += exp((double)logits[i] - most);
    }
    return most + log(sum) - (double)logits[id];
}

/* The answer is ids[n_prompt..n). */
static int one_row(struct work *w, size_t n_prompt, size_t n, struct likelihood *to)
{
    seq_rewind(w->seq, 0);
    for (size_t at = 0; at + 1 < n;) {
        const size_t left = n - 1 - at, k = left < CHUNK ? left : CHUNK;
        const size_t first = at > n_prompt - 1 ? at : n_prompt - 1; /* that foretells */
        const size_t n_logits = at + k > first ? at + k - first : 0;
        struct step_item item = {
            .seq = w->seq, .ids = w->ids + at, .n_ids = k, .n_logits = n_logits};
        const int r = stepper_run(w->stepper, &item, 1, NULL);
        if (r != STEP_OK) {
            return r < 0 ? r : -EIO;
        }
        for (size_t i = 0; i < n_logits; i++) {
            const double s = surprise(item.logits + i * w->n_vocab, w->n_vocab,
                                      w->ids[at + k - n_logits + i + 1]);
            if (isnan(s)) {
                return -EDOM;
            }
            to->sum += s;
            to->n_tokens++;
        }
        at += k;
    }
    to->n_rows++;
    return 0;
}

int likelihood_run(const struct model *model, enum kv_type kv, unsigned n_threads, size_t n,
                   likelihood_row_fn *row, void *arg, struct likelihood *ret)
{
    struct work w;
    int r = init(&w, model, kv, n_threads);

    *ret = (struct likelihood){0};
    for (size_t i = 0; r == 0 && i < n; i++) {
        size_t n_prompt = 0, n_ids = 0;
        r = row(arg, i, w.ids, w.n_ctx + 1, &n_prompt, &n_ids);
        if (r == PROMPT_OK && n_prompt > 0) {
            r = one_row(&w, n_prompt, n_ids, ret);
        } else if (r >= 0) {
            r = 0;
            ret->n_skipped++;
        }
    }
    deinit(&w);
    return r;
}
