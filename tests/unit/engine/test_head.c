/* The head's copy in five bits: its bound holds, and what it leaves to the head itself is all that
 * a sampler can see. */
#include "tests/support/test.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/head.h"
#include "engine/machine.h"
#include "engine/model.h"
#include "tests/unit/engine/tiny.h"

#define COLS_MAX 1024u
#define ROWS_MAX 3000u

/* A head without a model, and its copy. */
struct rig {
    struct matrix head;
    struct head_low low;
    uint8_t *data, *copy; /* owned */
    size_t n_cols, n_rows;
};

static void *take(size_t n)
{
    void *p = calloc(1, n + 64);

    assert_non_null(p);
    return p;
}

static const void *even(const void *p) /* panels want lines */
{
    return (const uint8_t *)p + (-(uintptr_t)p & 63);
}

/* @x: (n_rows, n_cols), changed to what the format holds */
static bool rig_up(struct rig *r, enum format f, float *x, size_t n_cols, size_t n_rows)
{
    const size_t row_bytes = format_row_bytes(f, n_cols);
    const size_t panel_bytes = format_panel_bytes(HEAD_LOW_FORMAT, n_cols);
    const size_t n_panels = (n_rows + PANEL_ROWS - 1) / PANEL_ROWS;
    const uint64_t bounds_at = head_low_bounds_at(n_cols, n_rows);
    float scale = 0, norm_max = 0;

    assert_int_equal(bounds_at, n_panels * panel_bytes);
    *r = (struct rig){.n_cols = n_cols, .n_rows = n_rows, .data = take(n_rows * row_bytes)};
    for (size_t row = 0; row < n_rows; row++) {
        format_encode_row(f, x + row * n_cols, 0, n_cols, r->data + row * row_bytes);
        format_decode_row(f, r->data + row * row_bytes, 1, n_cols, x + row * n_cols);
    }
    const int found = head_survey(f, r->data, n_cols, n_rows, &scale, &norm_max);
    assert_true(found >= 0);
    if (found == 0) {
        return false;
    }
    r->copy = take((size_t)bounds_at + n_panels * HEAD_BOUNDS * PANEL_ROWS * sizeof(float));
    uint8_t *panels = (uint8_t *)(uintptr_t)even(r->copy);
    float *bounds = (float *)(void *)(panels + bounds_at);
    for (size_t p = 0; p < n_panels; p++) {
        const size_t left = n_rows - p * PANEL_ROWS;
        head_pack_panel(x + p * PANEL_ROWS * n_cols, left < PANEL_ROWS ? left : PANEL_ROWS, n_cols,
                        scale, panels + p * panel_bytes, bounds + p * HEAD_BOUNDS * PANEL_ROWS);
    }
    r->head = (struct matrix){
        .format = f, .n_cols = n_cols, .n_rows = n_rows, .data = r->data, .scale = 1};
    r->low = (struct head_low){.rows = {.format = HEAD_LOW_FORMAT,
                                        .n_cols = n_cols,
                                        .n_rows = n_rows,
                                        .data = panels,
                                        .panel_bytes = panel_bytes,
                                        .act = ACT_32,
                                        .scale = scale},
                               .bounds = bounds,
                               .norm_max = norm_max};
    return true;
}

static void rig_down(struct rig *r)
{
    free(r->data);
    free(r->copy);
}

/* An input as a step prepares it. */
struct prepared {
    _Alignas(64) float x[COLS_MAX];
    _Alignas(64) int8_t q[COLS_MAX];
    _Alignas(64) float d[COLS_MAX / ACT_BLOCK];
    _Alignas(64) int32_t s[COLS_MAX / ACT_BLOCK];
    struct input in;
    struct head_want want;
};

static void prepare(const struct engine *e, const float *x, size_t n, struct prepared *p)
{
    memcpy(p->x, x, n * sizeof(*x));
    e->kernels.quant(p->x, n, ACT_BLOCK, p->q, p->d, p->s);
    p->in = (struct input){.x = p->x, .stride = n};
    p->in.act[ACT_32] = (struct act_q8){
        .q = p->q, .d = p->d, .s = p->s, .q_stride = COLS_MAX, .d_stride = 32, .n_tokens = 1};
    head_measure(p->x, p->q, p->d, n, &p->want);
}

static struct engine *engine_at(unsigned level, unsigned n_threads)
{
    const struct engine_options o = {.cpu = (enum cpu_level)level, .n_threads = n_threads};
    struct engine *e = NULL;

    assert_int_equal(engine_new(&e, &o), 0);
    return e;
}

