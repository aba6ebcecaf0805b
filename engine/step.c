/* Steps: which tokens run, where their keys go, whose logits are wanted. Everything that can be
 * refused is refused before a block is taken or a number computed. */
#include "engine/step.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/threads.h"

/* Floats between the scores of two queries, so that those of a context of 2^n do not meet in the
 * same lines of a cache. */
#define SCORE_GAP 16u

/* ---- memory ---- */

static bool place(size_t *total, size_t n, size_t each, size_t *ret_at)
{
    size_t bytes;

    *ret_at = *total;
    if (__builtin_mul_overflow(n, each, &bytes) || __builtin_add_overflow(bytes, 63, &bytes)) {
        return false;
    }
    return !__builtin_add_overflow(*total, bytes & ~(size_t)63, total);
}

static unsigned kinds_of(const struct model *m)
{
    unsigned kinds = act_wanted(&m->head) | act_wanted(&m->head_low.rows);

    for (size_t i = 0; i < m->shape.n_layer; i++) {
        const struct layer *l = &m->layers[i];
        kinds |= act_wanted(&l->q) | act_wanted(&l->k) | act_wanted(&l->v) | act_wanted(&l->o) |
                 act_wanted(&l->gate) | act_wanted(&l->up) | act_wanted(&l->down);
    }
    return kinds;
}

