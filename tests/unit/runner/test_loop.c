/* The runner as a whole: a child process, the small model, and what comes over the seam. */
#include "tests/support/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "tests/support/runner_model.h"
#include "tests/support/runner_rig.h"
#include "tests/unit/runner/shared_model.h"

#define LOAD(number_)                                                                              \
    {                                                                                              \
        .model = number_, .name = {.data = "small", .n = 5}, .kv_bytes_max = 64u << 20,            \
        .n_streams_max = 16                                                                        \
    }

static void open_loaded(struct rig *rig, const char *program, const char *chunk)
{
    const struct seam_load load = LOAD(1);

    rig_open(rig, program, chunk);
    rig_load(rig, &load, packed, NULL);
}

/* Goal: a model is described as it is; streams share what the budget gives in blocks. */
static void a_loaded_model_is_reported_with_its_sizes(void **state)
{
    struct seam_load load = LOAD(7);
    struct seam_loaded loaded;
    struct rig rig;
    (void)state;

    rig_open(&rig, RIG_SHIPPED, NULL);
    rig_load(&rig, &load, packed, &loaded);
    assert_int_equal(loaded.n_ctx, RUNNER_MODEL_CTX);
    assert_int_equal(loaded.n_ctx_train, RUNNER_MODEL_CTX);
    assert_int_equal(loaded.n_vocab, RUNNER_MODEL_VOCAB);
    assert_int_equal(loaded.n_streams, 16);
    assert_true(loaded.chat);
    assert_true(loaded.weight_bytes > 0 && loaded.kv_bytes_per_position > 0);

    load.model = 8;
    load.kv_bytes_max = 3 * loaded.kv_bytes_per_position * RUNNER_MODEL_CTX;
    rig_load(&rig, &load, packed, &loaded);
    assert_int_equal(loaded.n_streams, 16);
    assert_int_equal(loaded.kv_block_positions, KV_BLOCK);
    assert_int_equal(loaded.kv_blocks, 3 * RUNNER_MODEL_CTX / KV_BLOCK);

    load.model = 9; /* too little for the whole context: a smaller one rather than none */
    load.kv_bytes_max = loaded.kv_bytes_per_position * 2 * KV_BLOCK;
    rig_load(&rig, &load, packed, &loaded);
    assert_int_equal(loaded.n_streams, 2); /* a block each */
    assert_int_equal(loaded.kv_blocks, 2);
    assert_int_equal(loaded.n_ctx, 2 * KV_BLOCK);
    assert_int_equal(rig_close(&rig), 0);
}

static struct seam_failed load_must_fail(struct rig *rig, const struct seam_load *load, int fd)
{
    struct seam_message m;

    rig_send_fds(rig, &(struct seam_message){.type = SEAM_LOAD, .load = *load}, &fd, 1);
    do {
        assert_true(rig_next(rig, &m));
        assert_int_not_equal(m.type, SEAM_LOADED);
    } while (m.type != SEAM_LOAD_FAILED);
    assert_int_equal(m.failed.model, load->model);
    return m.failed;
}

