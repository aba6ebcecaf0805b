/* A row's scores depend on its own sequence alone and are summed in the order of its positions,
 * whatever the blocks of the cache and the threads: engine/NUMERICS.md. */
#include "engine/attention.h"

#include <math.h>
#include <string.h>

#include "engine/mathf.h"
#include "engine/rows.h"

#define ALONE_ATTENTION ((size_t)4 << 10) /* products; fewer of them stay with the caller */
#define HEADS_AT_ONCE 16u                 /* whose sums of squares run side by side */
#define BLOCKS_AHEAD 2u /* what is asked for early: one is read faster than memory answers */

struct attention {
    struct stepper *st;
    const struct layer *l;
    size_t layer_i;
};

/* ---- into the cache ---- */

static size_t row_bytes(enum kv_type type)
{
    return type == KV_F32 ? sizeof(float) : type == KV_F16 ? sizeof(uint16_t) : sizeof(int8_t);
}

/* Keep one head's key or value of one position. @half: the head's K rows, or its V rows. */
static void keep(const struct stepper *st, const struct kv_pool *pool, uint8_t *half, size_t at,
                 const float *x)
{
    const struct kernels *k = &st->engine->kernels;
    const size_t n = st->model->shape.head_dim;
    int32_t sum;

    switch (pool->type) {
    case KV_F32:
        memcpy((float *)(void *)half + at * n, x, n * sizeof(*x));
        break;
    case KV_F16:
        k->f32_to_f16(x, (uint16_t *)(void *)half + at * n, n);
        break;
    case KV_I8:
        k->quant(x, n, n, (int8_t *)half + at * n, kv_scales(pool, half) + at, &sum);
        break;
    }
}

/* Where one row's keys and values will go has not been touched for long: ask for it early. */
static void expect(const struct attention *a, const struct row *row)
{
    const struct kv_pool *pool = row->seq->pool;
    const size_t bytes = a->st->model->shape.head_dim * row_bytes(pool->type);

    for (size_t head = 0; head < a->st->model->shape.n_head_kv; head++) {
        uint8_t *keys = kv_keys(row->seq, a->layer_i, head, row->pos / KV_BLOCK);
        uint8_t *at = keys + row->pos % KV_BLOCK * bytes;
        for (size_t i = 0; i < bytes; i += 64) {
            __builtin_prefetch(at + i, 1);
            __builtin_prefetch(at + pool->head_bytes + i, 1);
        }
    }
}

/* Norm, with weights w unless NULL, and rotate n heads of a row. The sums of squares come first:
 * each is a chain that waits for itself, and so several run side by side. */
static void norm_and_rotate(const struct attention *a, size_t row, const float *w, float *heads,
                            size_t n)
{
    struct stepper *st = a->st;
    const struct kernels *k = &st->engine->kernels;
    const struct shape *s = &st->model->shape;
    const size_t hd = s->head_dim, half = s->n_rot / 2;
    const float *cosines = st->cos + row * half, *sines = st->sin + row * half;
    const bool pairs = arch_info((enum arch)s->arch)->pairs == PAIRS_NEIGHBOURS;
    rotate_fn *const rotate = pairs ? k->rotate_pairs : k->rotate_halves;

    for (size_t first = 0; first < n; first += HEADS_AT_ONCE) {
        const size_t n_here = n - first < HEADS_AT_ONCE ? n - first : HEADS_AT_ONCE;
        float scales[HEADS_AT_ONCE];
        for (size_t i = 0; w && i < n_here; i++) {
            scales[i] = rms_scale(k, heads + (first + i) * hd, hd, s->eps);
        }
        for (size_t i = 0; i < n_here; i++) {
            float *x = heads + (first + i) * hd;
            if (w) {
                k->scale_mul(x, scales[i], w, x, hd);
            }
            rotate(x, cosines, sines, half);
        }
    }
}