static size_t max_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* What a thread keeps of tables, for the matrix that needs most. */
static size_t product_room_of(const struct model *m)
{
    size_t ret = product_room_bytes(&m->head);

    for (size_t i = 0; i < m->shape.n_layer; i++) {
        const struct layer *l = &m->layers[i];
        const struct matrix *const all[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
        for (size_t a = 0; a < ARRAY_SIZE(all); a++) {
            ret = max_of(ret, product_room_bytes(all[a]));
        }
    }
    return ret;
}

static bool place_acts(struct step_plan *p, size_t n_rows)
{
    for (unsigned kind = 0; kind < ACT_KINDS; kind++) {
        size_t n, n_blocks;
        const size_t each = act_bytes((enum act_kind)kind, p->act_cols);
        if ((p->act_kinds & 1u << kind) == 0 || each == 0) {
            continue;
        }
        if (__builtin_mul_overflow(n_rows, p->act_cols, &n)) {
            return false;
        }
        n_blocks = n / ACT_BLOCK;
        if (!place(&p->total, n_rows, each, &p->act_q[kind]) ||
            !place(&p->total, n_blocks, sizeof(float), &p->act_d[kind]) ||
            !place(&p->total, n_blocks, sizeof(int32_t), &p->act_s[kind])) {
            return false;
        }
    }
    return true;
}

bool step_plan(struct step_plan *ret, const struct model *model,
               const struct stepper_limits *limits, unsigned n_threads)
{
    const struct shape *s = &model->shape;
    const size_t n = limits->n_tokens_max, f = sizeof(float);
    const size_t n_q = (size_t)s->n_head * s->head_dim, n_kv = (size_t)s->n_head_kv * s->head_dim;
    const size_t widest = max_of(max_of(s->n_embd, s->n_ff), n_q);
    const size_t n_act = max_of(n, limits->n_logits_max);
    struct step_plan p = {.act_cols = (widest + 511) & ~(size_t)511,
                          .act_kinds = kinds_of(model),
                          .score_stride = (size_t)s->n_ctx + SCORE_GAP,
                          .room_stride = product_room_of(model)};
    const size_t room = model->head_low.rows.data ? head_floats(s->n_vocab) : 0;
    size_t begin, attention_end;

    if (n > SIZE_MAX / KERN_COLS_MAX / 64 || limits->n_logits_max > SIZE_MAX / KERN_COLS_MAX / 64 ||
        !place(&p.total, n * s->n_embd, f, &p.x) || !place(&p.total, n * s->n_embd, f, &p.h)) {
        return false;
    }
    begin = p.total;
    if (!place(&p.total, n * n_q, f, &p.q) || !place(&p.total, n * n_kv, f, &p.k) ||
        !place(&p.total, n * n_kv, f, &p.v) || !place(&p.total, n * n_q, f, &p.att)) {
        return false;
    }
    attention_end = p.total;
    p.total = begin;
    if (!place(&p.total, n * s->n_ff, f, &p.gate) || !place(&p.total, n * s->n_ff, f, &p.up)) {
        return false;
    }
    p.total = max_of(p.total, attention_end);
    if (!place_acts(&p, n_act) || !place(&p.total, n * (s->n_rot / 2), f, &p.cos) ||
        !place(&p.total, n * (s->n_rot / 2), f, &p.sin) ||
        !place(&p.total, n_threads, p.room_stride, &p.product_room) ||
        !place(&p.total, (size_t)n_threads * KERN_QUERIES * p.score_stride, f, &p.scores) ||
        !place(&p.total, limits->n_logits_max * s->n_embd, f, &p.wanted) ||
        !place(&p.total, limits->n_logits_max * s->n_vocab, f, &p.logits) ||
        !place(&p.total, n, sizeof(struct row), &p.rows) ||
        !place(&p.total, limits->n_logits_max, sizeof(struct head_want), &p.wants) ||
        !place(&p.total, limits->n_logits_max * room, f, &p.room)) {
        return false;
    }
    *ret = p;
    return true;
}

static void point(struct stepper *st)
{
    const struct {
        float **at;
        size_t offset;
    } floats[] = {
        {&st->x, st->plan.x},           {&st->h, st->plan.h},
        {&st->q, st->plan.q},           {&st->k, st->plan.k},
        {&st->v, st->plan.v},           {&st->att, st->plan.att},
        {&st->gate, st->plan.gate},     {&st->up, st->plan.up},
        {&st->cos, st->plan.cos},       {&st->sin, st->plan.sin},
        {&st->scores, st->plan.scores}, {&st->wanted, st->plan.wanted},
        {&st->logits, st->plan.logits}, {&st->room, st->plan.room},
    };

    for (size_t i = 0; i < ARRAY_SIZE(floats); i++) {
        *floats[i].at = (float *)(void *)(st->mem + floats[i].offset);
    }
    for (unsigned kind = 0; kind < ACT_KINDS; kind++) {
        st->act[kind] = (struct act_room){
            .q = (int8_t *)st->mem + st->plan.act_q[kind],
            .d = (float *)(void *)(st->mem + st->plan.act_d[kind]),
            .s = (int32_t *)(void *)(st->mem + st->plan.act_s[kind]),
        };
    }
    st->rows = (struct row *)(void *)(st->mem + st->plan.rows);
    st->wants = (struct head_want *)(void *)(st->mem + st->plan.wants);
}

int stepper_new(struct stepper **ret, struct engine *engine, const struct model *model,
                const struct stepper_limits *limits)
{
    struct step_plan plan;
    struct stepper *st;

    if (limits->n_tokens_max == 0 || limits->n_logits_max == 0 ||
        !step_plan(&plan, model, limits, threads_count(engine->threads))) {
        return -EINVAL;
    }
    st = calloc(1, sizeof(*st));
    if (!st) {
        return -ENOMEM;
    }
    *st = (struct stepper){.engine = engine, .model = model, .limits = *limits, .plan = plan};
    st->tuning.n_generate = st->tuning.n_prompt = (uint8_t)engine->n_threads;
    void *mem = mmap(NULL, plan.total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED) {
        free(st);
        return -ENOMEM;
    }
    st->mem = mem;
    point(st);
    *ret = st;
    return 0;
}

void stepper_free(struct stepper *st)
{
    if (!st) {
        return;
    }
    (void)munmap(st->mem, st->plan.total);
    free(st);
}

uint64_t stepper_bytes_for(const struct engine *engine, const struct model *model,
                           const struct stepper_limits *limits)
{
    struct step_plan plan;

    if (limits->n_tokens_max == 0 || limits->n_logits_max == 0 ||
        !step_plan(&plan, model, limits, threads_count(engine->threads))) {
        return 0;
    }
    return plan.total;
}

uint64_t stepper_bytes(const struct stepper *st)
{
    return st->plan.total;
}

/* ---- a step ---- */

static bool ids_in_range(const int32_t *ids, size_t n, uint32_t n_vocab)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= n_vocab) {
            return false;
        }
    }
    return true;
}

static bool wants_fit(const struct step_item *it, uint32_t n_vocab)
{
    return it->n_best <= STEP_BEST_MAX && it->n_also <= (it->n_best > 0 ? STEP_ALSO_MAX : 0) &&
           ids_in_range(it->also, it->n_also, n_vocab);
}