static float gauss(uint64_t *i)
{
    float sum = 0;

    for (unsigned k = 0; k < 6; k++) {
        sum += tiny_random((*i)++);
    }
    return sum / 1.4142f;
}

/* ---- the bound ---- */

/* The most of its bound that any row uses: |F - A| / bound. */
static double share_of_bound(const struct engine *e, const struct rig *r, const float *x)
{
    static float full[ROWS_MAX], copy[ROWS_MAX];
    static struct prepared p;
    const struct product products[] = {{&r->head, full, r->n_rows},
                                       {&r->low.rows, copy, r->n_rows}};
    double most = 0;

    prepare(e, x, r->n_cols, &p);
    assert_true(head_may(&r->low, &r->head, &p.want));
    products_run(e, &p.in, 1, &products[0], 1);
    products_run(e, &p.in, 1, &products[1], 1);
    for (size_t row = 0; row < r->n_rows; row++) {
        const float *b = r->low.bounds + row / PANEL_ROWS * HEAD_BOUNDS * PANEL_ROWS;
        const float ex = b[row % PANEL_ROWS] * p.want.x_norm;
        const float cr = b[PANEL_ROWS + row % PANEL_ROWS] * p.want.rest_norm;
        const float bound = ex + (cr + 0x1p-80f), upper = copy[row] + bound;
        const double off = fabs((double)full[row] - (double)copy[row]);
        assert_true(full[row] <= upper); /* what head_best() relies on, in its own roundings */
        assert_true(off <= (double)bound);
        most = fmax(most, off / (double)bound);
    }
    return most;
}

/* What the copy of one row lacks, as int8 says it: the input that the row's bound is made for. */
static void error_of_row(const struct engine *e, const struct rig *r, const float *w, size_t row,
                         float *ret)
{
    static struct prepared p;
    float c[COLS_MAX];

    format_unpack_row(HEAD_LOW_FORMAT, r->low.rows.data, row, r->n_cols, c);
    for (size_t i = 0; i < r->n_cols; i++) {
        ret[i] = w[row * r->n_cols + i] - c[i] * r->low.rows.scale;
    }
    prepare(e, ret, r->n_cols, &p);
    for (size_t i = 0; i < r->n_cols; i++) {
        ret[i] = p.d[i / ACT_BLOCK] * p.q[i];
    }
}

enum rows_of { GAUSS, FAR_APART, SUBNORMAL, HUGE_ROWS, OUTLIERS, POSITIVE, KINDS };

static void fill_rows(enum rows_of kind, float *w, size_t n_cols, size_t n_rows)
{
    uint64_t i = 1 + (uint64_t)kind * 1000000;

    for (size_t row = 0; row < n_rows; row++) {
        const float far = ldexpf(1, (int)(row * 7 % 90) - 60);
        for (size_t c = 0; c < n_cols; c++) {
            float x = gauss(&i);
            x = kind == FAR_APART   ? x * far
                : kind == SUBNORMAL ? x * 0x1p-128f
                : kind == HUGE_ROWS ? x * 0x1p30f
                : kind == OUTLIERS  ? c % 97 == row % 97 ? 400 * x : x
                : kind == POSITIVE  ? 3 + fabsf(x)
                                    : x;
            w[row * n_cols + c] = x;
        }
    }
}

/* Goal: no product with the copy is farther off than its bound says, and the bound is no larger
 * than it has to be.
 * Method: rows of several kinds in each float format, at each level, with random inputs, inputs of
 * one column, tiny and large ones, and for some rows the worst there is: what their copy lacks.
 * There the bound of Cauchy and Schwarz is reached. */
static void no_product_is_farther_off_than_its_bound(void **state)
{
    enum { COLS = 512, ROWS = 83 };
    static const enum format formats[] = {FORMAT_F32, FORMAT_F16, FORMAT_BF16};
    static float w[ROWS * COLS], x[COLS];
    (void)state;

    for (unsigned kind = 0; kind < KINDS; kind++) {
        for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
            struct rig r;
            if (formats[f] == FORMAT_F16 &&
                (kind == FAR_APART || kind == SUBNORMAL || kind == HUGE_ROWS)) {
                continue; /* f16 does not reach so far */
            }
            fill_rows((enum rows_of)kind, w, COLS, ROWS);
            assert_true(rig_up(&r, formats[f], w, COLS, ROWS));
            for (unsigned level = 0; level < CPU_LEVELS; level++) {
                if (!cpu_level_present((enum cpu_level)level)) {
                    continue;
                }
                struct engine *e = engine_at(level, 1);
                uint64_t at = 77;
                double worst = 0;
                for (unsigned round = 0; round < 12; round++) {
                    for (size_t c = 0; c < COLS; c++) {
                        x[c] = gauss(&at) * ldexpf(1, (int)(round * 11) - 60);
                        x[c] = round == 10 ? (c == 100) : round == 11 ? 0 : x[c];
                    }
                    (void)share_of_bound(e, &r, x);
                }
                for (size_t row = 0; row < ROWS; row += 9) {
                    error_of_row(e, &r, w, row, x);
                    worst = fmax(worst, share_of_bound(e, &r, x));
                }
                assert_true(kind == SUBNORMAL || worst > 0.99);
                engine_free(e);
            }
            rig_down(&r);
        }
    }
}

