/* A row's scores depend on its own sequence alone and are summed in the order of its positions,
 * whatever the blocks of the cache and the threads: engine/NUMERICS.md. */
#include "engine/attention.h"

#include <math.h>
#include <string.h>

#include "engine/mathf.h"
#include "engine/rows.h"

#define ALONE_ATTENTION ((size_t)64 << 10)

struct attention {
    struct stepper *st;
    const struct layer *l;
    size_t layer_i;
};

/* ---- into the cache ---- */

static void rotate(const struct shape *s, const float *cosines, const float *sines, float *x)
{
    const size_t half = s->n_rot / 2;
    const bool neighbours = arch_info((enum arch)s->arch)->pairs == PAIRS_NEIGHBOURS;
    const size_t step = neighbours ? 2 : 1, apart = neighbours ? 1 : half;

    for (size_t i = 0; i < half; i++) {
        float *a = &x[i * step], *b = a + apart;
        const float a0 = *a, b0 = *b;
        *a = a0 * cosines[i] - b0 * sines[i];
        *b = a0 * sines[i] + b0 * cosines[i];
    }
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

/* Norm and rotate one row's q and k, and put k and v into the cache. */
static void place_row(void *ctx, size_t row, unsigned thread_i)
{
    const struct attention *a = ctx;
    struct stepper *st = a->st;
    const struct kernels *k = &st->engine->kernels;
    const struct shape *s = &st->model->shape;
    const size_t hd = s->head_dim, pos = st->rows[row].pos;
    const float *cosines = st->cos + row * (s->n_rot / 2), *sines = st->sin + row * (s->n_rot / 2);
    const struct seq *seq = st->rows[row].seq;

    for (size_t head = 0; head < s->n_head; head++) {
        float *x = st->q + (row * s->n_head + head) * hd;
        if (a->l->q_norm) {
            rms_norm(k, x, a->l->q_norm, hd, s->eps, x);
        }
        rotate(s, cosines, sines, x);
    }
    for (size_t head = 0; head < s->n_head_kv; head++) {
        float *x = st->k + (row * s->n_head_kv + head) * hd;
        if (a->l->k_norm) {
            rms_norm(k, x, a->l->k_norm, hd, s->eps, x);
        }
        rotate(s, cosines, sines, x);
        uint8_t *keys = kv_keys(seq, a->layer_i, head, pos / KV_BLOCK);
        keep(st, seq->pool, keys, pos % KV_BLOCK, x);
        keep(st, seq->pool, keys + seq->pool->head_bytes, pos % KV_BLOCK,
             st->v + (row * s->n_head_kv + head) * hd);
    }
}

/* ---- one query head of one row ---- */

struct head {
    const struct kernels *k;
    const struct seq *seq;
    size_t layer_i, kv_head, head_dim;
    size_t n;    /* positions it sees: its own and those before */
    float scale; /* 1 / sqrt(head_dim), and for a cache of int8 times the scale of q8 */
    const float *q;
    const int8_t *q8; /* the same for a cache of int8 */
};

static float score_at(const struct head *h, const uint8_t *keys, size_t at)
{
    const size_t hd = h->head_dim;

    switch (h->seq->pool->type) {
    case KV_F16:
        return h->k->dot_f16((const uint16_t *)(const void *)keys + at * hd, h->q, hd) * h->scale;
    case KV_I8: {
        const int32_t dot = h->k->dot_i8((const int8_t *)keys + at * hd, h->q8, hd);
        return (float)dot * kv_scales(h->seq->pool, keys)[at] * h->scale;
    }
    default:
        return h->k->dot_f32((const float *)(const void *)keys + at * hd, h->q, hd) * h->scale;
    }
}

/* Scores of positions 0..n-1; returns the largest. */
static float score(const struct head *h, float *scores)
{
    float max = -INFINITY;

    for (size_t first = 0; first < h->n; first += KV_BLOCK) {
        const uint8_t *keys = kv_keys(h->seq, h->layer_i, h->kv_head, first / KV_BLOCK);
        const size_t end = h->n - first < KV_BLOCK ? h->n - first : KV_BLOCK;
        for (size_t i = 0; i < end; i++) {
            const float v = score_at(h, keys, i);
            scores[first + i] = v;
            max = v > max ? v : max;
        }
    }
    return max;
}

static void mix_at(const struct head *h, const uint8_t *values, size_t at, float weight, float *out)
{
    const size_t hd = h->head_dim;

    switch (h->seq->pool->type) {
    case KV_F16:
        h->k->axpy_f16(weight, (const uint16_t *)(const void *)values + at * hd, out, hd);
        break;
    case KV_I8:
        h->k->axpy_i8(weight * kv_scales(h->seq->pool, values)[at],
                      (const int8_t *)values + at * hd, out, hd);
        break;
    default:
        h->k->axpy_f32(weight, (const float *)(const void *)values + at * hd, out, hd);
        break;
    }
}

static void mix(const struct head *h, const float *weights, float *out)
{
    memset(out, 0, h->head_dim * sizeof(*out));
    for (size_t first = 0; first < h->n; first += KV_BLOCK) {
        const uint8_t *values =
            kv_keys(h->seq, h->layer_i, h->kv_head, first / KV_BLOCK) + h->seq->pool->head_bytes;
        const size_t end = h->n - first < KV_BLOCK ? h->n - first : KV_BLOCK;
        for (size_t i = 0; i < end; i++) {
            mix_at(h, values, i, weights[first + i], out);
        }
    }
}

static void attend(void *ctx, size_t item, unsigned thread_i)
{
    const struct attention *a = ctx;
    struct stepper *st = a->st;
    const struct shape *s = &st->model->shape;
    const size_t row = item / s->n_head, head = item % s->n_head, hd = s->head_dim;
    const struct row *r = &st->rows[row];
    float *scores = st->scores + thread_i * (size_t)s->n_ctx;
    float *out = st->att + (row * s->n_head + head) * hd;
    int8_t q8[SHAPE_HEAD_DIM_MAX];
    struct head h = {
        .k = &st->engine->kernels,
        .seq = r->seq,
        .layer_i = a->layer_i,
        .kv_head = head / (s->n_head / s->n_head_kv),
        .head_dim = hd,
        .n = r->pos + 1,
        .scale = 1.0f / sqrtf((float)hd),
        .q = st->q + (row * s->n_head + head) * hd,
        .q8 = q8,
    };
    float sum = 0;

    if (r->seq->pool->type == KV_I8) {
        float d;
        int32_t unused;
        h.k->quant(h.q, hd, hd, q8, &d, &unused);
        h.scale = d * h.scale;
    }
    const float max = score(&h, scores);
    for (size_t i = 0; i < h.n; i++) {
        scores[i] = math_expf(scores[i] - max);
        sum += scores[i];
    }
    mix(&h, scores, out);
    const float inv = 1.0f / sum;
    for (size_t i = 0; i < hd; i++) {
        out[i] *= inv;
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
    struct attention a = {.st = st, .l = l, .layer_i = layer_i};
    const struct shape *s = &st->model->shape;

    rows_share(st, place_row, &a, st->n_rows, st->n_rows * s->n_embd < ALONE_FLOATS);
    profile_part(st, PART_ROPE);
    rows_share(st, attend, &a, st->n_rows * s->n_head, attention_work(st) < ALONE_ATTENTION);
    profile_part(st, PART_ATTENTION);
}
