/* Attention's functions, and those that take one value after the other, against their scalar twins:
 * every count of queries and rows, odd widths and alignments, bytes of -128, and floats with
 * subnormals, infinities and NaN. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/kernels/check.h"

#define ROUNDS 400

static const size_t sizes[ROW_KINDS] = {4, 2, 1};

/* One call's input, and room for two answers. */
struct rows_case {
    struct kv_rows rows;
    struct queries queries;
    void *bytes, *next, *q[KERN_QUERIES];
    float *d;
    size_t off;
};

static void fill_rows(void *rows, enum row_kind kind, size_t n, size_t round)
{
    if (kind == ROW_I8) {
        fill_bytes(rows, n, round % 7 == 6 ? 0x80 : -1);
    } else if (kind == ROW_F16) {
        half_input(rows, n, round);
    } else {
        float_input(rows, n, round);
    }
}

/* What a cache may hold, wider than it is by the odd columns. */
static void rows_case_init(struct rows_case *c, enum row_kind kind, size_t round)
{
    const size_t wide[] = {64, 128, 80, 96, 16, 256};
    const size_t n_cols = round % 3 == 0 ? wide[random_u32() % 6] : 1 + random_u32() % 140;
    const size_t n = round % 4 == 0 ? KERN_ROWS : 1 + random_u32() % KERN_ROWS;

    *c = (struct rows_case){.off = round % 5 * sizes[kind]};
    c->bytes = buffer_new(n * n_cols * sizes[kind], c->off);
    c->next = buffer_new(KERN_ROWS * n_cols * sizes[kind], 0);
    c->d = buffer_new(n * sizeof(float), 4);
    c->rows = (struct kv_rows){.rows = c->bytes,
                               .d = kind == ROW_I8 ? c->d : NULL,
                               .next = round % 2 ? c->next : NULL,
                               .n = n,
                               .n_cols = n_cols};
    fill_rows(c->bytes, kind, n * n_cols, round);
    float_input(c->d, n, round);
    c->queries.n = 1 + round % KERN_QUERIES;
    for (size_t t = 0; t < c->queries.n; t++) {
        c->q[t] = buffer_new(n_cols * (kind == ROW_I8 ? 1 : sizeof(float)), 4);
        if (kind == ROW_I8) {
            int8_t *q = c->q[t];
            fill_bytes(q, n_cols, round % 7 == 6 ? (t % 2 ? 127 : 0x81) : -1);
            for (size_t i = 0; i < n_cols; i++) {
                q[i] = q[i] == -128 ? -127 : q[i];
            }
        } else {
            float_input(c->q[t], n_cols, round);
        }
        c->queries.q[t] = c->q[t];
        c->queries.scale[t] = round % 16 == 15 ? extreme_float() : random_float(3);
    }
}

static void rows_case_deinit(struct rows_case *c)
{
    buffer_free(c->bytes, c->off);
    buffer_free(c->next, 0);
    buffer_free(c->d, 4);
    for (size_t t = 0; t < c->queries.n; t++) {
        buffer_free(c->q[t], 4);
    }
}

/* n floats for each query, filled alike in both. */
struct answers {
    float *want[KERN_QUERIES], *got[KERN_QUERIES];
};

static void answers_init(struct answers *a, size_t n_queries, size_t n, size_t round)
{
    for (size_t t = 0; t < n_queries; t++) {
        a->want[t] = buffer_new(n * sizeof(float), 4);
        a->got[t] = buffer_new(n * sizeof(float), 8);
        float_input(a->want[t], n, round);
        memcpy(a->got[t], a->want[t], n * sizeof(float));
    }
}

/* Are they equal? Frees them. */
static bool answers_end(struct answers *a, const char *slot, const struct rows_case *c, size_t n,
                        size_t round)
{
    bool ok = true;

    for (size_t t = 0; t < c->queries.n; t++) {
        size_t at = 0;
        if (ok && !same_floats(a->want[t], a->got[t], n, &at)) {
            printf("%s: round=%zu queries=%zu rows=%zu columns=%zu, query %zu at %zu: want %a got "
                   "%a\n",
                   slot, round, c->queries.n, c->rows.n, c->rows.n_cols, t, at,
                   (double)a->want[t][at], (double)a->got[t][at]);
            ok = false;
        }
        buffer_free(a->want[t], 4);
        buffer_free(a->got[t], 8);
    }
    return ok;
}

