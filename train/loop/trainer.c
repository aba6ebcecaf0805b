/* trainer: a step is a walk over the recipe's batches, then one over the tensors. */
#include "train/loop/trainer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "train/loop/data.h"

struct trainer {
    struct recipe recipe;
    struct progress_at at;
    struct net *net;      /* owned, as everything below */
    float *m, *v, *grads; /* (net_size) */
    struct order order;
    uint32_t *rows;        /* (batch * accumulate) of this step */
    struct batch *batches; /* (accumulate) */
};

static int alloc(struct trainer *t)
{
    const size_t n = net_size(t->net), k = (size_t)t->recipe.accumulate;

    t->m = calloc(n, sizeof(*t->m));
    t->v = calloc(n, sizeof(*t->v));
    t->grads = calloc(n, sizeof(*t->grads));
    t->rows = calloc((size_t)t->recipe.batch * k, sizeof(*t->rows));
    t->batches = calloc(k, sizeof(*t->batches));
    if (!t->m || !t->v || !t->grads || !t->rows || !t->batches) {
        return -ENOMEM;
    }
    return order_init(&t->order, t->recipe.seed, (size_t)t->recipe.n_rows);
}

int trainer_new(struct trainer **ret, const struct recipe *recipe)
{
    const struct net_shape shape = recipe_shape(recipe);
    const struct net_modes modes = recipe_modes(recipe);
    struct trainer *t = calloc(1, sizeof(*t));

    if (!t) {
        return -ENOMEM;
    }
    t->recipe = *recipe;
    int r = net_new(&t->net, &shape, &modes, (unsigned)recipe->n_threads, recipe->seed);
    if (r == 0) {
        r = alloc(t);
    }
    if (r == 0) {
        *ret = t;
        t = NULL;
    }
    trainer_free(t);
    return r;
}

void trainer_free(struct trainer *t)
{
    if (!t) {
        return;
    }
    for (size_t i = 0; t->batches && i < t->recipe.accumulate; i++) {
        batch_deinit(&t->batches[i]);
    }
    net_free(t->net);
    free(t->m);
    free(t->v);
    free(t->grads);
    free(t->rows);
    free(t->batches);
    order_deinit(&t->order);
    free(t);
}

int trainer_fits(const struct checkpoint *c, struct diag *ret_diag)
{
    const struct net_shape shape = recipe_shape(&c->recipe);
    const struct net_modes modes = recipe_modes(&c->recipe);
    size_t n_params = 0, n_state = 0;
    const int r = net_measure(&shape, &modes, &n_params, &n_state);

    if (r < 0) {
        return r;
    }
    if (c->n_params != n_params || c->n_state != n_state) {
        diag_set(ret_diag, 0,
                 "has %zu parameters and %zu numbers of state, and its recipe's net %zu and %zu",
                 c->n_params, c->n_state, n_params, n_state);
        return TRAINER_OTHER_NET;
    }
    return TRAINER_OK;
}

int trainer_load(struct trainer *t, const struct checkpoint *c)
{
    const size_t bytes = net_size(t->net) * sizeof(float);

    if (c->n_params != net_size(t->net) || c->n_state != net_state_size(t->net)) {
        return -EINVAL;
    }
    memcpy(net_params(t->net), c->params, bytes);
    memcpy(t->m, c->m, bytes);
    memcpy(t->v, c->v, bytes);
    if (c->n_state > 0) {
        memcpy(net_state(t->net), c->state, c->n_state * sizeof(float));
    }
    t->at = c->at;
    return 0;
}

int trainer_warm(struct trainer *t, const struct checkpoint *c, struct diag *ret_diag)
{
    if (!recipe_same_net(&c->recipe, &t->recipe, ret_diag)) {
        return TRAINER_OTHER_NET;
    }
    if (c->n_params != net_size(t->net)) {
        diag_set(ret_diag, 0, "it has %zu parameters, not %zu", c->n_params, net_size(t->net));
        return TRAINER_OTHER_NET;
    }
    memcpy(net_params(t->net), c->params, c->n_params * sizeof(float));
    return TRAINER_OK;
}

void trainer_save(struct trainer *t, struct checkpoint *ret)
{
    *ret = (struct checkpoint){
        .recipe = t->recipe,
        .at = t->at,
        .params = net_params(t->net),
        .m = t->m,
        .v = t->v,
        .n_params = net_size(t->net),
        .state = net_state(t->net),
        .n_state = net_state_size(t->net),
    };
}

struct net *trainer_net(struct trainer *t)
{
    return t->net;
}

