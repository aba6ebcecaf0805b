/* One layer of llama and qwen3, written so that a token's numbers depend on that token's own history
 * alone: every float operation runs inside one row, in the order of engine/NUMERICS.md, and threads
 * only choose who computes which row. */
#include <math.h>
#include <string.h>

#include "engine/mathf.h"
#include "engine/step.h"
#include "engine/threads.h"

#define ALONE_FLOATS ((size_t)16 << 10) /* per-token work below this stays with the caller */
#define ALONE_ATTENTION ((size_t)64 << 10)
#define FF_CHUNK 256u /* columns of the activation function in one item */

/* Call fn for every item, on the pool when there is enough to do. */
static void share(struct stepper *st, threads_fn *fn, void *ctx, size_t n_items, bool alone)
{
    if (alone) {
        for (size_t i = 0; i < n_items; i++) {
            fn(ctx, i, 0);
        }
    } else {
        threads_run(st->engine->threads, fn, ctx, n_items);
    }
}

/* ---- pieces ---- */

static void rms_norm(const struct kernels *k, const float *x, const float *w, size_t n, float eps,
                     float *ret)
{
    const float mean = k->dot_f32(x, x, n) / (float)n;
    const float scale = 1.0f / sqrtf(mean + eps);

    for (size_t i = 0; i < n; i++) {
        ret[i] = x[i] * scale * w[i];
    }
}

static void add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] += y[i];
    }
}

/* Quantize columns [first, first + n) of one row's input in the kinds asked for; both are multiples
 * of the block. */
static void quantize(const struct stepper *st, const float *x, size_t row, size_t first, size_t n,
                     unsigned kinds)
{
    for (unsigned kind = 0; kind < ACT_KINDS; kind++) {
        if ((kinds & 1u << kind) == 0) {
            continue;
        }
        const struct act_room *room = &st->act[kind];
        const size_t block = act_block((enum act_kind)kind, n), cols = st->plan.act_cols;
        const size_t at = row * (cols / ACT_BLOCK) + first / block;
        act_quantize(&st->engine->kernels, (enum act_kind)kind, x + first, n,
                     room->q + row * cols + first, room->d + at, room->s + at);
    }
}

static struct input input_of(const struct stepper *st, const float *x, size_t stride)
{
    struct input in = {.x = x, .stride = stride};

    for (unsigned kind = 0; kind < ACT_KINDS; kind++) {
        in.act[kind] = (struct act_q8){.q = st->act[kind].q,
                                       .d = st->act[kind].d,
                                       .s = st->act[kind].s,
                                       .q_stride = st->plan.act_cols,
                                       .d_stride = st->plan.act_cols / ACT_BLOCK,
                                       .n_tokens = st->n_rows};
    }
    return in;
}

/* ---- rope ---- */

static void rotate(const struct shape *s, const float *cosines, const float *sines, float *x)
{
    const size_t half = s->n_rot / 2;
    const size_t step = s->arch == ARCH_LLAMA ? 2 : 1;     /* llama: neighbours make a pair */
    const size_t apart = s->arch == ARCH_LLAMA ? 1 : half; /* qwen3: i and i + n_rot / 2 */

    for (size_t i = 0; i < half; i++) {
        float *a = &x[i * step], *b = a + apart;
        const float a0 = *a, b0 = *b;
        *a = a0 * cosines[i] - b0 * sines[i];
        *b = a0 * sines[i] + b0 * cosines[i];
    }
}

static void fill_row(void *ctx, size_t row, unsigned thread_i)
{
    struct stepper *st = ctx;
    const struct model *m = st->model;
    const struct shape *s = &m->shape;
    const size_t half = s->n_rot / 2;
    float *cosines = st->cos + row * half, *sines = st->sin + row * half;

    for (size_t i = 0; i < half; i++) {
        math_sincos((double)st->rows[row].pos * m->inv_freq[i], &sines[i], &cosines[i]);
        sines[i] *= s->rope_scale;
        cosines[i] *= s->rope_scale;
    }
    format_unpack_row(m->embd.format, m->embd.data, (size_t)st->rows[row].id, s->n_embd,
                      st->x + row * s->n_embd);
}

void graph_embed(struct stepper *st)
{
    share(st, fill_row, st, st->n_rows, st->n_rows * st->model->shape.n_embd < ALONE_FLOATS);
}

/* ---- attention ---- */

struct layer_ctx {
    struct stepper *st;
    const struct layer *l;
    size_t layer_i;
};

static void keep(const struct stepper *st, const struct seq *seq, uint8_t *rows, size_t at,
                 const float *x)
{
    const size_t n = st->model->shape.head_dim;

    if (seq->pool->type == KV_F16) {
        st->engine->kernels.f32_to_f16(x, (uint16_t *)(void *)rows + at * n, n);
    } else {
        memcpy((float *)(void *)rows + at * n, x, n * sizeof(*x));
    }
}

