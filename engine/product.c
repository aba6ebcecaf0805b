/* The unit of work is a panel of 16 rows for a batch of tokens whose activations stay in a core's
 * cache; an item is a run of panels that is long enough to be worth handing out. Items go batch by
 * batch: a thread makes the tables of binary products once for a batch, and keeps them in memory of
 * its own. Products too small to hand out stay with the caller: waking a thread costs some
 * microseconds, and a one-token product of a small model takes less.
 *
 * Many tokens go by wide products where the level has them for the matrices: an item is then a long
 * run of panels for a wide batch, since each of its calls makes tables of its own, and items go by
 * panels first, so that these are in the cache for the next batch. What is too little for that, the
 * last tokens or the end of a matrix, goes the other way within the same item.
 *
 * Items are small, so that no thread waits long for another's last one, and yet a thread reads
 * memory in one stream: each has a share of neighbouring items and takes them in order; who is
 * through with its own helps with the next one's. */
#include "engine/product.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "engine/threads.h"

#define TOKENS_AT_ONCE 64u               /* activations that stay in the cache while panels pass */
#define TABLES_BYTES ((size_t)256 << 10) /* tables that do */
#define TABLES_TOKENS_MIN 8u             /* fewer would not be worth laying out the weights for */
#define ITEM_LEAST ((size_t)48 << 10)    /* multiply-adds an item should have at least */
#define ITEM_MOST ((size_t)16 << 20)     /* and at most, unless it is one panel */
#define ALONE_WORK ((size_t)160 << 10)   /* below this the caller works alone */
#define ITEMS_PER_THREAD 24u             /* where ITEM_LEAST allows so many */
#define WIDE_PASS_LEAST 23u              /* with fewer, half a pass and panels are faster */
#define WIDE_HALF_LEAST 15u              /* than half a pass, likewise */
#define WIDE_PANELS_LEAST 12u            /* panels that are worth the tables */

/* Items that a thread takes first, on a line of the cache of its own. */
struct share {
    _Alignas(64) atomic_size_t next;
    size_t end;
};

struct job {
    const struct kernels *k;
    const struct input *in;
    const struct product *products;
    size_t n_tokens;
    size_t n_panels; /* of all products together */
    size_t item_panels;
    bool wide;
    size_t batch; /* tokens */
    size_t n_batches;
    size_t n_pieces;                 /* items of a batch */
    const struct matrix *binary;     /* one that wants tables; NULL: none does */
    uint32_t tables_of[THREADS_MAX]; /* the token + 1 from which on a thread has them; 0: none */
    unsigned n_shares;
    struct share shares[THREADS_MAX];
};

/* A batch of tokens, in the hands of one thread. */
struct part {
    size_t first, n; /* tokens */
    unsigned thread_i;
    const uint8_t *tables; /* of them; NULL: none wanted */
};

static size_t panels_of(const struct matrix *m)
{
    return (m->n_rows + PANEL_ROWS - 1) / PANEL_ROWS;
}

static size_t part_end(const struct part *part)
{
    return part->first + part->n;
}

/* ---- the tables of binary products ---- */

static enum panel_kind panel_of(const struct matrix *m)
{
    return m->panel_bytes == 0  ? PANEL_NONE
           : m->act == ACT_BITS ? PANEL_X1
                                : format_info(m->format)->panel;
}

static bool is_binary(const struct matrix *m)
{
    return panel_of(m) == PANEL_B1;
}

static bool wants_tables(const struct kernels *k, const struct matrix *m)
{
    return is_binary(m) && k->quad_sums;
}

static size_t tables_bytes(size_t n_cols)
{
    return n_cols / 4 * QUAD_SUMS_BYTES;
}

static size_t tables_tokens(size_t n_cols)
{
    const size_t n = TABLES_BYTES / tables_bytes(n_cols);

    return n < TABLES_TOKENS_MIN ? TABLES_TOKENS_MIN : n > TOKENS_AT_ONCE ? TOKENS_AT_ONCE : n;
}

/* All that a level may want, so that plans do not depend on it. */
size_t product_room_bytes(const struct matrix *m)
{
    const enum panel_kind kind = panel_of(m);
    const size_t tables = is_binary(m) ? tables_tokens(m->n_cols) * tables_bytes(m->n_cols) : 0;
    const bool wide = kind == PANEL_B1 || kind == PANEL_T256 || kind == PANEL_TROW;

    return wide && tables < WIDE_ROOM_BYTES ? WIDE_ROOM_BYTES : tables;
}

static uint8_t *room_of(const struct job *j, unsigned thread_i)
{
    return j->in->room + thread_i * j->in->room_stride;
}

