#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "tests/unit/engine/tiny.h"

#define N 6u

static const float logits[N] = {1.0f, 3.0f, 2.0f, 3.0f, -1.0f, 0.5f};
static const struct sampler_params greedy = {.top_p = 1, .repeat_penalty = 1};

static struct sampler *sampler;

static int make(void **state)
{
    (void)state;
    return sampler_new(&sampler, N);
}

static int unmake(void **state)
{
    (void)state;
    sampler_free(sampler);
    return 0;
}

static int32_t pick(const struct sampler_params *p, const float *x, uint64_t position)
{
    struct sampler_choice c;

    assert_int_equal(sampler_pick(sampler, p, x, NULL, 0, position, 0, &c), SAMPLER_OK);
    return c.id;
}

static void ties_go_to_the_lower_id(void **state)
{
    struct sampler_params top1 = greedy;
    (void)state;

    assert_int_equal(pick(&greedy, logits, 0), 1);
    top1.temperature = 1;
    top1.top_k = 1;
    for (uint64_t p = 0; p < 50; p++) {
        assert_int_equal(pick(&top1, logits, p), 1);
    }
}

/* Goal: greedy takes the lowest id of the largest logit, wherever it stands; no place hides a
 * number that is not finite. Method: vocabularies of many lengths, with ties; a plain loop is
 * right. */
static void the_best_is_found_in_a_vocabulary_of_any_length(void **state)
{
    static const float broken[] = {NAN, -NAN, INFINITY, -INFINITY};
    uint32_t random = 1;
    (void)state;

    for (uint32_t n = 1; n < 1200; n += n < 40 ? 1 : 61) {
        struct sampler *s = NULL;
        struct sampler_choice c;
        float *x = malloc(n * sizeof(*x));
        assert_non_null(x);
        assert_int_equal(sampler_new(&s, n), 0);
        for (uint32_t round = 0; round < 60; round++) {
            int32_t want = 0;
            for (uint32_t i = 0; i < n; i++) {
                random = random * 1664525u + 1013904223u;
                x[i] = round % 3 ? (float)(random >> 20) : -(float)(random >> 28) - 1;
                want = x[i] > x[want] ? (int32_t)i : want;
            }
            assert_int_equal(sampler_pick(s, &greedy, x, NULL, 0, 0, 0, &c), SAMPLER_OK);
            assert_int_equal(c.id, want);
            assert_true(c.logprob == 0 && c.n_top == 0);
            x[random % n] = broken[round % 4];
            assert_int_equal(sampler_pick(s, &greedy, x, NULL, 0, 0, 0, &c), SAMPLER_NOT_FINITE);
        }
        sampler_free(s);
        free(x);
    }
}

/* Goal: the draw is a function of seed and position and of nothing else. */
static void the_choice_depends_on_seed_and_position_alone(void **state)
{
    struct sampler_params p = {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 42};
    int32_t first[64];
    struct sampler *other = NULL;
    size_t n_other_seed = 0;
    (void)state;

    for (uint64_t i = 0; i < 64; i++) {
        first[i] = pick(&p, logits, i);
    }
    assert_int_equal(sampler_new(&other, N), 0);
    for (uint64_t i = 64; i-- > 0;) { /* another sampler, another order */
        struct sampler_choice c;
        assert_int_equal(sampler_pick(other, &p, logits, NULL, 0, i, 3, &c), SAMPLER_OK);
        assert_int_equal(c.id, first[i]);
    }
    sampler_free(other);
    p.seed = 43;
    for (uint64_t i = 0; i < 64; i++) {
        n_other_seed += pick(&p, logits, i) != first[i];
    }
    assert_true(n_other_seed > 10);
}

static void frequencies(const struct sampler_params *p, double ret[N])
{
    enum { DRAWS = 20000 };

    memset(ret, 0, N * sizeof(*ret));
    for (uint64_t i = 0; i < DRAWS; i++) {
        ret[pick(p, logits, i)] += 1.0 / DRAWS;
    }
}

/* Goal: tokens come up as often as their probabilities say, with every filter. Method: 20,000 fixed
 * positions; four standard deviations are below 0.015. */