/* Norm and rotate one row's q and k, and put k and v into the cache. */
static void place_row(void *ctx, size_t row, unsigned thread_i)
{
    const struct layer_ctx *lc = ctx;
    struct stepper *st = lc->st;
    const struct kernels *k = &st->engine->kernels;
    const struct shape *s = &st->model->shape;
    const size_t hd = s->head_dim, pos = st->rows[row].pos;
    const float *cosines = st->cos + row * (s->n_rot / 2), *sines = st->sin + row * (s->n_rot / 2);
    const struct seq *seq = st->rows[row].seq;

    for (size_t head = 0; head < s->n_head; head++) {
        float *x = st->q + (row * s->n_head + head) * hd;
        if (lc->l->q_norm) {
            rms_norm(k, x, lc->l->q_norm, hd, s->eps, x);
        }
        rotate(s, cosines, sines, x);
    }
    for (size_t head = 0; head < s->n_head_kv; head++) {
        float *x = st->k + (row * s->n_head_kv + head) * hd;
        if (lc->l->k_norm) {
            rms_norm(k, x, lc->l->k_norm, hd, s->eps, x);
        }
        rotate(s, cosines, sines, x);
        uint8_t *keys = kv_keys(seq, lc->layer_i, head, pos / KV_BLOCK);
        keep(st, seq, keys, pos % KV_BLOCK, x);
        keep(st, seq, keys + seq->pool->head_bytes, pos % KV_BLOCK,
             st->v + (row * s->n_head_kv + head) * hd);
    }
}

/* Scores of positions 0..n-1 into `scores`; returns the largest. */
static float score(const struct stepper *st, const struct row *r, size_t layer, size_t kv_head,
                   const float *q, float *scores)
{
    const struct kernels *k = &st->engine->kernels;
    const size_t hd = st->model->shape.head_dim, n = r->pos + 1;
    const float scale = 1.0f / sqrtf((float)hd);
    const bool half = r->seq->pool->type == KV_F16;
    float max = -INFINITY;

    for (size_t first = 0; first < n; first += KV_BLOCK) {
        const uint8_t *keys = kv_keys(r->seq, layer, kv_head, first / KV_BLOCK);
        const size_t end = n - first < KV_BLOCK ? n - first : KV_BLOCK;
        for (size_t i = 0; i < end; i++) {
            const float dot = half
                                  ? k->dot_f16((const uint16_t *)(const void *)keys + i * hd, q, hd)
                                  : k->dot_f32((const float *)(const void *)keys + i * hd, q, hd);
            const float v = dot * scale;
            scores[first + i] = v;
            max = v > max ? v : max;
        }
    }
    return max;
}

static void mix(const struct stepper *st, const struct row *r, size_t layer, size_t kv_head,
                const float *weights, float *out)
{
    const struct kernels *k = &st->engine->kernels;
    const size_t hd = st->model->shape.head_dim, n = r->pos + 1;
    const bool half = r->seq->pool->type == KV_F16;

    memset(out, 0, hd * sizeof(*out));
    for (size_t first = 0; first < n; first += KV_BLOCK) {
        const uint8_t *values =
            kv_keys(r->seq, layer, kv_head, first / KV_BLOCK) + r->seq->pool->head_bytes;
        const size_t end = n - first < KV_BLOCK ? n - first : KV_BLOCK;
        for (size_t i = 0; i < end; i++) {
            if (half) {
                k->axpy_f16(weights[first + i], (const uint16_t *)(const void *)values + i * hd,
                            out, hd);
            } else {
                k->axpy_f32(weights[first + i], (const float *)(const void *)values + i * hd, out,
                            hd);
            }
        }
    }
}

