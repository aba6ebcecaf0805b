/* The unit of work is a panel of 16 rows for all tokens; an item is a run of panels that is long
 * enough to be worth handing out. Products too small for that stay with the caller: waking a thread
 * costs some microseconds, and a one-token product of a small model takes less. */
#include "engine/product.h"

#include <assert.h>
#include <string.h>

#include "engine/threads.h"

#define TOKENS_AT_ONCE 64u             /* activations that stay in the cache while panels pass */
#define ITEM_WORK ((size_t)48 << 10)   /* multiply-adds an item should have at least */
#define ALONE_WORK ((size_t)160 << 10) /* below this the caller works alone */
#define ITEMS_PER_THREAD 6u            /* pieces per thread, so that a late one delays little */

struct job {
    const struct kernels *k;
    const struct input *in;
    const struct product *products;
    size_t n_products;
    size_t n_tokens;
    size_t n_panels; /* of all products together */
    size_t item_panels;
};

enum act_kind act_kind_of(enum panel_kind panel, bool one_scale)
{
    switch (panel_info(panel)->act_block) {
    case ACT_BLOCK:
        return one_scale ? ACT_TOKEN_32 : ACT_32;
    case ACT_BLOCK_T256:
        return one_scale ? ACT_TOKEN_256 : ACT_256;
    default:
        return ACT_TOKEN;
    }
}

unsigned act_wanted(const struct matrix *m)
{
    return m->panel_bytes == 0 ? 0 : 1u << m->act;
}

bool act_of_token(enum act_kind kind)
{
    return kind >= ACT_TOKEN_32;
}

size_t act_block(enum act_kind kind, size_t n)
{
    return kind == ACT_TOKEN                        ? n
           : kind == ACT_32 || kind == ACT_TOKEN_32 ? ACT_BLOCK
                                                    : ACT_BLOCK_T256;
}

void act_quantize(const struct kernels *k, enum act_kind kind, const float *x, size_t n, int8_t *q,
                  float *d, int32_t *s)
{
    const size_t block = act_block(kind, n);

    (act_of_token(kind) ? k->quant_token : k->quant)(x, n, block, q, d, s);
    if (act_of_token(kind) && kind != ACT_TOKEN) {
        const float scale = 1.0f / d[0];
        for (size_t b = 0; b < n / block; b++) {
            d[b] = scale;
        }
    }
}

static size_t panels_of(const struct matrix *m)
{
    return (m->n_rows + PANEL_ROWS - 1) / PANEL_ROWS;
}

/* ---- a run of panels of one matrix, for n tokens from `first` on ---- */

static void panels_quantized(const struct job *j, const struct product *p, size_t begin, size_t end,
                             size_t first, size_t n)
{
    const struct matrix *m = p->m;
    panel_fn *const fn = j->k->panel[format_info(m->format)->panel];
    const struct act_q8 *in = &j->in->act[m->act];
    const struct act_q8 act = {.q = in->q + first * in->q_stride,
                               .d = in->d + first * in->d_stride,
                               .s = in->s + first * in->d_stride,
                               .q_stride = in->q_stride,
                               .d_stride = in->d_stride,
                               .n_tokens = n};
    const size_t n_whole = m->n_rows / PANEL_ROWS, rows = m->n_rows % PANEL_ROWS;
    float *out = p->out + first * p->stride;

    for (size_t panel = begin; panel < end && panel < n_whole; panel++) {
        fn(m->data + panel * m->panel_bytes, m->n_cols, &act, out + panel * PANEL_ROWS, p->stride);
    }
    if (end > n_whole) { /* the last panel is wider than what is left */
        float whole[TOKENS_AT_ONCE * PANEL_ROWS];
        fn(m->data + n_whole * m->panel_bytes, m->n_cols, &act, whole, PANEL_ROWS);
        for (size_t t = 0; t < n; t++) {
            memcpy(out + t * p->stride + n_whole * PANEL_ROWS, whole + t * PANEL_ROWS,
                   rows * sizeof(*out));
        }
    }
}