/* Goal: the broker learns from the answer whether packing anew can help. */
static void a_load_that_cannot_be_is_refused_by_kind(void **state)
{
    struct seam_load load = LOAD(1);
    struct seam_failed failed;
    char said[96];
    struct rig rig;
    (void)state;
    const int garbage = memfd_create("garbage", MFD_CLOEXEC);

    assert_int_equal(ftruncate(garbage, 8192), 0);
    rig_open(&rig, RIG_SHIPPED, NULL);
    failed = load_must_fail(&rig, &load, garbage);
    assert_int_equal(failed.code, ERR_MODEL_MALFORMED);
    assert_true(strview_starts(failed.message, "packed: "));

    load.n_ctx = 512;
    load.kv_bytes_max = 1000;
    failed = load_must_fail(&rig, &load, packed);
    assert_int_equal(failed.code, ERR_MODEL_TOO_BIG);
    assert_true(failed.have > 1000);
    assert_int_equal(failed.limit, 1000);

    load.n_ctx = RUNNER_MODEL_CTX + 1; /* whatever the memory */
    failed = load_must_fail(&rig, &load, packed);
    assert_int_equal(failed.code, ERR_MODEL_UNSUPPORTED);
    assert_int_equal(failed.have, RUNNER_MODEL_CTX + 1);
    assert_int_equal(failed.limit, RUNNER_MODEL_CTX);
    (void)snprintf(said, sizeof(said), "n_ctx is set to %u, and the model has %u positions",
                   RUNNER_MODEL_CTX + 1, RUNNER_MODEL_CTX);
    assert_true(strview_starts(failed.message, said));
    load.n_ctx = 512;

    load.chat_template = strview_of("no-such-template");
    failed = load_must_fail(&rig, &load, packed);
    assert_int_equal(failed.code, ERR_INTERNAL);
    load.chat_template = (struct strview){0};
    load.kv = strview_of("q4");
    failed = load_must_fail(&rig, &load, packed);
    assert_int_equal(failed.code, ERR_INTERNAL);
    load.kv = (struct strview){0};

    load.kv_bytes_max = 64u << 20; /* and the number is free again after each failure */
    rig_load(&rig, &load, packed, NULL);
    failed = load_must_fail(&rig, &load, packed);
    assert_int_equal(failed.code, ERR_INTERNAL);
    assert_int_equal(rig_close(&rig), 0);
    (void)close(garbage);
}

/* Goal: nothing between the seam and the engine changes an answer.
 * Method: the same requests through the runner and straight through the engine; the runner cuts the
 * prompt into pieces of seven tokens. */