/* ---- the best logits ---- */

static bool is_one_of(const int32_t *ids, size_t n, size_t row)
{
    bool is = false;

    for (size_t i = 0; i < n; i++) {
        is = is || (size_t)ids[i] == row;
    }
    return is;
}

static const float *sort_by;

static int best_first(const void *a, const void *b)
{
    const uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;

    return sort_by[i] != sort_by[k] ? (sort_by[i] < sort_by[k] ? 1 : -1) : (i < k ? -1 : 1);
}

/* Compare what head_best() wrote with the head itself. Return: rows that it settled. */
static size_t compare(const struct engine *e, const struct rig *r, struct prepared *p)
{
    static float full[ROWS_MAX], got[ROWS_MAX], room[ROWS_MAX];
    static uint32_t order[ROWS_MAX];
    const struct product product = {&r->head, full, r->n_rows};
    const struct head_want *want = &p->want;
    size_t n = 0, n_settled = 0;

    products_run(e, &p->in, 1, &product, 1);
    memset(got, 0x7f, sizeof(got));
    const struct head_job job = {.engine = e,
                                 .head = &r->head,
                                 .low = &r->low,
                                 .in = &p->in,
                                 .want = want,
                                 .n = 1,
                                 .logits = got,
                                 .room = room};
    assert_true(head_may(&r->low, &r->head, want));
    assert_true(head_best(&job) > 0);
    for (uint32_t row = 0; row < r->n_rows; row++) {
        const bool same = memcmp(&got[row], &full[row], sizeof(float)) == 0;
        assert_true(same || got[row] == -FLT_MAX);
        assert_true(same || !is_one_of(want->also, want->n_also, row));
        n_settled += same;
        order[n] = row;
        n += !is_one_of(want->also, want->n_also, row);
    }
    sort_by = full;
    qsort(order, n, sizeof(*order), best_first);
    for (size_t i = 0; i < n && i < want->n_best; i++) {
        assert_memory_equal(&got[order[i]], &full[order[i]], sizeof(float));
    }
    for (size_t i = want->n_best; i < n && full[order[i]] == full[order[want->n_best - 1]]; i++) {
        assert_memory_equal(&got[order[i]], &full[order[i]], sizeof(float)); /* equals */
    }
    return n_settled;
}

static const struct {
    size_t n_best, n_also;
} asks[] = {{1, 0}, {1, 64}, {2, 3}, {40, 0}, {40, 64}, {256, 64}};

static size_t compare_all(const struct rig *r, const float *x)
{
    static struct prepared p;
    int32_t also[STEP_ALSO_MAX];
    size_t n_settled = 0;

    for (unsigned level = 0; level < CPU_LEVELS; level++) {
        for (unsigned n_threads = 1; n_threads <= 2; n_threads++) {
            if (!cpu_level_present((enum cpu_level)level)) {
                continue;
            }
            struct engine *e = engine_at(level, n_threads);
            prepare(e, x, r->n_cols, &p);
            for (size_t a = 0; a < ARRAY_SIZE(asks); a++) {
                for (size_t i = 0; i < asks[a].n_also; i++) { /* some of them twice */
                    also[i] = (int32_t)((i * i * 13 + 5) % r->n_rows);
                }
                p.want.n_best = asks[a].n_best;
                p.want.also = also;
                p.want.n_also = asks[a].n_also;
                const size_t settled = compare(e, r, &p);
                n_settled = a == 0 ? settled : n_settled;
            }
            engine_free(e);
        }
    }
    return n_settled;
}

/* Goal: what is wanted of the logits is there to the bit, at every level. Method: random heads in
 * each format, a scale as MiniCPM's, inputs of several sizes; and it must pay: for the largest
 * logit few rows are multiplied with the head itself. */