/* Are the items what the contract says, and within the stepper's limits? */
static bool items_fit(const struct stepper *st, struct step_item *items, size_t n_items)
{
    size_t n_ids = 0, n_logits = 0, n_marked = 0;
    bool fit = n_items >= 1 && n_items <= STEP_ITEMS_MAX;

    for (size_t i = 0; fit && i < n_items; i++) {
        const struct step_item *it = &items[i];
        fit = it->n_ids >= 1 && it->n_ids <= st->limits.n_tokens_max - n_ids &&
              it->n_drafts < it->n_ids && it->n_logits <= it->n_ids &&
              it->n_logits <= st->limits.n_logits_max - n_logits && !it->seq->in_step &&
              it->seq->pool->model == st->model &&
              ids_in_range(it->ids, it->n_ids, st->model->shape.n_vocab) &&
              wants_fit(it, st->model->shape.n_vocab);
        if (fit) {
            n_ids += it->n_ids;
            n_logits += it->n_logits;
            it->seq->in_step = true;
            n_marked++;
        }
    }
    for (size_t i = 0; i < n_marked; i++) {
        items[i].seq->in_step = false;
    }
    return fit;
}

/* Blocks for every item, or for none. */
static bool reserve_all(struct step_item *items, size_t n_items)
{
    size_t before[STEP_ITEMS_MAX];

    for (size_t i = 0; i < n_items; i++) {
        struct seq *seq = items[i].seq;
        before[i] = seq->n_blocks;
        if (items[i].n_ids > seq->n_ctx - seq->len ||
            !seq_reserve(seq, seq->len + items[i].n_ids)) {
            while (i-- > 0) {
                seq_trim(items[i].seq, before[i]);
            }
            return false;
        }
    }
    return true;
}

static void list_rows(struct stepper *st, const struct step_item *items, size_t n_items)
{
    st->n_rows = 0;
    for (size_t i = 0; i < n_items; i++) {
        for (size_t t = 0; t < items[i].n_ids; t++) {
            st->rows[st->n_rows++] = (struct row){
                .seq = items[i].seq, .pos = items[i].seq->len + t, .id = items[i].ids[t]};
        }
    }
}

/* The last residual addition, only for the rows whose logits are wanted. */
static size_t gather_wanted(struct stepper *st, const struct step_item *items, size_t n_items)
{
    const size_t n = st->model->shape.n_embd;
    size_t row = 0, n_wanted = 0;

    for (size_t i = 0; i < n_items; i++) {
        row += items[i].n_ids;
        for (size_t t = items[i].n_logits; t > 0; t--, n_wanted++) {
            const float *x = st->x + (row - t) * n, *h = st->h + (row - t) * n;
            float *out = st->wanted + n_wanted * n;
            st->engine->kernels.add_scaled(x, h, st->model->shape.residual_scale, out, n);
            st->wants[n_wanted] = (struct head_want){
                .n_best = items[i].n_best, .also = items[i].also, .n_also = items[i].n_also};
        }
    }
    return n_wanted;
}

static void hand_out(struct stepper *st, struct step_item *items, size_t n_items)
{
    const float *logits = st->logits;

    for (size_t i = 0; i < n_items; i++) {
        items[i].logits = logits;
        logits += items[i].n_logits * st->model->shape.n_vocab;
        seq_advance(items[i].seq, items[i].ids, items[i].n_ids - items[i].n_drafts);
    }
}

void stepper_beat(struct stepper *st, _Atomic uint64_t *beats)
{
    st->beats = beats;
}

int stepper_run(struct stepper *st, struct step_item *items, size_t n_items,
                const atomic_bool *cancel)
{
    if (!items_fit(st, items, n_items)) {
        return -EINVAL;
    }
    if (!reserve_all(items, n_items)) {
        return STEP_KV_FULL;
    }
    profile_begin(st);
    list_rows(st, items, n_items);
    threads_use(st->engine->threads, step_threads(st, st->n_rows));
    graph_embed(st);
    for (size_t layer = 0; layer < st->model->shape.n_layer; layer++) {
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed)) {
            return STEP_CANCELLED; /* the blocks stay, for when the sequence goes on */
        }
        graph_layer(st, layer);
        if (st->beats) {
            atomic_fetch_add_explicit(st->beats, 1, memory_order_relaxed);
        }
    }
    const size_t n_wanted = gather_wanted(st, items, n_items);
    if (n_wanted > 0) {
        graph_head(st, n_wanted);
    }
    hand_out(st, items, n_items);
    return STEP_OK;
}