static void frequencies_follow_the_filtered_distribution(void **state)
{
    static const struct {
        struct sampler_params p;
        bool kept[N];
    } cases[] = {
        {{.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 1}, {1, 1, 1, 1, 1, 1}},
        {{.temperature = 0.5f, .top_p = 1, .repeat_penalty = 1, .seed = 2}, {1, 1, 1, 1, 1, 1}},
        {{.temperature = 1, .top_k = 3, .top_p = 1, .repeat_penalty = 1}, {0, 1, 1, 1, 0, 0}},
        {{.temperature = 1, .top_p = 0.7f, .repeat_penalty = 1, .seed = 4}, {0, 1, 0, 1, 0, 0}},
        {{.temperature = 1, .top_p = 0.99f, .repeat_penalty = 1, .seed = 5}, {1, 1, 1, 1, 0, 1}},
        {{.temperature = 1, .top_p = 1, .min_p = 0.3f, .repeat_penalty = 1}, {0, 1, 1, 1, 0, 0}},
        {{.temperature = 1, .top_k = 4, .top_p = 0.9f, .repeat_penalty = 1}, {0, 1, 1, 1, 0, 0}},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        double want[N], got[N], sum = 0;
        for (size_t k = 0; k < N; k++) {
            want[k] = cases[i].kept[k] ? exp((double)(logits[k] / cases[i].p.temperature)) : 0;
            sum += want[k];
        }
        frequencies(&cases[i].p, got);
        for (size_t k = 0; k < N; k++) {
            assert_true(fabs(got[k] - want[k] / sum) < 0.015);
            assert_true(cases[i].kept[k] || got[k] == 0);
        }
    }
}

/* Goal: filters give the same on a large vocabulary, where candidates are found by threshold.
 * Method: top-k of a wide flat distribution against a count of the logits above the k-th. */
static void top_k_and_top_p_hold_on_a_large_vocabulary(void **state)
{
    enum { VOCAB = 50000, K = 40 };
    static float x[VOCAB];
    struct sampler_params p = {.temperature = 1, .top_k = K, .top_p = 1, .repeat_penalty = 1};
    struct sampler *s = NULL;
    struct sampler_choice c;
    (void)state;

    for (size_t i = 0; i < VOCAB; i++) {
        x[i] = 10.0f * tiny_random(i);
    }
    assert_int_equal(sampler_new(&s, VOCAB), 0);
    for (uint64_t i = 0; i < 200; i++) {
        size_t n_better = 0;
        assert_int_equal(sampler_pick(s, &p, x, NULL, 0, i, 0, &c), SAMPLER_OK);
        for (size_t k = 0; k < VOCAB; k++) {
            n_better += x[k] > x[c.id];
        }
        assert_true(n_better < K);
    }
    p.top_k = 0;
    p.top_p = 0.5f;
    for (uint64_t i = 0; i < 50; i++) {
        double all = 0, above = 0;
        assert_int_equal(sampler_pick(s, &p, x, NULL, 0, i, 0, &c), SAMPLER_OK);
        for (size_t k = 0; k < VOCAB; k++) {
            all += exp((double)x[k]);
            above += x[k] > x[c.id] ? exp((double)x[k]) : 0;
        }
        assert_true(above < 0.5001 * all);
    }
    sampler_free(s);
}

static void seen_tokens_are_penalized_once_and_only_for_a_while(void **state)
{
    static int32_t history[100] = {1, 1, -5, 99}; /* the rest is 0; out of range is ignored */
    struct sampler_params p = {.top_p = 1, .repeat_penalty = 1.2f};
    struct sampler_choice c;
    (void)state;

    /* 3 / 1.2 = 2.5 is still above 2; twice it would not be above 2.2 */
    float x[N] = {0, 3, 2.2f, -5, -5, -5};
    assert_int_equal(sampler_pick(sampler, &p, x, history, 4, 0, 0, &c), SAMPLER_OK);
    assert_int_equal(c.id, 1);
    x[2] = 2.6f;
    assert_int_equal(sampler_pick(sampler, &p, x, history, 4, 0, 0, &c), SAMPLER_OK);
    assert_int_equal(c.id, 2);
    assert_int_equal(sampler_pick(sampler, &p, x, history, 100, 0, 0, &c), SAMPLER_OK);
    assert_int_equal(c.id, 1); /* token 1 lies more than 64 tokens back */
    const float below[N] = {-1, -1.1f, -9, -9, -9, -9};
    history[0] = 0;
    assert_int_equal(sampler_pick(sampler, &p, below, history, 1, 0, 0, &c), SAMPLER_OK);
    assert_int_equal(c.id, 1); /* -1 * 1.2 is below -1.1 */
}