/* Norm and rotate one row's q and k, and put k and v into the cache. */
static void place_row(void *ctx, size_t row, unsigned thread_i)
{
    const struct attention *a = ctx;
    struct stepper *st = a->st;
    const struct shape *s = &st->model->shape;
    const size_t hd = s->head_dim, pos = st->rows[row].pos;
    const struct seq *seq = st->rows[row].seq;
    float *keys = st->k + row * s->n_head_kv * hd, *values = st->v + row * s->n_head_kv * hd;

    expect(a, &st->rows[row]);
    norm_and_rotate(a, row, a->l->q_norm, st->q + row * s->n_head * hd, s->n_head);
    norm_and_rotate(a, row, a->l->k_norm, keys, s->n_head_kv);
    for (size_t head = 0; head < s->n_head_kv; head++) {
        uint8_t *half = kv_keys(seq, a->layer_i, head, pos / KV_BLOCK);
        keep(st, seq->pool, half, pos % KV_BLOCK, keys + head * hd);
        keep(st, seq->pool, half + seq->pool->head_bytes, pos % KV_BLOCK, values + head * hd);
    }
}

/* ---- out of it ---- */

/* Query heads that share a KV head and see nearly the same positions: those of one row, or of rows
 * that follow one another in one sequence. */
struct party {
    const struct kernels *k;
    const struct seq *seq;
    size_t layer_i, kv_head, head_dim;
    struct queries queries;
    float *out[KERN_QUERIES];    /* (head_dim) */
    float *scores[KERN_QUERIES]; /* (n_seen), then e^(score - max) */
    size_t n_seen[KERN_QUERIES]; /* positions, its own the last one; ascending */
    float sum[KERN_QUERIES];     /* of the e^(score - max) whose values are mixed */
    const struct seq *next_seq;  /* what the thread is likely to look at next; or NULL */
    size_t next_head;            /* KV head of it */
};

_Static_assert((int)KV_F32 == (int)ROW_F32 && (int)KV_F16 == (int)ROW_F16 &&
                   (int)KV_I8 == (int)ROW_I8 && KV_BLOCK <= KERN_ROWS,
               "a cache's rows are what the kernels take");

/* Block `at` of all that is read of a head: n of keys, then as many of values. NULL: there are not
 * so many. */
static const uint8_t *nth_block(const struct party *p, const struct seq *seq, size_t head, size_t n,
                                size_t at)
{
    if (at >= 2 * n) {
        return NULL;
    }
    return kv_keys(seq, p->layer_i, head, at % n) + (at < n ? 0 : p->seq->pool->head_bytes);
}

/* What is read BLOCKS_AHEAD after block i of the keys, or of the values. Behind the values come the
 * keys of the item that this thread is likely to take next. NULL: nobody knows. */
static const uint8_t *block_after(const struct party *p, size_t i, bool is_value)
{
    const size_t n = (p->n_seen[p->queries.n - 1] + KV_BLOCK - 1) / KV_BLOCK;
    const size_t at = i + BLOCKS_AHEAD + (is_value ? n : 0);

    if (at < 2 * n) {
        return nth_block(p, p->seq, p->kv_head, n, at);
    }
    if (!p->next_seq) {
        return NULL;
    }
    /* of another sequence, as many as there are here */
    const size_t n_next = p->next_seq->n_blocks < n ? p->next_seq->n_blocks : n;
    return nth_block(p, p->next_seq, p->next_head, n_next, at - 2 * n);
}

/* Keys, or values, of positions [first, end), which lie in one block. Scales that are read later
 * are asked for here, rows by who reads these. */
static struct kv_rows rows_at(const struct party *p, size_t first, size_t end, bool is_value)
{
    const struct kv_pool *pool = p->seq->pool;
    const size_t at = first % KV_BLOCK, block = first / KV_BLOCK;
    const uint8_t *half =
        kv_keys(p->seq, p->layer_i, p->kv_head, block) + (is_value ? pool->head_bytes : 0);
    struct kv_rows ret = {.rows = half + at * p->head_dim * row_bytes(pool->type),
                          .next = block_after(p, block, is_value),
                          .n = end - first,
                          .n_cols = p->head_dim};

    if (pool->type == KV_I8) {
        ret.d = kv_scales(pool, half) + at;
        for (size_t i = 0; ret.next && i < KV_BLOCK * sizeof(float); i += 64) {
            __builtin_prefetch((const uint8_t *)kv_scales(pool, ret.next) + i);
        }
    }
    return ret;
}

/* Every query's scores of the positions that the last one sees. Those beyond its own are not
 * used. */
