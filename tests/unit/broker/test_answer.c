#include "tests/support/test.h"

#include <string.h>

#include "daemon/broker/answer.h"
#include "daemon/broker/quantization.h"

#define N_IDS 40

/* The answer of this test: token i is 100 + i and its text is one letter; each third token's text
 * comes one token late. */
static size_t text_before(size_t n_ids)
{
    return n_ids - (n_ids % 3 == 1);
}

/* Report ids [from, to) as an engine would, in pieces of `step`; collect what is new. */
static void report(struct answer *a, size_t from, size_t to, size_t step, char *text, int32_t *ids,
                   size_t *n_ids)
{
    for (size_t at = from; at < to;) {
        const size_t n = to - at < step ? to - at : step;
        const size_t t0 = text_before(at), t1 = text_before(at + n);
        struct answer_news news;
        int32_t piece[N_IDS];

        for (size_t i = 0; i < n; i++) {
            piece[i] = (int32_t)(100 + at + i);
        }
        assert_int_equal(answer_take(a, (uint32_t)at, piece, n, t1 - t0, &news), ANSWER_OK);
        for (size_t i = news.skip_ids; i < n; i++) {
            ids[(*n_ids)++] = piece[i];
        }
        for (size_t t = t0 + news.skip_bytes; t < t1; t++) {
            text[strlen(text)] = (char)('A' + t);
        }
        at += n;
    }
}

/* Goal: whatever the moment of the engine's death and however the replay is cut, the client gets
 * each id and byte once. Method: all moments, all cuts, against the undisturbed answer. */
static void a_replay_delivers_each_id_and_byte_once(void **state)
{
    char want_text[N_IDS + 1] = "";
    int32_t want_ids[N_IDS];
    size_t n_want = 0;
    struct answer plain = {0};
    (void)state;

    report(&plain, 0, N_IDS, 1, want_text, want_ids, &n_want);
    answer_deinit(&plain);
    for (size_t died = 0; died <= N_IDS; died++) {
        for (size_t step = 1; step <= N_IDS; step++) {
            char text[N_IDS + 1] = "";
            int32_t ids[N_IDS];
            size_t n_ids = 0;
            struct answer a = {0};

            report(&a, 0, died, 1, text, ids, &n_ids);
            answer_restart(&a);
            report(&a, 0, died / 2, 3, text, ids, &n_ids); /* it dies again while it replays */
            answer_restart(&a);
            report(&a, 0, N_IDS, step, text, ids, &n_ids);
            assert_int_equal(n_ids, n_want);
            assert_memory_equal(ids, want_ids, sizeof(want_ids));
            assert_string_equal(text, want_text);
            assert_int_equal(a.n_ids, N_IDS);
            answer_deinit(&a);
        }
    }
}

static void gaps_doubles_and_other_answers_are_seen(void **state)
{
    static const int32_t ids[] = {1, 2, 3};
    static const int32_t other[] = {1, 9};
    struct answer a = {0};
    struct answer_news news;
    (void)state;

    assert_int_equal(answer_take(&a, 0, ids, 2, 2, &news), ANSWER_OK);
    assert_int_equal(answer_take(&a, 1, ids + 1, 1, 1, &news), ANSWER_OUT_OF_ORDER);
    assert_int_equal(answer_take(&a, 3, ids, 1, 1, &news), ANSWER_OUT_OF_ORDER);
    answer_restart(&a);
    assert_int_equal(answer_take(&a, 0, other, 2, 2, &news), ANSWER_DIFFERS);
    answer_deinit(&a);
}

static void a_quantization_has_its_names_and_no_others(void **state)
{
    (void)state;

    assert_true(quantization_known("binary") && quantization_known("takane-1bit"));
    assert_true(quantization_known("q1_0") && quantization_known("awq-8bit"));
    assert_false(quantization_known("int9") || quantization_known(""));
    assert_true(quantization_fits("takane-1bit", "binary", "Q1_0+Q8_0"));
    assert_true(quantization_fits("Q1_0", "binary", "Q1_0+Q8_0"));
    assert_false(quantization_fits("Q8_0", "binary", "Q1_0+Q8_0"));
    assert_false(quantization_fits("ternary", "binary", "Q1_0"));
    assert_false(quantization_fits("gptq-4bit", "int4", "Q4_0"));
    assert_true(quantization_fits("int4", "gptq-4bit", "Q4_0"));
    assert_true(quantization_fits("q6_k", "other", "Q6_K+F16"));
    assert_false(quantization_fits("Q4_K", "mixed", "Q4_K+Q6_K"));
    assert_true(quantization_fits("Q2_0", "ternary", "Q2_0_g128"));
    assert_false(quantization_fits("Q2_0_g128", "ternary", "Q2_0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_delivers_each_id_and_byte_once),
        cmocka_unit_test(gaps_doubles_and_other_answers_are_seen),
        cmocka_unit_test(a_quantization_has_its_names_and_no_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
