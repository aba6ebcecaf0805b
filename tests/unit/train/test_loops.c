/* The trainer's loops: the same bits at every width of registers, and quantizers that are those of
 * engine/NUMERICS.md, written out here once more. */
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

#include "tests/unit/train/small.h"
#include "train/net/loops.h"

#define N 512u

struct data {
    float x[N], w[N], t[N], g[N], cos[N], sin[N], y[N], z[N];
};

/* What a level makes of the same numbers, byte by byte. */
struct made {
    float rows[24][N];
    double entropy;
    float sum;
    size_t n;
};

static void fill(struct data *d, uint64_t seed)
{
    for (size_t i = 0; i < N; i++) {
        d->x[i] = (float)(small_unit(&seed) * exp(4 * small_unit(&seed)));
        d->w[i] = (float)(1 + 0.5 * small_unit(&seed));
        d->t[i] = (float)(0.5 * small_unit(&seed));
        d->g[i] = (float)(2 * small_unit(&seed));
        d->cos[i] = (float)cos((double)i);
        d->sin[i] = (float)sin((double)i);
        d->y[i] = (float)small_unit(&seed);
        d->z[i] = (float)small_unit(&seed);
    }
}

static float *next(struct made *m, const float *begin)
{
    float *row = m->rows[m->n++];

    assert_true(m->n <= ARRAY_SIZE(m->rows));
    memcpy(row, begin, sizeof(m->rows[0]));
    return row;
}

static void make_rows(const struct loops *l, const struct data *d, struct made *m)
{
    const struct loops_turn turn = {d->cos, d->sin};
    float *dw = next(m, d->z), *up = next(m, d->z);

    l->add(next(m, d->x), d->w, N);
    l->norm(d->x, d->w, N, 1e-6f, next(m, d->y));
    l->norm_back(d->x, d->w, d->g, N, 1e-6f, next(m, d->y), dw);
    l->head(d->x, d->w, turn, N, 1e-6f, next(m, d->y));
    l->head_back(d->x, d->w, turn, N, 1e-6f, next(m, d->g), dw);
    l->silu(d->x, d->y, N, next(m, d->z));
    l->silu_back(d->x, d->y, d->g, N, next(m, d->z), up);
    l->softmax(next(m, d->x), 301, N, 0.125f);
    l->softmax_back(d->y, next(m, d->g), N, 0.125f);
    l->stats(d->x, N, dw, up);
}

static void make_quantized(const struct loops *l, const struct data *d, struct made *m)
{
    bool best = false;

    m->entropy = l->cross_entropy(next(m, d->x), 500, 77, 0.25f, &best);
    l->int8(d->x, N, 32, next(m, d->y));
    l->int8_token(d->x, N, next(m, d->y));
    l->sign(d->x, d->t, N, next(m, d->y));
    l->ste_hard(d->x, d->t, N, next(m, d->g));
    l->ste_clip(N, next(m, d->g));
    l->ste_smooth(d->x, d->t, N, 1.5f, next(m, d->g));
    m->sum = l->abs_sum(d->x, N);
    l->ternary(d->x, N, 0.4f, 0, 0, next(m, d->y));
    l->ternary(d->x, N, 0.4f, 99, 1u << 20, next(m, d->y));
    l->binary(d->x, N, 0.4f, 99, 7, next(m, d->y));
    l->embedding(d->x, N, next(m, d->y));
    l->ste_ternary(d->x, N, 0.4f, 1, next(m, d->g));
    l->ste_binary(d->x, N, 0.4f, 2, next(m, d->g));
}

/* Goal: the width of registers is no part of a result. Method: all loops over the same numbers at
 * every level that this CPU has, against the level that all have. */
static void every_level_gives_the_same_bits(void **state)
{
    static struct made want, got;
    static struct data d;
    (void)state;

    for (uint64_t seed = 1; seed <= 20; seed++) {
        fill(&d, seed);
        for (unsigned level = 0; level < LOOPS_LEVELS; level++) {
            struct made *m = level == 0 ? &want : &got;
            const struct loops *l = loops_at(level);
            memset(m, 0, sizeof(*m));
            if (l) {
                make_rows(l, &d, m);
                make_quantized(l, &d, m);
                assert_memory_equal(m, &want, sizeof(want));
            }
        }
    }
}

/* Goal: activations are quantized as the engine does it. Method: the page's words in scalar code,
 * over blocks with ties, tiny and huge numbers. */
static void int8_is_the_engines(void **state)
{
    static struct data d;
    const struct loops *l = loops_pick();
    float y[N], token[N];
    (void)state;

    for (uint64_t seed = 1; seed <= 50; seed++) {
        fill(&d, seed);
        d.x[3] = 127;
        d.x[4] = 63.5f;
        memset(d.x + 64, 0, 32 * sizeof(float));
        for (size_t i = 96; i < 128; i++) {
            d.x[i] *= 0x1p-110f;
        }
        l->int8(d.x, N, 32, y);
        l->int8_token(d.x, N, token);
        float all = 0;
        for (size_t i = 0; i < N; i++) {
            all = fmaxf(all, fabsf(d.x[i]));
        }
        for (size_t i = 0; i < N; i++) {
            float amax = 0;
            for (size_t j = i / 32 * 32; j < i / 32 * 32 + 32; j++) {
                amax = fmaxf(amax, fabsf(d.x[j]));
            }
            const float q = amax < 0x1p-100f ? 0 : rintf(d.x[i] * (127 / amax));
            assert_true(y[i] == (amax < 0x1p-100f ? 0 : q * (amax / 127)));
            const float r = 127 / fmaxf(all, 1e-5f);
            assert_true(token[i] == rintf(d.x[i] * r) / r);
        }
    }
}