static void score(const struct party *p)
{
    const size_t n = p->n_seen[p->queries.n - 1];

    for (size_t first = 0; first < n; first += KV_BLOCK) {
        const size_t end = n - first < KV_BLOCK ? n : first + KV_BLOCK;
        const struct kv_rows keys = rows_at(p, first, end, false);
        float *at[KERN_QUERIES];
        for (size_t t = 0; t < p->queries.n; t++) {
            at[t] = p->scores[t] + first;
        }
        p->k->scores[p->seq->pool->type](&keys, &p->queries, at);
    }
}

/* Add the values of positions [begin, end), and their weights, to what queries [from, from + n)
 * have. */
static void mix(struct party *p, size_t begin, size_t end, size_t from, size_t n)
{
    for (size_t first = begin; first < end;) {
        const size_t block_end = (first / KV_BLOCK + 1) * KV_BLOCK;
        const size_t last = block_end < end ? block_end : end;
        const struct kv_rows values = rows_at(p, first, last, true);
        const float *weight[KERN_QUERIES];
        for (size_t t = 0; t < n; t++) {
            weight[t] = p->scores[from + t] + first;
        }
        p->k->mix[p->seq->pool->type](&values, weight, n, &p->out[from], &p->sum[from]);
        first = last;
    }
}

/* In runs of eight, which a compiler turns into registers. */
static void scale(float *x, size_t n, float by)
{
    size_t i = 0;

    for (; i < n - n % 8; i += 8) {
        for (size_t j = 0; j < 8; j++) {
            x[i + j] *= by;
        }
    }
    for (; i < n; i++) {
        x[i] *= by;
    }
}

static void attend(struct party *p)
{
    int8_t q8[KERN_QUERIES][SHAPE_HEAD_DIM_MAX];
    const size_t hd = p->head_dim, n = p->queries.n, n_shared = p->n_seen[0];
    const float by_width = 1.0f / sqrtf((float)hd);

    for (size_t t = 0; t < n; t++) {
        p->queries.scale[t] = by_width;
        if (p->seq->pool->type == KV_I8) { /* a query is quantized like a key */
            float d;
            int32_t unused;
            p->k->quant(p->queries.q[t], hd, hd, q8[t], &d, &unused);
            p->queries.q[t] = q8[t];
            p->queries.scale[t] = d * by_width;
        }
    }
    score(p);
    for (size_t t = 0; t < n; t++) {
        p->k->exp_below_max(p->scores[t], p->n_seen[t]);
        memset(p->out[t], 0, hd * sizeof(float));
        p->sum[t] = 0;
    }
    mix(p, 0, n_shared, 0, n);
    for (size_t t = 0; t < n; t++) {
        mix(p, n_shared, p->n_seen[t], t, 1);
        scale(p->out[t], hd, 1.0f / p->sum[t]);
    }
}

/* ---- sharing out ---- */

/* What one item is: `rows` neighbouring rows of the step, and `heads` neighbouring query heads of
 * one KV head. */
struct split {
    size_t rows, heads;
    size_t groups; /* of query heads in one KV head */
};

/* How often every thread takes an item until n are done: the last time some may stand by. */
static size_t rounds(size_t n, size_t n_threads)
{
    return (n + n_threads - 1) / n_threads;
}

/* Heads of one row first, as all of them see the same positions; where a KV head has few of them,
 * several rows. With few rows, as in generation, the threads need more and smaller items, above all
 * where items of half the size end sooner: five for two threads take three rounds, ten of them five
 * of half the length. */
static struct split split_of(const struct stepper *st)
{
    const struct shape *s = &st->model->shape;
    const size_t n = s->n_head / s->n_head_kv, n_threads = threads_used(st->engine->threads);
    struct split sp = {.heads = n < KERN_QUERIES ? n : KERN_QUERIES};

    sp.rows = KERN_QUERIES / sp.heads;
    while (sp.rows > 1 && st->n_rows * s->n_head_kv < 4 * sp.rows * n_threads) {
        sp.rows--;
    }
    const size_t n_items = st->n_rows * s->n_head_kv;
    if (n_threads > 1 && n_items < 4 * n_threads &&
        (n_items < 2 * n_threads ||
         rounds(2 * n_items, n_threads) < 2 * rounds(n_items, n_threads))) {
        sp.heads = (sp.heads + 1) / 2;
    }
    sp.groups = (n + sp.heads - 1) / sp.heads;
    return sp;
}

