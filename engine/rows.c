#include "engine/rows.h"

#include <assert.h>
#include <math.h>

#define LINE_FLOATS 16u /* of a cache line */
#define SHARES 16u      /* for each thread: handing out one costs what hundreds of floats do */

/* Neighbouring items that a thread takes at once. */
struct runs {
    threads_fn *fn;
    void *ctx;
    size_t n_items, size;
};

static void do_run(void *ctx, size_t i, unsigned thread_i)
{
    const struct runs *r = ctx;
    const size_t begin = i * r->size, left = r->n_items - begin;

    for (size_t item = begin + (left < r->size ? left : r->size); item-- > begin;) {
        r->fn(r->ctx, item, thread_i);
    }
}

void rows_share(struct stepper *st, threads_fn *fn, void *ctx, size_t n_items, bool alone)
{
    if (alone) {
        for (size_t i = 0; i < n_items; i++) {
            fn(ctx, i, 0);
        }
        return;
    }
    struct runs runs = {.fn = fn, .ctx = ctx, .n_items = n_items};
    runs.size = n_items / (SHARES * threads_used(st->engine->threads));
    if (runs.size <= 1) {
        threads_run(st->engine->threads, fn, ctx, n_items);
    } else {
        threads_run(st->engine->threads, do_run, &runs, (n_items - 1) / runs.size + 1);
    }
}

float rms_scale(const struct kernels *k, const float *x, size_t n, float eps)
{
    const float mean = k->dot_f32(x, x, n) / (float)n;

    return 1.0f / sqrtf(mean + eps);
}

void rms_norm(const struct kernels *k, const float *x, const float *w, size_t n, float eps,
              float *ret)
{
    k->scale_mul(x, rms_scale(k, x, n, eps), w, ret, n);
}

void rows_expect(const float *x, size_t n)
{
    for (size_t i = 0; x && i < n; i += LINE_FLOATS) {
        __builtin_prefetch(x + i);
    }
}

void rows_quantize(const struct stepper *st, float *x, size_t row, size_t first, size_t n,
                   struct wanted wanted)
{
    const struct kernels *k = &st->engine->kernels;

    for (unsigned i = 0; i < ACT_KINDS; i++) { /* those that are widened come last */
        const enum act_kind kind = (enum act_kind)i;
        if ((wanted.kinds & 1u << kind) == 0) {
            continue;
        }
        assert(first == 0 || !act_of_token(kind));
        const struct act_room *room = &st->act[kind];
        const size_t block = act_block(kind, n), cols = st->plan.act_cols;
        const size_t at = row * (cols / ACT_BLOCK) + first / block;
        int8_t *q = room->q + row * act_bytes(kind, cols) + first;
        if (kind >= ACT_WIDE_32) {
            act_widen(k, kind, x + first, wanted.threshold, n);
        } else if (kind >= ACT_SIGNS_32) {
            act_quantize_signs(k, kind, x, wanted.threshold, n, q, room->d + at, room->s + at);
        } else {
            act_quantize(k, kind, x + first, n, q, room->d + at, room->s + at);
        }
    }
}

struct input rows_input(const struct stepper *st, const float *x, size_t stride)
{
    struct input in = {.x = x,
                       .stride = stride,
                       .room = st->mem + st->plan.product_room,
                       .room_stride = st->plan.room_stride};

    for (unsigned kind = 0; kind < ACT_KINDS; kind++) {
        in.act[kind] =
            (struct act_q8){.q = st->act[kind].q,
                            .d = st->act[kind].d,
                            .s = st->act[kind].s,
                            .q_stride = act_bytes((enum act_kind)kind, st->plan.act_cols),
                            .d_stride = st->plan.act_cols / ACT_BLOCK,
                            .n_tokens = st->n_rows};
    }
    return in;
}