static void logprobs_are_those_of_temperature_one(void **state)
{
    const struct sampler_params p = {
        .temperature = 2, .top_k = 2, .top_p = 1, .repeat_penalty = 1.5f};
    const int32_t history[] = {1};
    struct sampler_choice c;
    double sum = 0;
    (void)state;

    for (size_t i = 0; i < N; i++) {
        sum += exp((double)logits[i]);
    }
    assert_int_equal(sampler_pick(sampler, &p, logits, history, 1, 9, 4, &c), SAMPLER_OK);
    assert_true(fabs((double)c.logprob - ((double)logits[c.id] - log(sum))) < 1e-5);
    assert_int_equal(c.n_top, 4);
    static const int32_t order[] = {1, 3, 2, 0};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(c.top_id[i], order[i]);
        assert_true(fabs((double)c.top_logprob[i] - ((double)logits[order[i]] - log(sum))) < 1e-5);
    }
    assert_int_equal(sampler_pick(sampler, &p, logits, NULL, 0, 9, 20, &c), SAMPLER_OK);
    assert_int_equal(c.n_top, N);
}

static void logits_that_are_not_finite_are_reported(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct sampler_choice c = {.id = -7};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        float x[N] = {0};
        x[N - 1] = bad[i];
        assert_int_equal(sampler_pick(sampler, &greedy, x, NULL, 0, 0, 0, &c), SAMPLER_NOT_FINITE);
        assert_int_equal(c.id, -7);
    }
}

/* Goal: extremes end in some token. Method: huge logits, tiny temperatures, strong penalties. */
static void extremes_still_choose_a_token(void **state)
{
    static const float temperatures[] = {1e-30f, 10, INFINITY};
    const float huge[N] = {3e38f, -3e38f, 3e38f, 0, 1, -1};
    const int32_t history[] = {0, 1};
    struct sampler_choice c;
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(temperatures); i++) {
        const struct sampler_params p = {
            .temperature = temperatures[i], .top_p = 0.5f, .min_p = 0.5f, .repeat_penalty = 0.1f};
        assert_int_equal(sampler_pick(sampler, &p, huge, history, 2, 0, 3, &c), SAMPLER_OK);
        assert_in_range(c.id, 0, N - 1);
    }
}

static void absurd_vocabularies_are_refused(void **state)
{
    struct sampler *s = NULL;
    (void)state;

    assert_int_equal(sampler_new(&s, 0), -22);
    assert_int_equal(sampler_new(&s, MODEL_VOCAB_MAX + 1), -22);
    assert_null(s);
    sampler_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ties_go_to_the_lower_id),
        cmocka_unit_test(the_best_is_found_in_a_vocabulary_of_any_length),
        cmocka_unit_test(the_choice_depends_on_seed_and_position_alone),
        cmocka_unit_test(frequencies_follow_the_filtered_distribution),
        cmocka_unit_test(top_k_and_top_p_hold_on_a_large_vocabulary),
        cmocka_unit_test(seen_tokens_are_penalized_once_and_only_for_a_while),
        cmocka_unit_test(logprobs_are_those_of_temperature_one),
        cmocka_unit_test(logits_that_are_not_finite_are_reported),
        cmocka_unit_test(extremes_still_choose_a_token),
        cmocka_unit_test(absurd_vocabularies_are_refused),
    };

    return cmocka_run_group_tests(tests, make, unmake);
}
