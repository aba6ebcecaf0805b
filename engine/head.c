/* The largest logits from the head's copy in five bits (engine/head.h).
 *
 * Let w be a row of the head, c its copy (real numbers, both), x the input, x' the input as its
 * int8 blocks say it. K5's kernel makes a float A of c and x', the head's own kernel a float F of w
 * and x, and F is what we want to know without reading w. With |.| the Euclidean length,
 *
 *     w x - c x'  =  (w - c) x  +  c (x - x')
 *
 * so that by Cauchy and Schwarz the two real numbers are no farther apart than |w - c| |x| +
 * |c| |x - x'|. The rest is rounding. A chain of m roundings, each relative within u = 2^-24, is
 * off by at most g(m) = m u / (1 - m u) times the sum of the magnitudes of what it adds up:
 *
 *     F: n / 16 fma and 4 additions (NUMERICS.md), and the sum of |w[i] x[i]| is within |w| |x|.
 *     A: a product's sum is exact, becomes a float (1), passes the fma of its group (at most 8) and
 *        then those of the row (2 for each of n / 256 groups). The magnitudes are those of
 *        d sc code and dmin mn apart: with v[i] the sum of both for column i, within |v| |x'|. The
 *        power of two that is the copy's scale rounds nothing.
 *
 * And A + bound is a float again: one rounding, within u (|A| + bound), where |A| is within
 * (1 + g) |v| |x'|. With X at least |x| and |x'|, R at least |x - x'|:
 *
 *     F  <=  A + E X + C R,      E = |w - c| + g(n / 16 + 2 n / 256 + 32) (|w| + |v|),   C = |c|
 *
 * in which 32 is more than 4 + 1 + 8 and the last rounding; m u is below 2^-7, so that 1.01 m u is
 * more than g(m). E and C are kept for every row, rounded up (head_pack.c); X and R, too, are
 * rounded up, and by so much (2^-20) that the roundings of E X + C R themselves are covered. What
 * underflows is covered by TINY: an operation loses at most 2^-150 so, of which a row has fewer
 * than 2^21, multiplied in A by at most f16's largest value and the copy's scale: below 2^-92.
 * Nothing overflows: head_may() admits only |x| <= X_MAX, and no row is longer than HEAD_NORM_MAX.
 *
 * The logit is F * scale, rounded (scale 1: F). Rounding and a positive factor keep order, so that
 * (A + bound) * scale is above it. Once the k-th largest of some logits, T, is known, a row whose
 * bound lies below T is none of the k largest, and no equal of theirs.
 *
 * Margin. A sampler divides differences to the largest logit m by a temperature and takes the k
 * largest of what comes out, where floats that were different may be equal and the lower id counts.
 * Let f(a) be ((a - m) / t), both rounded, t in (0, 10], L at least every logit's magnitude and m
 * within 10 L (a penalty may raise it). f(a) = f(T) for a < T is possible only if T - a is within
 * 8 u (m - T), which is within 88 u L; so every row above T - 2^-16 L is settled. Floats that
 * underflow are set apart by TINY; f(T) = -infinity has weight zero, whatever its id. */
#include "engine/head.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/threads.h"

#define TINY 0x1p-80f
#define X_MAX 0x1p60f
#define SCALE_MAX 0x1p20f
#define SLACK (1.0 + 0x1p-20)

#define RUN 128u /* panels that a thread takes at once */
#define PICKS 4u /* rows that one does */
#define LINES 4u /* of a row, asked for while the one before is multiplied */
#define LINE 64u

#define PICKS_MAX (STEP_BEST_MAX + 2 * STEP_ALSO_MAX)

size_t head_floats(size_t n_vocab)
{
    return (n_vocab + PANEL_ROWS - 1) / PANEL_ROWS;
}

/* ---- the input ---- */

static float round_up(double x)
{
    return nextafterf((float)(x * SLACK), INFINITY);
}

void head_measure(const float *x, const int8_t *q, const float *d, size_t n, struct head_want *want)
{
    double own = 0, copy = 0, rest = 0;

    for (size_t i = 0; i < n; i++) {
        const double xi = (double)x[i], ci = (double)d[i / ACT_BLOCK] * q[i];
        own += xi * xi;
        copy += ci * ci;
        rest += (xi - ci) * (xi - ci);
    }
    want->x_norm = round_up(sqrt(own > copy ? own : copy));
    want->rest_norm = round_up(sqrt(rest));
}

bool head_may(const struct head_low *low, const struct matrix *head, const struct head_want *want)
{
    return low->rows.data && !head->bias && head->scale > 0 && head->scale <= SCALE_MAX &&
           want->x_norm <= X_MAX && want->rest_norm <= X_MAX; /* both false for a NaN */
}

/* ---- a row of the head itself ---- */