/* Rows of floats are multiplied as keys are: a row read once for up to KERN_QUERIES tokens. */
static void panels_floats(const struct job *j, const struct product *p, size_t begin, size_t end,
                          size_t first, size_t n)
{
    const struct matrix *m = p->m;
    const size_t row_bytes = format_row_bytes(m->format, m->n_cols);
    const size_t rows_end = end * PANEL_ROWS < m->n_rows ? end * PANEL_ROWS : m->n_rows;
    scores_fn *const fn = j->k->scores[m->format == FORMAT_F32 ? ROW_F32 : ROW_F16];

    for (size_t row = begin * PANEL_ROWS; row < rows_end; row += PANEL_ROWS) {
        const size_t left = rows_end - row;
        const struct kv_rows rows = {.rows = m->data + row * row_bytes,
                                     .n = left < PANEL_ROWS ? left : PANEL_ROWS,
                                     .n_cols = m->n_cols};
        for (size_t t = 0; t < n; t += KERN_QUERIES) {
            struct queries q = {.n = n - t < KERN_QUERIES ? n - t : KERN_QUERIES};
            float *out[KERN_QUERIES];
            for (size_t i = 0; i < q.n; i++) {
                q.q[i] = j->in->x + (first + t + i) * j->in->stride;
                q.scale[i] = 1.0f;
                out[i] = p->out + (first + t + i) * p->stride + row;
            }
            fn(&rows, &q, out);
        }
    }
}

static void panels_bf16(const struct job *j, const struct product *p, size_t begin, size_t end,
                        size_t first, size_t n)
{
    const struct matrix *m = p->m;
    const size_t row_bytes = format_row_bytes(m->format, m->n_cols);

    for (size_t row = begin * PANEL_ROWS; row < end * PANEL_ROWS && row < m->n_rows; row++) {
        const void *w = m->data + row * row_bytes;
        for (size_t t = first; t < first + n; t++) {
            const float *x = j->in->x + t * j->in->stride;
            p->out[t * p->stride + row] = j->k->dot_bf16(w, x, m->n_cols);
        }
    }
}

/* What a family does to a product: multiply it by the number beside the matrix, add a bias. */
static void finish_panels(const struct product *p, size_t begin, size_t end, size_t first, size_t n)
{
    const struct matrix *m = p->m;
    const size_t rows_end = end * PANEL_ROWS < m->n_rows ? end * PANEL_ROWS : m->n_rows;

    for (size_t t = first; t < first + n; t++) {
        float *out = p->out + t * p->stride;
        for (size_t row = begin * PANEL_ROWS; row < rows_end; row++) {
            const float x = out[row] * m->scale;
            out[row] = m->bias ? x + m->bias[row] : x;
        }
    }
}

/* ---- sharing out ---- */

static void do_panels(const struct job *j, const struct product *p, size_t begin, size_t end,
                      size_t first, size_t n)
{
    if (p->m->panel_bytes != 0) {
        panels_quantized(j, p, begin, end, first, n);
    } else if (p->m->format == FORMAT_BF16) {
        panels_bf16(j, p, begin, end, first, n);
    } else {
        panels_floats(j, p, begin, end, first, n);
    }
    if (p->m->scale != 1.0f || p->m->bias) {
        finish_panels(p, begin, end, first, n);
    }
}

static void do_item(void *ctx, size_t item, unsigned thread_i)
{
    const struct job *j = ctx;
    const size_t begin = item * j->item_panels;
    const size_t end = begin + j->item_panels < j->n_panels ? begin + j->item_panels : j->n_panels;

    for (size_t first = 0; first < j->n_tokens; first += TOKENS_AT_ONCE) {
        const size_t left = j->n_tokens - first, n = left < TOKENS_AT_ONCE ? left : TOKENS_AT_ONCE;
        size_t base = 0; /* panels of the products before p */

        for (const struct product *p = j->products; base < end; p++) {
            const size_t next = base + panels_of(p->m);
            if (begin < next) {
                do_panels(j, p, begin > base ? begin - base : 0, (end < next ? end : next) - base,
                          first, n);
            }
            base = next;
        }
    }
}

void products_run(const struct engine *e, const struct input *in, size_t n_tokens,
                  const struct product *products, size_t n)
{
    struct job j = {
        .k = &e->kernels, .in = in, .products = products, .n_products = n, .n_tokens = n_tokens};

    assert(n >= 1 && n <= PRODUCTS_MAX && n_tokens >= 1);
    for (size_t i = 0; i < n; i++) {
        j.n_panels += panels_of(products[i].m);
    }
    const size_t unit_work = PANEL_ROWS * products[0].m->n_cols * n_tokens;
    if (unit_work * j.n_panels < ALONE_WORK || threads_count(e->threads) == 1) {
        j.item_panels = j.n_panels;
        do_item(&j, 0, 0);
        return;
    }
    const size_t pieces = (size_t)threads_count(e->threads) * ITEMS_PER_THREAD;
    const size_t fair = (j.n_panels + pieces - 1) / pieces;
    const size_t least = (ITEM_WORK + unit_work - 1) / unit_work;
    j.item_panels = fair > least ? fair : least;
    threads_run(e->threads, do_item, &j, (j.n_panels + j.item_panels - 1) / j.item_panels);
}