static const uint8_t *make_tables(struct job *j, const struct part *p)
{
    const struct matrix *m = j->binary;
    const struct act_q8 *act = &j->in->act[m->act];
    const size_t bytes = tables_bytes(m->n_cols);
    uint8_t *ret = room_of(j, p->thread_i);

    if (j->tables_of[p->thread_i] != p->first + 1) {
        for (size_t t = 0; t < p->n; t++) {
            j->k->quad_sums(act->q + (p->first + t) * act->q_stride, m->n_cols, ret + t * bytes);
        }
        j->tables_of[p->thread_i] = (uint32_t)p->first + 1;
    }
    return ret;
}

/* ---- a run of panels of one matrix, for a batch ---- */

/* Panels [panel, end), or the first of them: several at once where the level has such a kernel.
 * Returns how many. Those that follow in memory are this thread's next ones, mostly. */
static size_t some_panels(const struct job *j, const struct matrix *m, size_t panel, size_t end,
                          const struct act_q8 *act, float *out, size_t stride)
{
    const uint8_t *data = m->data + panel * m->panel_bytes;
    const enum panel_kind kind = panel_of(m);

    if (kind == PANEL_B1 && act->sums) {
        const size_t n = end - panel < B1_PANELS_BEST ? end - panel : B1_PANELS_BEST;
        const size_t next = panel + n;
        j->k->b1_panels(data, n, next < panels_of(m) ? m->data + next * m->panel_bytes : NULL,
                        m->n_cols, act, out, stride);
        return n;
    }
    const bool two = act->n_tokens > 1 && end - panel > 1 && j->k->pair[kind];
    (two ? j->k->pair : j->k->panel)[kind](data, m->n_cols, act, out, stride);
    return two ? 2 : 1;
}

static struct act_q8 act_of(const struct job *j, const struct matrix *m, const struct part *part)
{
    const struct act_q8 *in = &j->in->act[m->act];

    return (struct act_q8){.q = in->q + part->first * in->q_stride,
                           .d = in->d + part->first * in->d_stride,
                           .s = in->s + part->first * in->d_stride,
                           .q_stride = in->q_stride,
                           .d_stride = in->d_stride,
                           .n_tokens = part->n,
                           .sums = wants_tables(j->k, m) ? part->tables : NULL,
                           .sums_stride = tables_bytes(m->n_cols)};
}

static void panels_quantized(const struct job *j, const struct product *p, size_t begin, size_t end,
                             const struct part *part)
{
    const struct matrix *m = p->m;
    const struct act_q8 act = act_of(j, m, part);
    const size_t n_whole = m->n_rows / PANEL_ROWS, rows = m->n_rows % PANEL_ROWS;
    const size_t whole_end = end < n_whole ? end : n_whole;
    float *out = p->out + part->first * p->stride;

    for (size_t panel = begin; panel < whole_end;) {
        panel += some_panels(j, m, panel, whole_end, &act, out + panel * PANEL_ROWS, p->stride);
    }
    if (end > n_whole) { /* the last panel is wider than what is left */
        float whole[TOKENS_AT_ONCE * PANEL_ROWS];
        (void)some_panels(j, m, n_whole, n_whole + 1, &act, whole, PANEL_ROWS);
        for (size_t t = 0; t < part->n; t++) {
            memcpy(out + t * p->stride + n_whole * PANEL_ROWS, whole + t * PANEL_ROWS,
                   rows * sizeof(*out));
        }
    }
}

/* Rows of floats are multiplied as keys are: a row read once for up to KERN_QUERIES tokens. */
static void panels_floats(const struct job *j, const struct product *p, size_t begin, size_t end,
                          const struct part *part)
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
        for (size_t t = part->first; t < part_end(part); t += KERN_QUERIES) {
            const size_t rest = part_end(part) - t;
            struct queries q = {.n = rest < KERN_QUERIES ? rest : KERN_QUERIES};
            float *out[KERN_QUERIES];
            for (size_t i = 0; i < q.n; i++) {
                q.q[i] = j->in->x + (t + i) * j->in->stride;
                q.scale[i] = 1.0f;
                out[i] = p->out + (t + i) * p->stride + row;
            }
            fn(&rows, &q, out);
        }
    }
}

static void panels_bf16(const struct job *j, const struct product *p, size_t begin, size_t end,
                        const struct part *part)
{
    const struct matrix *m = p->m;
    const size_t row_bytes = format_row_bytes(m->format, m->n_cols);

    for (size_t row = begin * PANEL_ROWS; row < end * PANEL_ROWS && row < m->n_rows; row++) {
        const void *w = m->data + row * row_bytes;
        for (size_t t = part->first; t < part_end(part); t++) {
            const float *x = j->in->x + t * j->in->stride;
            p->out[t * p->stride + row] = j->k->dot_bf16(w, x, m->n_cols);
        }
    }
}