/* Items are numbered head by head, and for each by rows: what one head looks at is little enough to
 * stay in a cache while the rows of a prompt come by. */
struct sharing {
    struct attention a;
    struct split split;
    size_t n_parts; /* of the step's rows, split.rows each */
};

/* What is likely to be looked at next. */
struct after {
    const struct seq *seq; /* NULL: nothing */
    size_t kv_head;
};

/* One party from the rows [row, end), which are of one sequence, and the heads [head, head_end). */
static void attend_rows(const struct sharing *sh, size_t row, size_t end, size_t head,
                        size_t head_end, const struct after *after, unsigned thread_i)
{
    struct stepper *st = sh->a.st;
    const struct shape *s = &st->model->shape;
    const size_t hd = s->head_dim;
    struct party p = {
        .k = &st->engine->kernels,
        .seq = st->rows[row].seq,
        .layer_i = sh->a.layer_i,
        .kv_head = head / (s->n_head / s->n_head_kv),
        .head_dim = hd,
        .next_seq = after->seq,
        .next_head = after->kv_head,
    };

    for (; row < end; row++) {
        for (size_t h = head; h < head_end; h++) {
            const size_t t = p.queries.n++, at = (row * s->n_head + h) * hd;
            p.queries.q[t] = st->q + at;
            p.out[t] = st->att + at;
            p.scores[t] = st->scores + (thread_i * KERN_QUERIES + t) * st->plan.score_stride;
            p.n_seen[t] = st->rows[row].pos + 1;
        }
    }
    attend(&p);
}

/* What an item looks at that this thread takes next, if all are equally fast: items are handed out
 * from the last one down. */
static struct after after_item(const struct sharing *sh, size_t item)
{
    const struct stepper *st = sh->a.st;
    const size_t n_threads = threads_used(st->engine->threads);

    if (item < n_threads) {
        return (struct after){0};
    }
    const size_t next = item - n_threads;
    const struct row *row = &st->rows[next % sh->n_parts * sh->split.rows];
    return (struct after){.seq = row->seq, .kv_head = next / sh->n_parts / sh->split.groups};
}

static void attend_item(void *ctx, size_t item, unsigned thread_i)
{
    const struct sharing *sh = ctx;
    const struct split *sp = &sh->split;
    const struct stepper *st = sh->a.st;
    const struct shape *s = &st->model->shape;
    const size_t per_kv = s->n_head / s->n_head_kv, heads = item / sh->n_parts;
    const size_t kv_head = heads / sp->groups, group = heads % sp->groups;
    const size_t head = kv_head * per_kv + group * sp->heads;
    const size_t left = (kv_head + 1) * per_kv - head;
    const size_t head_end = head + (left < sp->heads ? left : sp->heads);
    const size_t begin = item % sh->n_parts * sp->rows;
    const size_t end = st->n_rows - begin < sp->rows ? st->n_rows : begin + sp->rows;

    const struct after after = after_item(sh, item);

    for (size_t row = begin; row < end;) {
        size_t next = row + 1;
        while (next < end && st->rows[next].seq == st->rows[row].seq) {
            next++;
        }
        attend_rows(sh, row, next, head, head_end, &after, thread_i);
        row = next;
    }
}

static size_t attention_work(const struct stepper *st)
{
    const struct shape *s = &st->model->shape;
    size_t positions = 0;

    for (size_t i = 0; i < st->n_rows; i++) {
        positions += st->rows[i].pos + 1;
    }
    return positions * s->n_head * s->head_dim;
}

void attention_run(struct stepper *st, const struct layer *l, size_t layer_i)
{
    const struct shape *s = &st->model->shape;
    struct sharing sh = {.a = {.st = st, .l = l, .layer_i = layer_i}, .split = split_of(st)};

    sh.n_parts = (st->n_rows + sh.split.rows - 1) / sh.split.rows;
    rows_share(st, place_row, &sh.a, st->n_rows, st->n_rows * s->n_embd < ALONE_FLOATS);
    profile_part(st, PART_ROPE);
    rows_share(st, attend_item, &sh, sh.n_parts * s->n_head_kv * sh.split.groups,
               attention_work(st) < ALONE_ATTENTION);
    profile_part(st, PART_ATTENTION);
}