/* Goal: a number that is none shows: in its block of int8 and as itself by sign. */
static void broken_numbers_show(void **state)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    const struct loops *l = loops_pick();
    static struct data d;
    float y[N];
    (void)state;

    for (size_t o = 0; o < ARRAY_SIZE(odd); o++) {
        fill(&d, 5);
        d.x[40] = odd[o];
        l->int8(d.x, N, 32, y);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(isnan(y[i]) != 0, i / 32 == 1);
        }
        l->int8_token(d.x, N, y);
        assert_true(isnan(o == 0 ? y[0] : y[40]));
    }
    d.x[40] = NAN;
    l->sign(d.x, d.t, N, y);
    for (size_t i = 0; i < N; i++) {
        assert_true(i == 40 ? isnan(y[i]) : y[i] == (d.x[i] - d.t[i] >= 0 ? 1 : -1));
    }
    d.x[0] = -0.0f;
    d.t[0] = 0;
    l->sign(d.x, d.t, N, y);
    assert_true(y[0] == 1); /* the sign of nothing is plus */
}

/* Goal: exp, through softmax and SiLU, is good to a few ulp, and ends where floats end. */
static void exponentials_are_right_to_a_few_ulp(void **state)
{
    const struct loops *l = loops_pick();
    float x[16], up[16], y[16];
    (void)state;

    for (int k = -6000; k < 6000; k++) {
        for (unsigned j = 0; j < 16; j++) {
            x[j] = (float)k / 70 + (float)j / 1120;
            up[j] = 1;
        }
        l->silu(x, up, 16, y);
        for (unsigned j = 0; j < 16; j++) {
            const double want = (double)x[j] / (1 + exp(-(double)x[j]));
            assert_true(fabs((double)y[j] - want) <= 1e-6 * fabs(want) + 1e-35);
        }
    }
    x[0] = 1000;
    x[1] = -1000;
    x[2] = NAN;
    l->silu(x, up, 16, y);
    assert_true(y[0] == 1000 && fabsf(y[1]) < 1e-30f && isnan(y[2]));
}

/* Goal: a softmax of scores, and a cross-entropy with its gradient, are what their names say, with
 * numbers between any two lengths left over from others. */
static void softmax_and_cross_entropy_are_right(void **state)
{
    const struct loops *l = loops_pick();
    static struct data d;
    float s[48];
    (void)state;

    fill(&d, 9);
    for (size_t n = 1; n <= 40; n++) {
        double sum = 0, best = -1e9;
        memcpy(s, d.x, sizeof(s));
        s[n] = NAN;
        for (size_t i = 0; i < n; i++) {
            sum += exp((double)d.x[i] * 0.5);
        }
        l->softmax(s, n, 48, 0.5f);
        for (size_t i = 0; i < 48; i++) {
            const double want = i < n ? exp((double)d.x[i] * 0.5) / sum : 0;
            assert_true(fabs((double)s[i] - want) <= 2e-6 * want);
        }

        bool is_best = false;
        sum = 0;
        memcpy(s, d.x, sizeof(s));
        for (size_t i = 0; i < n; i++) {
            sum += exp((double)d.x[i]);
            best = fmax(best, (double)d.x[i]);
        }
        const double e = l->cross_entropy(s, n, n / 2, 3, &is_best);
        assert_true(fabs(e - (log(sum) - (double)d.x[n / 2])) < 1e-5);
        assert_int_equal(is_best, (double)d.x[n / 2] == best);
        for (size_t i = 0; i < n; i++) {
            const double want = 3 * (exp((double)d.x[i]) / sum - (i == n / 2));
            assert_true(fabs((double)s[i] - want) < 1e-5);
        }
    }
}

/* Goal: gradients pass where each estimator says. */
static void estimators_let_pass_what_they_say(void **state)
{
    const struct loops *l = loops_pick();
    float x[16] = {0, 1, 1.01f, -1, -1.01f, 3}, t[16] = {0}, g[16], h[16] = {1, -1, 1.01f, -9};
    (void)state;

    for (unsigned i = 0; i < 16; i++) {
        g[i] = 5;
    }
    t[5] = 2.5f;
    l->ste_hard(x, t, 16, g);
    assert_true(g[0] == 5 && g[1] == 5 && g[2] == 0 && g[3] == 5 && g[4] == 0 && g[5] == 5);
    l->ste_clip(16, h);
    assert_true(h[0] == 1 && h[1] == -1 && h[2] == 0 && h[3] == 0);
    l->ste_smooth(x, t, 16, 1, g);
    assert_true(g[0] == 5 && fabs(g[1] - 5 * (1 - pow(tanh(1), 2))) < 1e-5 && g[2] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_gives_the_same_bits),
        cmocka_unit_test(int8_is_the_engines),
        cmocka_unit_test(broken_numbers_show),
        cmocka_unit_test(exponentials_are_right_to_a_few_ulp),
        cmocka_unit_test(softmax_and_cross_entropy_are_right),
        cmocka_unit_test(estimators_let_pass_what_they_say),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