/* What a family does to a product: multiply it by the number beside the matrix, add a bias. */
static void finish_panels(const struct product *p, size_t begin, size_t end,
                          const struct part *part)
{
    const struct matrix *m = p->m;
    const size_t rows_end = end * PANEL_ROWS < m->n_rows ? end * PANEL_ROWS : m->n_rows;

    for (size_t t = part->first; t < part_end(part); t++) {
        float *out = p->out + t * p->stride;
        for (size_t row = begin * PANEL_ROWS; row < rows_end; row++) {
            const float x = out[row] * m->scale;
            out[row] = m->bias ? x + m->bias[row] : x;
        }
    }
}

/* ---- sharing out ---- */

static void do_panels(const struct job *j, const struct product *p, size_t begin, size_t end,
                      const struct part *part)
{
    if (p->m->panel_bytes != 0) {
        panels_quantized(j, p, begin, end, part);
    } else if (p->m->format == FORMAT_BF16) {
        panels_bf16(j, p, begin, end, part);
    } else {
        panels_floats(j, p, begin, end, part);
    }
    if (p->m->scale != 1.0f || p->m->bias) {
        finish_panels(p, begin, end, part);
    }
}

/* How many of n tokens go by a wide product: the last ones may be too few for it. */
static size_t wide_tokens(const struct kernels *k, size_t n)
{
    const size_t rest = n % WIDE_PASS, whole = n - rest;

    if (rest >= WIDE_PASS_LEAST) {
        return n;
    }
    if (rest < WIDE_HALF_LEAST || k->wide_step == WIDE_PASS) {
        return whole;
    }
    return rest > WIDE_PASS / 2 ? whole + WIDE_PASS / 2 : n;
}

/* Panels from `begin` on by wide products. Returns where these end, which may be at once. */
static size_t do_wide(struct job *j, const struct product *p, size_t begin, size_t end,
                      const struct part *part)
{
    const struct matrix *m = p->m;
    const size_t n_whole = m->n_rows / PANEL_ROWS, last = end < n_whole ? end : n_whole;
    const struct act_q8 act = act_of(j, m, part);
    wide_fn *const fn = j->k->wide[panel_of(m)];
    float *out = p->out + part->first * p->stride;
    size_t at = begin;

    while (at + WIDE_PANELS_LEAST <= last) {
        const size_t n_calls = (last - at + WIDE_PANELS - 1) / WIDE_PANELS;
        const size_t n = (last - at + n_calls - 1) / n_calls;
        fn(m->data + at * m->panel_bytes, n, m->n_cols, &act, out + at * PANEL_ROWS, p->stride,
           room_of(j, part->thread_i));
        at += n;
    }
    if (at > begin) {
        j->tables_of[part->thread_i] = 0; /* they lay in the same room */
        if (m->scale != 1.0f || m->bias) {
            finish_panels(p, begin, at, part);
        }
    }
    return at;
}

/* Panels one after the other, in batches whose tables fit. */
static void do_narrow(struct job *j, const struct product *p, size_t begin, size_t end,
                      const struct part *part)
{
    const size_t most = j->binary ? tables_tokens(p->m->n_cols) : TOKENS_AT_ONCE;

    for (size_t t = 0; begin < end && t < part->n; t += most) {
        struct part some = {.first = part->first + t,
                            .n = part->n - t < most ? part->n - t : most,
                            .thread_i = part->thread_i};
        if (j->binary) {
            some.tables = make_tables(j, &some);
        }
        do_panels(j, p, begin, end, &some);
    }
}

/* A part of one matrix. */
static void do_product(struct job *j, const struct product *p, size_t begin, size_t end,
                       const struct part *part)
{
    const size_t n = j->wide ? wide_tokens(j->k, part->n) : 0;
    const struct part wide = {.first = part->first, .n = n, .thread_i = part->thread_i};
    const struct part rest = {
        .first = part->first + n, .n = part->n - n, .thread_i = part->thread_i};

    if (n > 0) {
        do_narrow(j, p, do_wide(j, p, begin, end, &wide), end, &wide);
    }
    do_narrow(j, p, begin, end, &rest);
}

static void do_item(struct job *j, size_t item, unsigned thread_i)
{
    const size_t batch = j->wide ? item % j->n_batches : item / j->n_pieces;
    const size_t piece = j->wide ? item / j->n_batches : item % j->n_pieces;
    const size_t begin = piece * j->item_panels;
    const size_t end = begin + j->item_panels < j->n_panels ? begin + j->item_panels : j->n_panels;
    const size_t first = batch * j->batch, left = j->n_tokens - first;
    const struct part part = {
        .first = first, .n = left < j->batch ? left : j->batch, .thread_i = thread_i};
    size_t base = 0; /* panels of the products before p */

    for (const struct product *p = j->products; base < end; p++) {
        const size_t next = base + panels_of(p->m);
        if (begin < next) {
            do_product(j, p, begin > base ? begin - base : 0, (end < next ? end : next) - base,
                       &part);
        }
        base = next;
    }
}