/* One query head of one row. */
static void attend(void *ctx, size_t item, unsigned thread_i)
{
    const struct layer_ctx *lc = ctx;
    struct stepper *st = lc->st;
    const struct shape *s = &st->model->shape;
    const size_t row_i = item / s->n_head, head = item % s->n_head;
    const size_t kv_head = head / (s->n_head / s->n_head_kv), hd = s->head_dim;
    const struct row *r = &st->rows[row_i];
    float *scores = st->scores + thread_i * (size_t)s->n_ctx;
    float *out = st->att + (row_i * s->n_head + head) * hd;
    const float max =
        score(st, r, lc->layer_i, kv_head, st->q + (row_i * s->n_head + head) * hd, scores);
    float sum = 0;

    for (size_t i = 0; i <= r->pos; i++) {
        scores[i] = math_expf(scores[i] - max);
        sum += scores[i];
    }
    mix(st, r, lc->layer_i, kv_head, scores, out);
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

/* ---- the steps of a layer that work row by row ---- */

/* h = norm(x), quantized for what follows. */
struct norm_ctx {
    struct stepper *st;
    const float *w;
    unsigned kinds;
    bool add_h; /* first x += h, the result of the product before */
};

static void norm_row(void *ctx, size_t row, unsigned thread_i)
{
    const struct norm_ctx *nc = ctx;
    struct stepper *st = nc->st;
    const size_t n = st->model->shape.n_embd;
    float *x = st->x + row * n, *h = st->h + row * n;

    if (nc->add_h) {
        add(x, h, n);
    }
    rms_norm(&st->engine->kernels, x, nc->w, n, st->model->shape.eps, h);
    quantize(st, h, row, 0, n, nc->kinds);
}

static void norm_rows(struct stepper *st, const float *w, unsigned kinds, bool add_h)
{
    struct norm_ctx nc = {.st = st, .w = w, .kinds = kinds, .add_h = add_h};

    share(st, norm_row, &nc, st->n_rows, st->n_rows * st->model->shape.n_embd < ALONE_FLOATS);
}

static void quantize_att(void *ctx, size_t row, unsigned thread_i)
{
    const struct layer_ctx *lc = ctx;
    struct stepper *st = lc->st;
    const size_t n = (size_t)st->model->shape.n_head * st->model->shape.head_dim;

    quantize(st, st->att + row * n, row, 0, n, act_wanted(&lc->l->o));
}

/* gate = silu(gate) * up for a run of columns of one row. */
static void activate(void *ctx, size_t item, unsigned thread_i)
{
    const struct layer_ctx *lc = ctx;
    struct stepper *st = lc->st;
    const size_t n = st->model->shape.n_ff, chunks = (n + FF_CHUNK - 1) / FF_CHUNK;
    const size_t row = item / chunks, first = item % chunks * FF_CHUNK;
    const size_t end = n - first < FF_CHUNK ? n : first + FF_CHUNK;
    float *gate = st->gate + row * n;
    const float *up = st->up + row * n;

    for (size_t i = first; i < end; i++) {
        gate[i] = math_siluf(gate[i]) * up[i];
    }
    quantize(st, gate, row, first, end - first, act_wanted(&lc->l->down));
}

/* ---- a layer ---- */

static void attention_half(struct layer_ctx *lc)
{
    struct stepper *st = lc->st;
    const struct layer *l = lc->l;
    const struct shape *s = &st->model->shape;
    const size_t n_embd = s->n_embd, n_q = (size_t)s->n_head * s->head_dim;
    const size_t n_kv = (size_t)s->n_head_kv * s->head_dim;
    const bool few = st->n_rows * n_embd < ALONE_FLOATS;
    const struct product qkv[] = {{&l->q, st->q, n_q}, {&l->k, st->k, n_kv}, {&l->v, st->v, n_kv}};
    const struct product o = {&l->o, st->h, n_embd};

    norm_rows(st, l->attn_norm,
              act_wanted(&l->q) | act_wanted(&l->k) | act_wanted(&l->v),
              lc->layer_i > 0);
    const struct input h = input_of(st, st->h, n_embd);
    products_run(st->engine, &h, st->n_rows, qkv, ARRAY_SIZE(qkv));
    share(st, place_row, lc, st->n_rows, few);
    share(st, attend, lc, st->n_rows * s->n_head, attention_work(st) < ALONE_ATTENTION);
    share(st, quantize_att, lc, st->n_rows, few);
    const struct input att = input_of(st, st->att, n_q);
    products_run(st->engine, &att, st->n_rows, &o, 1);
}

static void feed_forward_half(struct layer_ctx *lc)
{
    struct stepper *st = lc->st;
    const struct layer *l = lc->l;
    const size_t n_embd = st->model->shape.n_embd, n_ff = st->model->shape.n_ff;
    const struct product gate_up[] = {{&l->gate, st->gate, n_ff}, {&l->up, st->up, n_ff}};
    const struct product down = {&l->down, st->h, n_embd};

    norm_rows(st, l->ffn_norm, act_wanted(&l->gate) | act_wanted(&l->up), true);
    const struct input h = input_of(st, st->h, n_embd);
    products_run(st->engine, &h, st->n_rows, gate_up, ARRAY_SIZE(gate_up));
    share(st, activate, lc, st->n_rows * ((n_ff + FF_CHUNK - 1) / FF_CHUNK),
          st->n_rows * n_ff < ALONE_FLOATS / 4);
    const struct input act = input_of(st, st->gate, n_ff);
    products_run(st->engine, &act, st->n_rows, &down, 1);
}

void graph_layer(struct stepper *st, size_t layer)
{
    struct layer_ctx lc = {.st = st, .l = &st->model->layers[layer], .layer_i = layer};

    attention_half(&lc);
    feed_forward_half(&lc);
}

/* ---- the head ---- */

static void finish_row(void *ctx, size_t row, unsigned thread_i)
{
    struct stepper *st = ctx;
    const struct model *m = st->model;
    const size_t n = m->shape.n_embd;
    float *x = st->wanted + row * n;

    rms_norm(&st->engine->kernels, x, m->output_norm, n, m->shape.eps, x);
    quantize(st, x, row, 0, n, act_wanted(&m->head));
}

void graph_head(struct stepper *st, size_t n)
{
    const struct model *m = st->model;
    const size_t n_embd = m->shape.n_embd;
    const struct product head = {&m->head, st->logits, m->shape.n_vocab};

    share(st, finish_row, st, n, n * n_embd < ALONE_FLOATS);
    const struct input in = input_of(st, st->wanted, n_embd);
    products_run(st->engine, &in, n, &head, 1);
}