bool check_scores(enum row_kind kind, scores_fn *want_fn, scores_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < ROUNDS && ok; round++) {
        struct rows_case c;
        struct answers a;

        rows_case_init(&c, kind, round);
        answers_init(&a, c.queries.n, c.rows.n, round);
        want_fn(&c.rows, &c.queries, a.want);
        got_fn(&c.rows, &c.queries, a.got);
        ok = answers_end(&a, "scores", &c, c.rows.n, round);
        rows_case_deinit(&c);
    }
    return ok;
}

bool check_mix(enum row_kind kind, mix_fn *want_fn, mix_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < ROUNDS && ok; round++) {
        float want_sum[KERN_QUERIES], got_sum[KERN_QUERIES];
        struct rows_case c;
        struct answers a, weights;
        size_t at;

        rows_case_init(&c, kind, round);
        answers_init(&a, c.queries.n, c.rows.n_cols, round);
        answers_init(&weights, c.queries.n, c.rows.n, round);
        for (size_t t = 0; t < KERN_QUERIES; t++) {
            want_sum[t] = got_sum[t] = t % 2 ? 0.0f : random_float(3);
        }
        want_fn(&c.rows, (const float *const *)weights.want, c.queries.n, a.want, want_sum);
        got_fn(&c.rows, (const float *const *)weights.got, c.queries.n, a.got, got_sum);
        const bool same = answers_end(&weights, "the weights of mix", &c, c.rows.n, round);
        ok = answers_end(&a, "mix", &c, c.rows.n_cols, round) && same;
        if (ok && !same_floats(want_sum, got_sum, KERN_QUERIES, &at)) {
            printf("mix: round=%zu, the sum of query %zu: want %a got %a\n", round, at,
                   (double)want_sum[at], (double)got_sum[at]);
            ok = false;
        }
        rows_case_deinit(&c);
    }
    return ok;
}

/* ---- one value after the other ---- */

static size_t count_of(size_t round) /* all the odd ones, then a few long ones */
{
    return round < 280 ? round / 4 : 1000 + random_u32() % 64;
}

/* Arguments of exp and SiLU: where they are neither 0 nor infinite, the borders of that, and what
 * float_input() has; every fourth time none beyond SiLU's borders, which levels may look for. */
static void exp_input(float *x, size_t n, size_t round)
{
    static const float borders[] = {-103.0f, -104.0f, -105.0f,  -120.0f,  -121.0f,
                                    88.7f,   88.73f,  89.0f,    90.0f,    120.0f,
                                    121.0f,  -0.0f,   INFINITY, -INFINITY};

    float_input(x, n, round);
    for (size_t i = 0; i < n && round % 2 == 0; i++) {
        x[i] = (float)(int32_t)random_u32() * (125 * 0x1p-31f);
        if (random_u32() % 8 == 0) {
            const float border = borders[random_u32() % ARRAY_SIZE(borders)];
            const uint32_t side = random_u32() % 3;
            x[i] = side == 0 ? border : nextafterf(border, side == 1 ? 0.0f : border * 2);
        }
        if (round % 4 == 0 && fabsf(x[i]) > 120.0f) {
            x[i] = copysignf(120.0f, x[i]);
        }
    }
}

bool check_exp(exp_below_max_fn *want_fn, exp_below_max_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < 1200 && ok; round++) {
        const size_t n = count_of(round % 300), off = round % 7 * 4;
        float *want = buffer_new(n * sizeof(float), 4), *got = buffer_new(n * sizeof(float), off);
        size_t at = 0;

        exp_input(want, n, round);
        for (size_t i = 0; i < n && round % 3 == 0; i++) { /* a row without a NaN or infinity */
            want[i] = isfinite(want[i]) ? want[i] : 1.0f;
        }
        memcpy(got, want, n * sizeof(float));
        want_fn(want, n);
        got_fn(got, n);
        ok = same_floats(want, got, n, &at);
        if (!ok) {
            printf("exp_below_max: n=%zu round=%zu differs at %zu\n", n, round, at);
        }
        buffer_free(want, 4);
        buffer_free(got, off);
    }
    return ok;
}

bool check_gate_mul(const char *name, gate_mul_fn *want_fn, gate_mul_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < 1200 && ok; round++) {
        const size_t n = count_of(round % 300), off = round % 7 * 4;
        float *want = buffer_new(n * sizeof(float), 4), *got = buffer_new(n * sizeof(float), off);
        float *up = buffer_new(n * sizeof(float), 8);
        size_t at = 0;

        exp_input(want, n, round);
        float_input(up, n, round % 5 ? 0 : 3);
        memcpy(got, want, n * sizeof(float));
        want_fn(want, up, n);
        got_fn(got, up, n);
        ok = same_floats(want, got, n, &at);
        if (!ok) {
            printf("%s: n=%zu round=%zu at %zu: want %a got %a\n", name, n, round, at,
                   (double)want[at], (double)got[at]);
        }
        buffer_free(want, 4);
        buffer_free(got, off);
        buffer_free(up, 8);
    }
    return ok;
}