/* Do what is left: of this thread's share first. There is a call for each thread, which touches
 * nothing of another's before that one's last items; one that comes late finds none. */
static void do_shares(void *ctx, size_t call, unsigned thread_i)
{
    struct job *j = ctx;

    (void)call;
    for (unsigned i = 0; i < j->n_shares; i++) {
        struct share *s = &j->shares[(thread_i + i) % j->n_shares];
        while (atomic_load_explicit(&s->next, memory_order_relaxed) < s->end) {
            const size_t item = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed);
            if (item < s->end) {
                do_item(j, item, thread_i);
            }
        }
    }
}

static void share_out(struct job *j, struct threads *threads, size_t n_items)
{
    j->n_shares = threads_used(threads);
    for (unsigned i = 0; i < j->n_shares; i++) {
        atomic_init(&j->shares[i].next, n_items * i / j->n_shares);
        j->shares[i].end = n_items * (i + 1) / j->n_shares;
    }
    threads_run(threads, do_shares, j, j->n_shares);
}

/* How many panels an item has: enough to be worth handing out, and so few that all items together
 * are some for each thread and none takes long. */
static size_t item_size(const struct job *j, unsigned n_threads, size_t n_batches)
{
    const size_t wanted = (size_t)n_threads * ITEMS_PER_THREAD;
    const size_t pieces = (wanted + n_batches - 1) / n_batches;
    const size_t fair = (j->n_panels + pieces - 1) / pieces;
    const size_t unit_work =
        PANEL_ROWS * j->products[0].m->n_cols * (j->n_tokens < j->batch ? j->n_tokens : j->batch);
    const size_t least = (ITEM_LEAST + unit_work - 1) / unit_work, most = ITEM_MOST / unit_work;
    const size_t fit = fair < most ? fair : most, n = fit > least ? fit : least;

    const size_t together = j->binary ? B1_PANELS_BEST : 2; /* of some kinds, with some tokens */
    return (n + together - 1) / together * together;
}

/* Wide items are as long as a call may be, and as many as all threads can be busy with. */
static size_t wide_item_size(const struct job *j, unsigned n_threads)
{
    const size_t least = (j->n_panels + WIDE_PANELS - 1) / WIDE_PANELS;
    const size_t n_items = (least * j->n_batches + n_threads - 1) / n_threads * n_threads;
    const size_t n = (n_items + j->n_batches - 1) / j->n_batches;

    return (j->n_panels + n - 1) / n;
}

static bool all_wide(const struct kernels *k, const struct product *products, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct matrix *m = products[i].m;
        if (!k->wide[panel_of(m)]) {
            return false;
        }
    }
    return true;
}

void products_run(const struct engine *e, const struct input *in, size_t n_tokens,
                  const struct product *products, size_t n)
{
    const unsigned n_threads = threads_used(e->threads);
    const size_t n_cols = products[0].m->n_cols;
    struct job j;

    assert(n >= 1 && n <= PRODUCTS_MAX && n_tokens >= 1);
    j.k = &e->kernels;
    j.in = in;
    j.products = products;
    j.n_tokens = n_tokens;
    j.n_panels = 0;
    j.wide = wide_tokens(j.k, n_tokens) > 0 && all_wide(j.k, products, n);
    j.batch = j.wide ? WIDE_TOKENS : TOKENS_AT_ONCE;
    j.binary = NULL;
    for (size_t i = 0; i < n; i++) {
        j.n_panels += panels_of(products[i].m);
        if (wants_tables(j.k, products[i].m)) {
            j.binary = products[i].m;
            j.batch = j.wide ? WIDE_TOKENS : tables_tokens(n_cols);
        }
    }
    memset(j.tables_of, 0, n_threads * sizeof(j.tables_of[0]));
    j.n_batches = (n_tokens + j.batch - 1) / j.batch;
    if (PANEL_ROWS * n_cols * n_tokens * j.n_panels < ALONE_WORK || n_threads == 1) {
        j.item_panels = j.n_panels;
        j.n_pieces = 1;
        for (size_t i = j.n_batches; i-- > 0;) {
            do_item(&j, i, 0);
        }
        return;
    }
    j.item_panels = j.wide ? wide_item_size(&j, n_threads) : item_size(&j, n_threads, j.n_batches);
    j.n_pieces = (j.n_panels + j.item_panels - 1) / j.item_panels;
    share_out(&j, e->threads, j.n_batches * j.n_pieces);
}