static void the_best_logits_are_the_heads_own(void **state)
{
    enum { COLS = 512, ROWS = 2011 };
    static const enum format formats[] = {FORMAT_F32, FORMAT_F16, FORMAT_BF16};
    static float w[ROWS * COLS], x[COLS];
    uint64_t at = 99;
    (void)state;

    for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
        struct rig r;
        fill_rows(GAUSS, w, COLS, ROWS);
        assert_true(rig_up(&r, formats[f], w, COLS, ROWS));
        for (unsigned round = 0; round < 3; round++) {
            for (size_t c = 0; c < COLS; c++) {
                x[c] = gauss(&at) * (round == 0 ? 1 : round == 1 ? 0x1p-70f : 0x1p50f);
            }
            r.head.scale = round == 1 ? 1 : round == 2 ? 0.3f : 7.7f;
            const size_t n_settled = compare_all(&r, x);
            assert_true(round == 1 || n_settled < ROWS / 10);
        }
        rig_down(&r);
    }
}

/* Goal: ties, near ties and heads without any order are no exception. Method: rows that are equal,
 * that differ in the last bit of one weight, zeros, few rows, all columns of one sign; inputs of
 * zeros and of one column. */
static void ties_are_settled_by_the_head(void **state)
{
    enum { COLS = 256, ROWS = 1100 };
    static float w[ROWS * COLS], x[COLS];
    uint64_t at = 5;
    (void)state;

    for (unsigned kind = 0; kind < 6; kind++) {
        const size_t n_rows = kind == 5 ? 37 : ROWS;
        struct rig r;
        fill_rows(GAUSS, w, COLS, ROWS);
        for (size_t row = 0; row < n_rows; row++) {
            float *to = w + row * COLS;
            if (kind == 0 || (kind == 1 && row % 3 != 0)) { /* equal rows */
                memcpy(to, w, COLS * sizeof(*to));
            } else if (kind == 2) {
                memcpy(to, w, COLS * sizeof(*to));
                to[row % COLS] = nextafterf(to[row % COLS], row % 2 ? 9.0f : -9.0f);
            } else if (kind == 3) {
                memset(to, 0, COLS * sizeof(*to));
            } else if (kind == 4 && row % 2) {
                memset(to, 0, COLS * sizeof(*to));
            }
        }
        assert_true(rig_up(&r, FORMAT_F32, w, COLS, n_rows));
        for (unsigned round = 0; round < 4; round++) {
            for (size_t c = 0; c < COLS; c++) {
                x[c] = round == 0 ? gauss(&at) : round == 1 ? 0 : round == 2 ? (c == 17) : -1;
            }
            (void)compare_all(&r, x);
        }
        rig_down(&r);
    }
}

/* Goal: where the bound would not hold, nobody is told that it does. Method: weights that are no
 * numbers or make a row too long, inputs that are no numbers or too large, a scale that would turn
 * the order round. */
static void what_the_bound_does_not_cover_is_left_to_the_head(void **state)
{
    enum { COLS = 256, ROWS = 40 };
    static const float bad[] = {NAN, INFINITY, -INFINITY, FLT_MAX, 0x1p41f};
    static float w[ROWS * COLS], x[COLS];
    static struct prepared p;
    struct engine *e = engine_at(CPU_SCALAR, 1);
    uint64_t at = 5;
    struct rig r;
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        fill_rows(GAUSS, w, COLS, ROWS);
        w[33 * COLS + 7] = bad[i];
        assert_false(rig_up(&r, FORMAT_F32, w, COLS, ROWS));
        rig_down(&r);
    }
    fill_rows(GAUSS, w, COLS, ROWS);
    assert_true(rig_up(&r, FORMAT_F32, w, COLS, ROWS));
    for (size_t i = 0; i <= ARRAY_SIZE(bad); i++) {
        for (size_t c = 0; c < COLS; c++) {
            x[c] = gauss(&at);
        }
        x[100] = i < ARRAY_SIZE(bad) ? bad[i] : 0x1p61f;
        prepare(e, x, COLS, &p);
        assert_true(head_may(&r.low, &r.head, &p.want) == (i == 4));
    }
    x[100] = 1;
    prepare(e, x, COLS, &p);
    r.head.scale = -1;
    assert_false(head_may(&r.low, &r.head, &p.want));
    r.head.scale = 0;
    assert_false(head_may(&r.low, &r.head, &p.want));
    r.head.scale = NAN;
    assert_false(head_may(&r.low, &r.head, &p.want));
    r.head.scale = 1;
    r.head.bias = w;
    assert_false(head_may(&r.low, &r.head, &p.want));
    rig_down(&r);
    engine_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_product_is_farther_off_than_its_bound),
        cmocka_unit_test(the_best_logits_are_the_heads_own),
        cmocka_unit_test(ties_are_settled_by_the_head),
        cmocka_unit_test(what_the_bound_does_not_cover_is_left_to_the_head),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