static float exact(const struct head_job *j, size_t row, const float *x)
{
    const struct kernels *k = &j->engine->kernels;
    const struct matrix *m = j->head;
    const void *w = m->data + row * format_row_bytes(m->format, m->n_cols);
    const float dot = m->format == FORMAT_F32   ? k->dot_f32(w, x, m->n_cols)
                      : m->format == FORMAT_F16 ? k->dot_f16(w, x, m->n_cols)
                                                : k->dot_bf16(w, x, m->n_cols);

    return m->scale != 1.0f ? dot * m->scale : dot;
}

static void ask_for(const struct matrix *m, size_t row)
{
    const uint8_t *w = m->data + row * format_row_bytes(m->format, m->n_cols);

    for (size_t i = 0; i < LINES; i++) { /* past the last row, too: that faults nobody */
        __builtin_prefetch(w + i * LINE);
    }
}

/* ---- what all tokens share ---- */

/* A row that is multiplied before any bound is looked at. */
struct pick {
    uint32_t row;
    float value; /* first the copy's, then the head's */
};

struct shared {
    const struct head_job *j;
    size_t n_rows, n_panels, n_runs; /* of a token */
    atomic_size_t n_settled;
    /* Of one token: */
    size_t token;
    struct pick picks[PICKS_MAX];
    size_t n_picks;
};

static const float *input_of(const struct head_job *j, size_t token)
{
    return j->in->x + token * j->in->stride;
}

/* ---- the largest of each panel, by the copy ---- */

static void find_tops(void *ctx, size_t item, unsigned thread_i)
{
    const struct shared *s = ctx;
    const size_t token = item / s->n_runs, first = item % s->n_runs * RUN;
    const size_t end = first + RUN < s->n_panels ? first + RUN : s->n_panels;
    const float *copy = s->j->logits + token * s->n_rows;
    float *tops = s->j->room + token * head_floats(s->n_rows);

    for (size_t p = first; p < end; p++) {
        const size_t at = p * PANEL_ROWS;
        const size_t n = s->n_rows - at < PANEL_ROWS ? s->n_rows - at : PANEL_ROWS;
        float top = copy[at];
        for (size_t i = 1; i < n; i++) {
            top = copy[at + i] > top ? copy[at + i] : top;
        }
        tops[p] = top;
    }
}

/* ---- what is multiplied first ---- */

static bool is_among(const int32_t *ids, size_t n, size_t row)
{
    for (size_t i = 0; i < n; i++) {
        if ((size_t)ids[i] == row) {
            return true;
        }
    }
    return false;
}

static size_t row_of_top(const struct shared *s, size_t panel)
{
    const float *copy = s->j->logits + s->token * s->n_rows;
    const size_t at = panel * PANEL_ROWS;
    size_t best = at;

    for (size_t row = at + 1; row < at + PANEL_ROWS && row < s->n_rows; row++) {
        best = copy[row] > copy[best] ? row : best;
    }
    return best;
}

/* The best rows of the n best panels, by insertion: n is small. Their values are the panels'. */
static void pick_tops(struct shared *s, size_t n)
{
    const float *tops = s->j->room + s->token * head_floats(s->n_rows);
    struct pick *picks = s->picks + s->n_picks;
    size_t got = 0;

    for (size_t p = 0; p < s->n_panels; p++) {
        if (got == n && !(tops[p] > picks[n - 1].value)) {
            continue;
        }
        size_t at = got < n ? got++ : n - 1;
        for (; at > 0 && tops[p] > picks[at - 1].value; at--) {
            picks[at] = picks[at - 1];
        }
        picks[at] = (struct pick){.row = (uint32_t)p, .value = tops[p]};
    }
    for (size_t i = 0; i < got; i++) {
        picks[i].row = (uint32_t)row_of_top(s, picks[i].row);
    }
    s->n_picks += got;
}

static void multiply_picks(void *ctx, size_t item, unsigned thread_i)
{
    struct shared *s = ctx;
    const float *x = input_of(s->j, s->token);

    for (size_t i = item * PICKS; i < (item + 1) * PICKS && i < s->n_picks; i++) {
        if (i + 1 < s->n_picks) {
            ask_for(s->j->head, s->picks[i + 1].row);
        }
        s->picks[i].value = exact(s->j, s->picks[i].row, x);
    }
}

/* The n-th largest of the picks that are not in `also`; -infinity when there are fewer. */
static float nth_of_picks(const struct shared *s, const struct head_want *want)
{
    float best[STEP_BEST_MAX];
    size_t got = 0;

    for (size_t i = want->n_also; i < s->n_picks; i++) {
        const float v = s->picks[i].value;
        if (is_among(want->also, want->n_also, s->picks[i].row) ||
            (got == want->n_best && !(v > best[got - 1]))) {
            continue;
        }
        size_t at = got < want->n_best ? got++ : got - 1;
        for (; at > 0 && v > best[at - 1]; at--) {
            best[at] = best[at - 1];
        }
        best[at] = v;
    }
    return got == want->n_best ? best[got - 1] : -INFINITY;
}