const struct recipe *trainer_recipe(const struct trainer *t)
{
    return &t->recipe;
}

const struct progress_at *trainer_at(const struct trainer *t)
{
    return &t->at;
}

static struct net_batch batch_view(const struct batch *b)
{
    return (struct net_batch){
        .n_rows = b->n_rows, .begin = b->begin, .tokens = b->tokens, .mask = b->mask};
}

static void add_loss(struct net_loss *to, const struct net_loss *l)
{
    to->sum += l->sum;
    to->weight += l->weight;
    to->n += l->n;
    to->n_best += l->n_best;
}

/* The step's batches; returns the sum of their weights. */
static int fill(struct trainer *t, const struct data *data, struct step_report *s,
                double *ret_weight)
{
    const size_t n = (size_t)t->recipe.batch, k = (size_t)t->recipe.accumulate;
    int r = 0;

    order_take(&t->order, t->at.rows, n * k, t->rows);
    *ret_weight = 0;
    for (size_t i = 0; r == 0 && i < k; i++) {
        struct batch *b = &t->batches[i];
        r = batch_fill(b, data, t->rows + i * n, n, (float)t->recipe.prompt_weight);
        *ret_weight += b->weight;
        s->tokens += b->n_tokens;
    }
    return r;
}

static int gradients(struct trainer *t, const struct data *data, struct step_report *s)
{
    double weight;
    int r = fill(t, data, s, &weight);

    memset(t->grads, 0, net_size(t->net) * sizeof(*t->grads));
    for (size_t i = 0; r == 0 && i < t->recipe.accumulate; i++) {
        struct net_batch b = batch_view(&t->batches[i]);
        struct net_loss loss;
        b.scale = (float)(1 / weight);
        b.step = t->at.step;
        r = net_step(t->net, &b, t->grads, &loss);
        if (r == 0) {
            add_loss(&s->loss, &loss);
        }
    }
    return r;
}

static void update(struct trainer *t, const struct step_report *s)
{
    const struct adamw plain = recipe_adamw(&t->recipe);
    const double clip = t->recipe.clip;
    const float scale = clip > 0 && s->length > clip ? (float)(clip / s->length) : 1;
    float *params = net_params(t->net);

    for (size_t i = 0; i < net_count(t->net); i++) {
        const struct net_tensor *x = net_tensor(t->net, i);
        const size_t n = (size_t)x->rows * x->cols;
        struct adamw how = plain;
        how.decay = x->decay ? plain.decay : 0;
        adamw_step(&how, params + x->at, t->m + x->at, t->v + x->at, t->grads + x->at, n, scale,
                   (float)s->lr, t->at.step + 1);
    }
}

int trainer_step(struct trainer *t, const struct data *data, struct step_report *ret)
{
    const struct schedule schedule = recipe_schedule(&t->recipe);
    const uint64_t start = clock_now_ns();
    struct step_report s = {.lr = schedule_lr(&schedule, t->at.step)};
    const int r = gradients(t, data, &s);

    if (r < 0) {
        return r;
    }
    s.length = grads_length(t->grads, net_size(t->net));
    if (!isfinite(s.length) || !isfinite(s.loss.sum)) {
        return TRAINER_DIVERGED;
    }
    update(t, &s);
    t->at.step++;
    t->at.rows += t->recipe.batch * t->recipe.accumulate;
    t->at.tokens += s.tokens;
    t->at.seconds += (double)(clock_now_ns() - start) * 1e-9;
    *ret = s;
    return TRAINER_OK;
}

int trainer_loss(struct trainer *t, const struct data *data, const volatile sig_atomic_t *stop,
                 struct net_loss *ret)
{
    struct net_loss all = {0};
    struct batch b = {0};
    uint32_t rows[64];
    int r = 0;

    for (size_t at = 0; r == 0 && at < data_rows(data);) {
        const size_t left = data_rows(data) - at,
                     n = left < ARRAY_SIZE(rows) ? left : ARRAY_SIZE(rows);
        if (stop && *stop) {
            r = TRAINER_STOPPED;
            break;
        }
        for (size_t i = 0; i < n; i++) {
            rows[i] = (uint32_t)(at + i);
        }
        r = batch_fill(&b, data, rows, n, 0);
        if (r == 0) {
            const struct net_batch view = batch_view(&b);
            struct net_loss loss;
            r = net_loss(t->net, &view, &loss);
            if (r == 0) {
                add_loss(&all, &loss);
            }
        }
        at += n;
    }
    batch_deinit(&b);
    if (r == 0) {
        *ret = all;
    }
    return r;
}
