#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "tests/unit/train/toy.h"
#include "train/loop/prompt.h"

/* Goal: what is trained is what will be asked. Method: a row's tokens are those of the prompt as
 * the chat template writes it, then the answer's, then the end; only the answer and the end count,
 * or the prompt as well with its weight. */
static void a_row_is_a_prompt_an_answer_and_an_end(void **state)
{
    static const char prompt[] = "<|im_start|>user\nturn on the fan in the hall<|im_end|>\n"
                                 "<|im_start|>assistant\n";
    static const char answer[] = "{'do':'on','hall':'fan'}";
    static const char row[] =
        "{\"prompt\":\"turn on the fan in the hall\",\"answer\":\"{'do':'on','hall':'fan'}\"}";
    const uint32_t order[] = {0, 0};
    struct batch b = {0};
    struct data *d = NULL;
    struct toy toy;
    int32_t want[96];
    size_t n_prompt = 0, n_answer = 0;

    toy_init(&toy, 32, NET_W_BINARY, NET_A_INT8);
    const struct vocab *v = toy.vocabulary.vocab;
    assert_int_equal(
        vocab_tokenize(v, prompt, strlen(prompt), TOKENIZE_SPECIAL, want, 96, &n_prompt), 0);
    assert_int_equal(
        vocab_tokenize(v, answer, strlen(answer), 0, want + n_prompt, 96 - n_prompt, &n_answer), 0);
    want[n_prompt + n_answer] = toy.vocabulary.end;
    const size_t n = n_prompt + n_answer + 1;

    assert_int_equal(data_new(&d, &toy.vocabulary, 96), 0);
    assert_int_equal(data_add(d, row, strlen(row), false, NULL), DATA_OK);
    assert_int_equal(data_tokens(d), n);
    assert_int_equal(batch_fill(&b, d, order, 2, 0.25f), 0);
    assert_int_equal(b.n_rows, 2);
    assert_true(b.begin[0] == 0 && b.begin[1] == n && b.begin[2] == 2 * n);
    assert_memory_equal(b.tokens, want, n * sizeof(*want));
    assert_memory_equal(b.tokens + n, want, n * sizeof(*want));
    for (size_t i = 0; i < n; i++) {
        assert_true(b.mask[n + i] == (i < n_prompt ? 0.25f : 1));
    }
    assert_true(b.weight == 2 * ((double)(n_prompt - 1) * 0.25 + (double)n_answer + 1));
    batch_deinit(&b);
    data_free(d);
    toy_deinit(&toy);
}

static void rows_that_do_not_fit_are_refused_or_counted(void **state)
{
    static const char rows[] = "{\"prompt\":\"on\",\"answer\":\"x\"}\n\n"
                               "{\"prompt\":\"on on on on on on on on on\",\"answer\":\"x\"}\n"
                               "{\"prompt\":\"on\",\"answer\":\"x on on on on on on on on\"}\n";
    struct diag diag = {0};
    struct data *d = NULL;
    struct toy toy;

    toy_init(&toy, 32, NET_W_BINARY, NET_A_INT8);
    assert_int_equal(data_new(&d, &toy.vocabulary, 26), 0);
    assert_int_equal(data_add(d, rows, strlen(rows), false, &diag), DATA_MALFORMED);
    assert_string_equal(diag.text, "line 3: has more tokens than the context");
    data_free(d);
    assert_int_equal(data_new(&d, &toy.vocabulary, 26), 0);
    assert_int_equal(data_add(d, rows, strlen(rows), true, NULL), DATA_OK);
    assert_int_equal(data_rows(d), 1);
    assert_int_equal(data_skipped(d), 2);
    assert_int_equal(data_add(d, "{}", 2, true, &diag), DATA_MALFORMED);
    data_free(d);
    data_free(NULL);
    toy_deinit(&toy);
}

static void the_hash_is_of_the_bytes_in_their_order(void **state)
{
    static const char one[] = "{\"prompt\":\"a\",\"answer\":\"b\"}\n";
    static const char two[] = "{\"prompt\":\"c\",\"answer\":\"d\"}\n";
    struct data *d[3] = {NULL};
    struct toy toy;

    toy_init(&toy, 32, NET_W_BINARY, NET_A_INT8);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(data_new(&d[i], &toy.vocabulary, 64), 0);
        assert_int_equal(data_add(d[i], i == 1 ? two : one, strlen(one), false, NULL), 0);
        assert_int_equal(data_add(d[i], i == 1 ? one : two, strlen(one), false, NULL), 0);
    }
    assert_true(data_hash(d[0]) == data_hash(d[2]) && data_hash(d[0]) != data_hash(d[1]));
    for (size_t i = 0; i < 3; i++) {
        data_free(d[i]);
    }
    toy_deinit(&toy);
}

/* Goal: every pass sees every row once, in an order that the seed decides, and a resumed training
 * takes up where it stood. Method: passes and pieces against one long take. */
static void every_pass_has_each_row_once_in_an_order_of_its_own(void **state)
{
    enum { ROWS = 101, PASSES = 3 };
    uint32_t all[ROWS * PASSES], other[ROWS * PASSES], piece[7];
    struct order o;

    assert_int_equal(order_init(&o, 5, ROWS), 0);
    order_take(&o, 0, ROWS * PASSES, all);
    for (size_t p = 0; p < PASSES; p++) {
        bool seen[ROWS] = {false};
        for (size_t i = 0; i < ROWS; i++) {
            assert_true(all[p * ROWS + i] < ROWS && !seen[all[p * ROWS + i]]);
            seen[all[p * ROWS + i]] = true;
        }
    }
    assert_memory_not_equal(all, all + ROWS, ROWS * sizeof(*all));
    order_deinit(&o);

    assert_int_equal(order_init(&o, 5, ROWS), 0);
    for (size_t at = 98; at + 7 < ROWS * PASSES; at += 7) {
        order_take(&o, at, 7, piece);
        assert_memory_equal(piece, all + at, sizeof(piece));
    }
    order_deinit(&o);
    assert_int_equal(order_init(&o, 6, ROWS), 0);
    order_take(&o, 0, ROWS, other);
    assert_memory_not_equal(all, other, ROWS * sizeof(*all));
    order_deinit(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_is_a_prompt_an_answer_and_an_end),
        cmocka_unit_test(rows_that_do_not_fit_are_refused_or_counted),
        cmocka_unit_test(the_hash_is_of_the_bytes_in_their_order),
        cmocka_unit_test(every_pass_has_each_row_once_in_an_order_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