/* Below this nothing of the token's is wanted. */
static float threshold(struct shared *s, size_t token)
{
    const struct head_want *want = &s->j->want[token];
    const double most = (double)s->j->low->norm_max * (double)want->x_norm * SLACK;

    s->token = token;
    s->n_picks = want->n_also;
    for (size_t i = 0; i < want->n_also; i++) {
        s->picks[i] = (struct pick){.row = (uint32_t)want->also[i]};
    }
    pick_tops(s, want->n_best + want->n_also);
    const size_t n_items = (s->n_picks + PICKS - 1) / PICKS;
    if (n_items > 1) {
        threads_run(s->j->engine->threads, multiply_picks, s, n_items);
    } else {
        multiply_picks(s, 0, 0);
    }
    const double margin = 0x1p-16 * most * (double)s->j->head->scale + (double)TINY;
    return nextafterf((float)((double)nth_of_picks(s, want) - margin), -INFINITY);
}

/* ---- all rows ---- */

struct settling {
    struct shared *s;
    size_t token;
    float threshold;
};

/* Which rows of a panel may reach the threshold? Their places are added to `rows`. */
static size_t may_reach(const struct settling *t, size_t panel, uint32_t *rows, size_t n)
{
    const struct head_job *j = t->s->j;
    const struct head_want *want = &j->want[t->token];
    const float *bounds = j->low->bounds + panel * HEAD_BOUNDS * PANEL_ROWS;
    const size_t at = panel * PANEL_ROWS, n_rows = t->s->n_rows;
    const float x = want->x_norm, rest = want->rest_norm, scale = j->head->scale;
    float top[PANEL_ROWS] = {0};

    memcpy(top, j->logits + t->token * n_rows + at,
           (n_rows - at < PANEL_ROWS ? n_rows - at : PANEL_ROWS) * sizeof(*top));
    for (size_t i = 0; i < PANEL_ROWS; i++) {
        top[i] = (top[i] + (bounds[i] * x + (bounds[PANEL_ROWS + i] * rest + TINY))) * scale;
    }
    for (size_t i = 0; i < PANEL_ROWS && at + i < n_rows; i++) {
        rows[n] = (uint32_t)(at + i);
        n += !(top[i] < t->threshold); /* a NaN may be anything */
    }
    return n;
}

static void settle(void *ctx, size_t item, unsigned thread_i)
{
    const struct settling *t = ctx;
    struct shared *s = t->s;
    const size_t first = item * RUN, end = first + RUN < s->n_panels ? first + RUN : s->n_panels;
    const size_t rows_end = end * PANEL_ROWS < s->n_rows ? end * PANEL_ROWS : s->n_rows;
    const float *x = input_of(s->j, t->token);
    float *logits = s->j->logits + t->token * s->n_rows;
    uint32_t rows[RUN * PANEL_ROWS + 1];
    size_t n = 0;

    for (size_t p = first; p < end; p++) {
        n = may_reach(t, p, rows, n);
    }
    for (size_t row = first * PANEL_ROWS; row < rows_end; row++) {
        logits[row] = -FLT_MAX;
    }
    rows[n] = n > 0 ? rows[n - 1] : 0;
    for (size_t i = 0; i < n; i++) {
        ask_for(s->j->head, rows[i + 1]);
        logits[rows[i]] = exact(s->j, rows[i], x);
    }
    atomic_fetch_add_explicit(&s->n_settled, n, memory_order_relaxed);
}

uint64_t head_best(const struct head_job *j)
{
    const struct matrix *low = &j->low->rows;
    const struct product copy = {low, j->logits, low->n_rows};
    struct threads *threads = j->engine->threads;
    struct shared s = {.j = j, .n_rows = low->n_rows, .n_panels = head_floats(low->n_rows)};
    uint64_t n_picks = 0;

    s.n_runs = (s.n_panels + RUN - 1) / RUN;
    products_run(j->engine, j->in, j->n, &copy, 1);
    threads_run(threads, find_tops, &s, j->n * s.n_runs);
    for (size_t token = 0; token < j->n; token++) {
        const struct head_want *want = &j->want[token];
        struct settling t = {.s = &s, .token = token};
        assert(want->n_best >= 1 && want->n_best <= STEP_BEST_MAX);
        assert(want->n_also <= STEP_ALSO_MAX);
        t.threshold = threshold(&s, token);
        threads_run(threads, settle, &t, s.n_runs);
        for (size_t i = 0; i < want->n_also; i++) {
            j->logits[token * s.n_rows + (size_t)want->also[i]] = s.picks[i].value;
        }
        n_picks += s.n_picks;
    }
    return s.n_panels * (low->panel_bytes + HEAD_BOUNDS * PANEL_ROWS * sizeof(float)) +
           (atomic_load(&s.n_settled) + n_picks) * format_row_bytes(j->head->format, low->n_cols);
}