static void an_answer_equals_the_engines_own(void **state)
{
    static struct rig_answer got, want;
    struct rig rig;
    (void)state;

    open_loaded(&rig, RIG_SHIPPED, "7");
    for (unsigned i = 0; i < 3; i++) {
        struct rig_request q =
            rig_prompt(i + 1, 1, "turn on the lights in the kitchen, then the garden", 80);
        if (i == 1) {
            q.generate.temperature = 0;
        } else if (i == 2) {
            q.generate.has_top_k = q.generate.has_repeat_penalty = true;
            q.generate.top_k = 20;
            q.generate.repeat_penalty = 1.3f;
        }
        rig_ask(&rig, &q, &got);
        rig_direct(packed, KV_F16, &q, &want);
        assert_int_equal(got.n, 80);
        assert_true(got.n_prefill > 0);
        rig_assert_same(&got, &want);
    }
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: an end token ends an answer, is no part of it, and is an ordinary one with ignore_eos.
 * Method: seeds until the engine's own answer ends early. */
static void an_end_token_ends_the_answer(void **state)
{
    static struct rig_answer got, want;
    struct rig rig;
    bool ended = false;
    (void)state;

    open_loaded(&rig, RIG_SHIPPED, NULL);
    for (unsigned i = 1; i < 100 && !ended; i++) {
        struct rig_request q = rig_prompt(i, 1, "hello", 300);
        q.generate.ignore_eos = false;
        rig_direct(packed, KV_F16, &q, &want);
        ended = strcmp(want.reason, "stop") == 0;
        if (ended) {
            rig_ask(&rig, &q, &got);
            rig_assert_same(&got, &want);
            q.seq = 1000;
            q.generate.ignore_eos = true;
            rig_ask(&rig, &q, &got);
            assert_int_equal(got.n, 300);
            assert_true(got.ids[want.n] >= RUNNER_MODEL_END);
        }
    }
    assert_true(ended);
    assert_int_equal(rig_close(&rig), 0);
}

/* Where in a text, past its beginning, two ASCII bytes stand side by side. */
static size_t plain_pair(const struct rig_answer *a)
{
    for (size_t i = 20; i + 1 < a->text_n; i++) {
        if ((a->text[i] & 0x80) == 0 && (a->text[i + 1] & 0x80) == 0) {
            return i;
        }
    }
    fail_msg("the model writes no plain text");
    return 0;
}

/* Goal: the text ends before a stop string, wherever the tokens cut it.
 * Method: stop at two bytes that a free run is known to write. */
static void a_stop_string_ends_the_answer_before_it(void **state)
{
    static struct rig_answer whole, got, want;
    struct rig_request q = rig_prompt(1, 1, "hello", 200);
    struct rig rig;
    (void)state;

    open_loaded(&rig, RIG_SHIPPED, NULL);
    rig_ask(&rig, &q, &whole);
    const size_t at = plain_pair(&whole);
    q.seq = 2;
    q.generate.stops[0] = (struct strview){.data = whole.text + at, .n = 2};
    q.generate.n_stops = 1;
    rig_ask(&rig, &q, &got);
    rig_direct(packed, KV_F16, &q, &want);
    rig_assert_same(&got, &want);
    assert_string_equal(got.reason, "stop_string");
    assert_true(got.text_n <= at);
    assert_memory_equal(got.text, whole.text, got.text_n);
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: log-probabilities come for each token, and asking for them changes no token. */
static void log_probabilities_come_with_each_token(void **state)
{
    static struct rig_answer got, want;
    struct rig_request q = rig_prompt(1, 1, "hello", 40);
    const int32_t resume[] = {1, 2, 3}; /* computed anew instead, so that theirs are known too */
    struct rig rig;
    (void)state;

    open_loaded(&rig, RIG_SHIPPED, NULL);
    rig_direct(packed, KV_F16, &q, &want);
    q.generate.n_logprobs = 5;
    q.resume = resume;
    q.n_resume = 3;
    rig_ask(&rig, &q, &got);
    rig_assert_same(&got, &want);
    assert_int_equal(got.n_logprobs, 40);
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: a request that went through a restart gives the answer it would have given.
 * Method: the whole answer once; then again from each of its prefixes, stop strings included. */
static void an_answer_continues_the_same_from_every_token(void **state)
{
    static struct rig_answer want, got;
    struct rig_request q = rig_prompt(1, 1, "what is the weather", 40);
    struct rig rig;
    (void)state;

    open_loaded(&rig, RIG_SHIPPED, "16");
    q.generate.stops[0] = strview_of("\x01\x02never");
    q.generate.n_stops = 1;
    rig_direct(packed, KV_F16, &q, &want);
    for (size_t k = 0; k <= want.n; k++) {
        q.seq = 100 + k;
        q.resume = want.ids;
        q.n_resume = k;
        rig_ask(&rig, &q, &got);
        rig_assert_same(&got, &want);
    }
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: a long answer is replayed in several reports, to the same effect. */
static void a_long_answer_continues_the_same_too(void **state)
{
    static const size_t at[] = {255, 256, 257, 400, 450};
    static struct rig_answer want, got;
    struct rig_request q = rig_prompt(1, 1, "on and on", 450);
    struct rig rig;
    (void)state;

    open_loaded(&rig, RIG_SHIPPED, NULL);
    rig_direct(packed, KV_F16, &q, &want);
    for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
        q.seq = 100 + i;
        q.resume = want.ids;
        q.n_resume = at[i];
        rig_ask(&rig, &q, &got);
        rig_assert_same(&got, &want);
    }
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: the counts that the broker charges and shows are those of the work done. */
static void the_statistics_count_the_work(void **state)
{
    static struct rig_answer a;
    struct rig_request q = rig_prompt(1, 1, "hello", 25);
    struct seam_message m;
    struct rig rig;
    (void)state;

    open_loaded(&rig, RIG_SHIPPED, NULL);
    rig_ask(&rig, &q, &a);
    do { /* told at the latest when there is nothing left to do */
        assert_true(rig_next(&rig, &m));
    } while (m.type != SEAM_STATS || m.stats.n_sequences > 0);
    assert_int_equal(m.stats.tokens, 25);
    assert_int_equal(m.stats.prompt_tokens, strlen("hello"));
    assert_int_equal(m.stats.steps, 25);
    assert_int_equal(m.stats.kv_bytes_used, 0);
    assert_true(m.stats.kv_bytes_total > 0 && m.stats.weight_bytes > 0);
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: an answer that had ended by a stop string, unreported, ends there again without a step. */
static void a_replay_may_end_the_answer(void **state)
{
    static struct rig_answer whole, want, got;
    struct rig_request q = rig_prompt(1, 1, "hello", 200);
    struct rig rig;
    (void)state;

    open_loaded(&rig, RIG_SHIPPED, NULL);
    rig_ask(&rig, &q, &whole);
    q.generate.stops[0] = (struct strview){.data = whole.text + plain_pair(&whole), .n = 2};
    q.generate.n_stops = 1;
    rig_direct(packed, KV_F16, &q, &want);
    assert_string_equal(want.reason, "stop_string");
    q.seq = 2;
    q.resume = want.ids;
    q.n_resume = want.n;
    memset(&got, 0, sizeof(got));
    got.seq = 2;
    rig_start(&rig, &q); /* and no plan names it */
    rig_finish(&rig, &got, 1);
    rig_assert_same(&got, &want);
    assert_int_equal(rig_close(&rig), 0);
}

static void take_until_tokens(struct rig *rig, struct rig_answer *answers, size_t n_answers,
                              size_t which, size_t n)
{
    while (answers[which].n < n) {
        assert_int_not_equal(rig_take(rig, answers, n_answers), SEAM_TYPES);
    }
}

/* Goal: a sequence that no plan names stands still and later goes on as if nothing had been.
 * Method: let A speak, run B alone to its end, count what A said meanwhile, let A finish. */
static void a_paused_sequence_goes_on_unchanged(void **state)
{
    static struct rig_answer a[2], want[2];
    const uint64_t first = 1, second = 2;
    struct rig_request q[2] = {rig_prompt(1, 1, "@@sleep-ms-5-per-step@@ A", 60),
                               rig_prompt(2, 1, "B", 30)};
    struct rig rig;
    (void)state;

    open_loaded(&rig, RIG_HOOKED, NULL);
    memset(a, 0, sizeof(a));
    a[0].seq = 1;
    a[1].seq = 2;
    rig_start(&rig, &q[0]);
    rig_plan(&rig, &first, 1);
    take_until_tokens(&rig, a, 2, 0, 3);
    rig_start(&rig, &q[1]);
    rig_plan(&rig, &second, 1);
    take_until_tokens(&rig, a, 2, 1, 1); /* the plan is in force */
    const size_t n = a[0].n;
    while (!a[1].over) {
        assert_int_not_equal(rig_take(&rig, a, 2), SEAM_TYPES);
    }
    assert_int_equal(a[0].n, n);
    assert_false(a[0].over);
    rig_plan(&rig, &first, 1);
    rig_finish(&rig, a, 2);
    for (unsigned i = 0; i < 2; i++) {
        rig_direct(packed, KV_F16, &q[i], &want[i]);
        rig_assert_same(&a[i], &want[i]);
    }
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: a cancelled sequence says nothing more and gives its memory back.
 * Method: a pool of 160 positions; the second request would run out of them were the first still
 * there. */
static void a_cancelled_sequence_is_forgotten_at_once(void **state)
{
    static struct rig_answer a[2], want;
    struct seam_load load = LOAD(1);
    const uint64_t first = 1, second = 2;
    struct rig_request q[2] = {rig_prompt(1, 1, "@@sleep-ms-5-per-step@@ A", 120),
                               rig_prompt(2, 1, "B", 150)};
    struct seam_loaded loaded;
    struct rig rig;
    (void)state;

    rig_open(&rig, RIG_HOOKED, NULL);
    rig_load(&rig, &load, packed, &loaded);
    load.model = 2;
    load.kv_bytes_max = loaded.kv_bytes_per_position * 5 * KV_BLOCK;
    rig_load(&rig, &load, packed, &loaded);
    assert_int_equal(loaded.n_ctx, 5 * KV_BLOCK);
    q[0].model = q[1].model = 2;
    memset(a, 0, sizeof(a));
    a[0].seq = 1;
    a[1].seq = 2;
    rig_start(&rig, &q[0]);
    rig_plan(&rig, &first, 1);
    take_until_tokens(&rig, a, 2, 0, 2);
    rig_cancel(&rig, 1);
    rig_start(&rig, &q[1]);
    rig_plan(&rig, &second, 1);
    while (!a[1].started) {
        assert_int_not_equal(rig_take(&rig, a, 2), SEAM_TYPES);
    }
    a[0].over = true; /* from here any report of it fails the test */
    rig_finish(&rig, a, 2);
    rig_direct(packed, KV_F16, &q[1], &want);
    rig_assert_same(&a[1], &want);
    rig_cancel(&rig, 99); /* one that never was */
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: company changes nothing. Method: eight prompts, seeds and lengths at once, over small
 * steps, each against its own solo answer. */
static void eight_at_once_each_equal_their_solo_answer(void **state)
{
    static const char *const prompts[] = {"one",
                                          "turn on the lamp",
                                          "th",
                                          "on and on and on",
                                          "what time is it in the kitchen?",
                                          "7",
                                          "lights off",
                                          "a longer prompt that takes more than one step to read"};
    static struct rig_answer got[8], want;
    struct rig_request q[8];
    uint64_t run[8];
    struct rig rig;
    (void)state;

    open_loaded(&rig, RIG_SHIPPED, "16");
    memset(got, 0, sizeof(got));
    for (unsigned i = 0; i < 8; i++) {
        q[i] = rig_prompt(i + 1, 1, prompts[i], 50 + 10 * i);
        got[i].seq = run[i] = i + 1;
        rig_start(&rig, &q[i]);
    }
    rig_plan(&rig, run, 8);
    rig_finish(&rig, got, 8);
    for (unsigned i = 0; i < 8; i++) {
        rig_direct(packed, KV_F16, &q[i], &want);
        rig_assert_same(&got[i], &want);
    }
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: two resident models take turns and do not mix; one has int8 KV. */
static void two_models_serve_side_by_side(void **state)
{
    static struct rig_answer got[2], want;
    struct seam_load load = LOAD(2);
    struct rig_request q[2] = {rig_prompt(1, 1, "hello", 60), rig_prompt(2, 2, "hello", 60)};
    const uint64_t run[] = {1, 2};
    struct rig rig;
    (void)state;

    open_loaded(&rig, RIG_SHIPPED, NULL);
    load.kv = strview_of("int8");
    rig_load(&rig, &load, packed, NULL);
    memset(got, 0, sizeof(got));
    for (unsigned i = 0; i < 2; i++) {
        got[i].seq = run[i];
        rig_start(&rig, &q[i]);
    }
    rig_plan(&rig, run, 2);
    rig_finish(&rig, got, 2);
    for (unsigned i = 0; i < 2; i++) {
        rig_direct(packed, i == 1 ? KV_I8 : KV_F16, &q[i], &want);
        rig_assert_same(&got[i], &want);
    }
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: a dropped model is gone and its number free. */
static void a_dropped_model_can_be_loaded_again(void **state)
{
    static struct rig_answer a;
    const struct seam_load load = LOAD(1);
    struct rig_request q = rig_prompt(1, 1, "hello", 5);
    struct rig rig;
    (void)state;

    open_loaded(&rig, RIG_SHIPPED, NULL);
    rig_send(&rig, &(struct seam_message){.type = SEAM_DROP, .drop = 1}, NULL, 0);
    rig_ask(&rig, &q, &a);
    assert_int_equal(a.failed, ERR_NO_MODEL);
    rig_load(&rig, &load, packed, NULL);
    q.seq = 2;
    rig_ask(&rig, &q, &a);
    assert_int_equal(a.failed, ERR_NONE);
    assert_int_equal(a.n, 5);
    assert_int_equal(rig_close(&rig), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loaded_model_is_reported_with_its_sizes),
        cmocka_unit_test(a_load_that_cannot_be_is_refused_by_kind),
        cmocka_unit_test(an_answer_equals_the_engines_own),
        cmocka_unit_test(an_end_token_ends_the_answer),
        cmocka_unit_test(a_stop_string_ends_the_answer_before_it),
        cmocka_unit_test(log_probabilities_come_with_each_token),
        cmocka_unit_test(an_answer_continues_the_same_from_every_token),
        cmocka_unit_test(a_long_answer_continues_the_same_too),
        cmocka_unit_test(the_statistics_count_the_work),
        cmocka_unit_test(a_replay_may_end_the_answer),
        cmocka_unit_test(a_paused_sequence_goes_on_unchanged),
        cmocka_unit_test(a_cancelled_sequence_is_forgotten_at_once),
        cmocka_unit_test(eight_at_once_each_equal_their_solo_answer),
        cmocka_unit_test(two_models_serve_side_by_side),
        cmocka_unit_test(a_dropped_model_can_be_loaded_again),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