/* Finite numbers, zeros of either sign alone, and one number among them that is not finite. */
static void largest_input(float *x, size_t n, size_t round)
{
    static const float broken[] = {INFINITY, -INFINITY, NAN};

    float_input(x, n, round);
    for (size_t i = 0; i < n; i++) {
        const bool zero = round % 5 == 4;
        x[i] = zero ? copysignf(0.0f, x[i]) : isfinite(x[i]) ? x[i] : -1.0f;
        x[i] = round % 5 == 3 ? -fabsf(x[i]) : x[i];
    }
    if (round % 3 == 2) {
        x[random_u32() % n] = broken[random_u32() % ARRAY_SIZE(broken)];
    }
}

bool check_largest(largest_fn *want_fn, largest_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < 1200 && ok; round++) {
        const size_t n = 1 + count_of(round % 300), off = round % 7 * 4;
        float *x = buffer_new(n * sizeof(float), off);
        size_t at = 0;

        largest_input(x, n, round);
        const float want = want_fn(x, n), got = got_fn(x, n);
        ok = same_floats(&want, &got, 1, &at);
        if (!ok) {
            printf("largest: n=%zu round=%zu: want %a got %a\n", n, round, (double)want,
                   (double)got);
        }
        buffer_free(x, off);
    }
    return ok;
}

/* ret = f(x, a, y), into another place and, every other round, into x's own. */
#define CHECK_THREE(name, type, call)                                                              \
    bool name(type *want_fn, type *got_fn)                                                         \
    {                                                                                              \
        bool ok = true;                                                                            \
                                                                                                   \
        for (size_t round = 0; round < 320 && ok; round++) {                                       \
            const size_t n = count_of(round), off = round % 7 * 4;                                 \
            float *x = buffer_new(n * sizeof(float), 4), *y = buffer_new(n * sizeof(float), off);  \
            float *want = buffer_new(n * sizeof(float), 8);                                        \
            float *got = buffer_new(n * sizeof(float), off);                                       \
            const float a = round % 8 == 7 ? extreme_float() : random_float(3);                    \
            size_t at = 0;                                                                         \
                                                                                                   \
            float_input(x, n, round);                                                              \
            float_input(y, n, round);                                                              \
            memcpy(got, x, n * sizeof(float));                                                     \
            call(want_fn, x, want);                                                                \
            call(got_fn, (round % 2 ? got : x), got);                                              \
            ok = same_floats(want, got, n, &at);                                                   \
            if (!ok) {                                                                             \
                printf(#name ": n=%zu round=%zu at %zu: want %a got %a\n", n, round, at,           \
                       (double)want[at], (double)got[at]);                                         \
            }                                                                                      \
            buffer_free(x, 4);                                                                     \
            buffer_free(y, off);                                                                   \
            buffer_free(want, 8);                                                                  \
            buffer_free(got, off);                                                                 \
        }                                                                                          \
        return ok;                                                                                 \
    }

#define CALL_SCALE_MUL(fn, from, to) fn(from, a, y, to, n)
#define CALL_ADD_SCALED(fn, from, to) fn(from, y, a, to, n)
CHECK_THREE(check_scale_mul, scale_mul_fn, CALL_SCALE_MUL)
CHECK_THREE(check_add_scaled, add_scaled_fn, CALL_ADD_SCALED)

bool check_rotate(const char *name, rotate_fn *want_fn, rotate_fn *got_fn)
{
    bool ok = true;

    for (size_t round = 0; round < 320 && ok; round++) {
        const size_t n = count_of(round), off = round % 7 * 4;
        float *want = buffer_new(2 * n * sizeof(float), 4);
        float *got = buffer_new(2 * n * sizeof(float), off);
        float *c = buffer_new(n * sizeof(float), 8), *s = buffer_new(n * sizeof(float), 12);
        size_t at = 0;

        float_input(want, 2 * n, round);
        float_input(c, n, round);
        float_input(s, n, round);
        memcpy(got, want, 2 * n * sizeof(float));
        want_fn(want, c, s, n);
        got_fn(got, c, s, n);
        ok = same_floats(want, got, 2 * n, &at);
        if (!ok) {
            printf("%s: n=%zu round=%zu at %zu: want %a got %a\n", name, n, round, at,
                   (double)want[at], (double)got[at]);
        }
        buffer_free(want, 4);
        buffer_free(got, off);
        buffer_free(c, 8);
        buffer_free(s, 12);
    }
    return ok;
}
