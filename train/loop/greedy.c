/* greedy: slots that sequences come into and leave, so that every step has as many as there are.
 * A slot gives its next piece of prompt, or the token that it has just said. */
#include "train/loop/greedy.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/buf.h"
#include "train/loop/prompt.h"

#define SLOTS 16u
#define CHUNK 128u /* prompt tokens of one slot in a step */
#define ANSWER_BYTES_MAX ((size_t)64 << 20)

struct slot {
    struct seq *seq; /* owned */
    int32_t *ids;    /* (n_ctx) owned: prompt, then what was said */
    size_t n, at;    /* ids there, and those the sequence has */
    size_t n_prompt;
    size_t i; /* of the prompt */
    bool busy;
};

struct greedy {
    const struct model *model; /* borrowed */
    size_t n_ctx, n_vocab, n_answer_max;
    struct engine *engine; /* owned, as everything below */
    struct kv_pool *pool;
    struct stepper *stepper;
    struct slot slots[SLOTS];
    struct buf text;
};

int greedy_new(struct greedy **ret, const struct model *model, const struct greedy_options *o)
{
    const struct engine_options options = {.cpu = cpu_level_best(), .n_threads = o->n_threads};
    const struct stepper_limits limits = {.n_tokens_max = SLOTS * CHUNK, .n_logits_max = SLOTS};
    struct greedy *g = calloc(1, sizeof(*g));
    struct model_info info;

    if (!g) {
        return -ENOMEM;
    }
    model_info(model, &info);
    g->model = model;
    g->n_ctx = info.n_ctx_train;
    g->n_vocab = info.n_vocab;
    g->n_answer_max = o->n_answer_max;
    buf_init(&g->text, ANSWER_BYTES_MAX);
    int r = engine_new(&g->engine, &options);
    if (r == 0) {
        r = kv_pool_new(&g->pool, model, o->kv, (g->n_ctx + KV_BLOCK - 1) / KV_BLOCK * SLOTS);
    }
    for (size_t i = 0; r == 0 && i < SLOTS; i++) {
        g->slots[i].ids = calloc(g->n_ctx, sizeof(int32_t));
        r = g->slots[i].ids ? seq_new(&g->slots[i].seq, g->pool, g->n_ctx) : -ENOMEM;
    }
    if (r == 0) {
        r = stepper_new(&g->stepper, g->engine, model, &limits);
    }
    if (r == 0) {
        *ret = g;
        g = NULL;
    }
    greedy_free(g);
    return r;
}

void greedy_free(struct greedy *g)
{
    if (!g) {
        return;
    }
    stepper_free(g->stepper);
    for (size_t i = 0; i < SLOTS; i++) {
        seq_free(g->slots[i].seq);
        free(g->slots[i].ids);
    }
    kv_pool_free(g->pool);
    engine_free(g->engine);
    buf_deinit(&g->text);
    free(g);
}

struct run {
    struct greedy *g;
    size_t n, next; /* prompts, and the first that has no slot yet */
    greedy_prompt_fn *prompt;
    greedy_fn *take;
    void *arg;
};

/* Hand over what a slot has said, and leave it. */
static int finish(struct run *run, struct slot *s, bool ended)
{
    const struct vocab *vocab = model_vocab(run->g->model);
    char piece[TEXT_PIECE_MAX];
    int r = 0;

    run->g->text.n = 0;
    for (size_t k = s->n_prompt; r == 0 && k < s->n; k++) {
        r = buf_append(&run->g->text, piece, vocab_piece(vocab, s->ids[k], false, piece));
    }
    s->busy = false;
    const struct strview text = {.data = (const char *)run->g->text.data, .n = run->g->text.n};
    return r < 0 ? r : run->take(run->arg, s->i, text, ended);
}

/* The next prompts come into the slots that are free. */
static int fill(struct run *run)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < SLOTS && run->next < run->n; i++) {
        struct slot *s = &run->g->slots[i];
        while (r == 0 && !s->busy && run->next < run->n) {
            *s = (struct slot){.seq = s->seq, .ids = s->ids, .i = run->next++};
            seq_rewind(s->seq, 0);
            r = run->prompt(run->arg, s->i, s->ids, run->g->n_ctx, &s->n);
            if (r >= 0 && (r != PROMPT_OK || s->n == 0)) {
                s->n = 0;
                r = finish(run, s, false);
                continue;
            }
            s->n_prompt = s->n;
            s->busy = true;
        }
    }
    return r;
}

static int32_t largest(const float *row, size_t n)
{
    size_t best = 0;

    for (size_t i = 0; i < n; i++) {
        if (!isfinite(row[i])) {
            return -1;
        }
        best = row[i] > row[best] ? i : best;
    }
    return (int32_t)best;
}

/* What a slot says next. */
static int say(struct run *run, struct slot *s, const float *logits)
{
    const struct greedy *g = run->g;
    const int32_t id = largest(logits, g->n_vocab);

    if (id < 0) {
        return -EDOM;
    }
    if (vocab_is_end(model_vocab(g->model), id)) {
        return finish(run, s, true);
    }
    if (s->n == g->n_ctx) {
        return finish(run, s, false);
    }
    s->ids[s->n++] = id;
    return s->n - s->n_prompt == g->n_answer_max ? finish(run, s, false) : 0;
}

static int step(struct run *run, bool *ret_busy)
{
    struct step_item items[SLOTS];
    struct slot *of[SLOTS];
    size_t n = 0;
    int r = fill(run);

    for (size_t i = 0; r == 0 && i < SLOTS; i++) {
        struct slot *s = &run->g->slots[i];
        if (s->busy) {
            const size_t left = s->n - s->at, k = left < CHUNK ? left : CHUNK;
            items[n] = (struct step_item){
                .seq = s->seq, .ids = s->ids + s->at, .n_ids = k, .n_logits = k == left};
            s->at += k;
            of[n++] = s;
        }
    }
    *ret_busy = n > 0;
    if (r != 0 || n == 0) {
        return r;
    }
    r = stepper_run(run->g->stepper, items, n, NULL);
    for (size_t i = 0; r == STEP_OK && i < n; i++) {
        if (items[i].n_logits > 0) {
            r = say(run, of[i], items[i].logits);
        }
    }
    return r;
}

int greedy_run(struct greedy *g, size_t n, greedy_prompt_fn *prompt, greedy_fn *take, void *arg)
{
    struct run run = {.g = g, .n = n, .prompt = prompt, .take = take, .arg = arg};
    bool busy = true;
    int r = 0;

    for (size_t i = 0; i < SLOTS; i++) {
        g->slots[i].busy = false;
    }
    while (r == 0 && busy) {
        r = step(&run, &busy);
    }
    return r;
}
