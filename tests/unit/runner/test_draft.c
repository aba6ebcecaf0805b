/* Guesses at next tokens: no answer depends on them, nor on where in a run of right ones it
 * ends. */
#include "tests/support/test.h"

#include <string.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "tests/support/runner_model.h"
#include "tests/support/runner_rig.h"
#include "tests/unit/runner/shared_model.h"

#define PROMPT "the kitchen lamp and the hall lamp and the kitchen lamp and the hall lamp and the"
#define N_COMPANY 8u

/* A runner that guesses, with room for sixteen tokens in a step: as a measurement would have it. */
static void open_guessing(struct rig *rig, const char *program, uint32_t drafts, uint32_t n_ctx)
{
    const struct engine_options options = {
        .cpu = cpu_level_best(), .n_threads = 2, .n_threads_most = 2};
    const struct tuning room = {.n_generate = 2, .n_prompt = 2, .n_streams = 16};
    uint8_t record[TUNING_BYTES];
    struct engine *engine = NULL;

    assert_int_equal(engine_new(&engine, &options), 0);
    tuning_write(&room, engine, record);
    engine_free(engine);
    const struct seam_load load = {.model = 1,
                                   .kv_bytes_max = 64u << 20,
                                   .n_streams_max = 16,
                                   .n_ctx = n_ctx,
                                   .draft_tokens = drafts,
                                   .tune = true,
                                   .tuning = {.data = (const char *)record, .n = sizeof(record)}};
    rig_open(rig, program, NULL);
    rig_load(rig, &load, packed, NULL);
}

static struct seam_stats stats_of(struct rig *rig)
{
    struct seam_message m;

    do {
        assert_true(rig_next(rig, &m));
    } while (m.type != SEAM_STATS || m.stats.n_sequences > 0);
    return m.stats;
}

/* Requests whose answers loop, or do not, or have chance in them. */
static struct rig_request request_of(uint64_t seq, float temperature, uint32_t max_tokens)
{
    struct rig_request r = rig_prompt(seq, 1, PROMPT, max_tokens);

    r.generate.temperature = temperature;
    r.seed = 77 + seq % 10;
    return r;
}

/* Goal: the same texts with and without guesses. Method: greedy and at three temperatures, with
 * guesses of several lengths, against the engine alone, which makes none; the counters say that
 * guesses were made, and of the greedy ones, which loop, that some were right. */
static void an_answer_is_the_same_with_guesses(void **state)
{
    static const float temperatures[] = {0, 0.2f, 0.7f, 1.5f};
    static const uint32_t lengths[] = {1, 4, 15, 16};
    static struct rig_answer want, got;
    (void)state;

    for (size_t k = 0; k < ARRAY_SIZE(lengths); k++) {
        struct rig rig;
        open_guessing(&rig, RIG_SHIPPED, lengths[k], 0);
        for (size_t i = 0; i < ARRAY_SIZE(temperatures); i++) {
            struct rig_request r = request_of(10 + i, temperatures[i], 100);
            if (i == 1) {
                r.generate.has_repeat_penalty = true;
                r.generate.repeat_penalty = 1.1f;
            } else if (i == 2) {
                r.generate.has_top_k = true;
                r.generate.top_k = 5;
            }
            rig_direct(packed, KV_F16, &r, &want);
            rig_ask(&rig, &r, &got);
            rig_assert_same(&got, &want);
            const struct seam_stats st = stats_of(&rig);
            assert_true(st.accepted <= st.drafted);
            if (i == 0) {
                assert_true(st.accepted > 0);
            }
        }
        assert_int_equal(rig_close(&rig), 0);
    }
}

/* Goal: guesses of several sequences in one step disturb nobody. Method: eight at once, greedy and
 * with chance, of lengths of their own, each against its answer alone. */
static void eight_with_guesses_each_equal_their_solo_answer(void **state)
{
    static struct rig_answer want, got[N_COMPANY];
    struct rig_request r[N_COMPANY];
    uint64_t run[N_COMPANY];
    struct rig rig;
    (void)state;

    open_guessing(&rig, RIG_SHIPPED, 4, 0);
    for (size_t i = 0; i < N_COMPANY; i++) {
        r[i] = request_of(20 + i, i % 2 ? 0 : 0.5f, (uint32_t)(20 + 9 * i));
        run[i] = r[i].seq;
        got[i] = (struct rig_answer){.seq = r[i].seq};
        rig_start(&rig, &r[i]);
    }
    rig_plan(&rig, run, N_COMPANY);
    rig_finish(&rig, got, N_COMPANY);
    for (size_t i = 0; i < N_COMPANY; i++) {
        rig_direct(packed, KV_F16, &r[i], &want);
        rig_assert_same(&got[i], &want);
    }
    assert_true(stats_of(&rig).accepted > 0);
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: an answer ends where it ends without guesses: by its length, wherever in a run of right
 * guesses that falls. Method: every length up to forty, one after the other, of an answer that
 * loops. */
static void max_tokens_may_fall_inside_a_run(void **state)
{
    static struct rig_answer want, got;
    struct rig rig;
    (void)state;

    open_guessing(&rig, RIG_SHIPPED, 8, 0);
    const struct rig_request longest = request_of(1, 0, 40);
    rig_direct(packed, KV_F16, &longest, &want);
    for (uint32_t n = 1; n <= 40; n++) {
        const struct rig_request r = request_of(100 + n, 0, n);
        rig_ask(&rig, &r, &got);
        assert_int_equal(got.n, n);
        assert_memory_equal(got.ids, want.ids, n * sizeof(want.ids[0]));
        assert_string_equal(got.reason, "length");
    }
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: the same for stop strings. Method: each piece of the answer that loops, three bytes long,
 * is a stop string once. */
static void a_stop_string_may_end_inside_a_run(void **state)
{
    static struct rig_answer whole, want, got;
    const struct rig_request all = request_of(1, 0, 60);
    unsigned n_stopped = 0;
    struct rig rig;
    (void)state;

    rig_direct(packed, KV_F16, &all, &whole);
    open_guessing(&rig, RIG_SHIPPED, 8, 0);
    for (size_t at = 0; at + 3 <= whole.text_n && at < 90; at += 3) {
        struct rig_request r = request_of(200 + at, 0, 60);
        bool plain = true;
        for (size_t i = 0; i < 3; i++) {
            plain = plain && (unsigned char)whole.text[at + i] < 0x80;
        }
        if (!plain) {
            continue; /* a stop string is whole characters */
        }
        r.seed = all.seed;
        r.generate.stops[0] = (struct strview){.data = whole.text + at, .n = 3};
        r.generate.n_stops = 1;
        rig_direct(packed, KV_F16, &r, &want);
        rig_ask(&rig, &r, &got);
        rig_assert_same(&got, &want);
        n_stopped += strcmp(got.reason, "stop_string") == 0;
    }
    assert_true(n_stopped > 0);
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: the same for tokens that end an answer, and for the KV that one leaves to the next. Method:
 * answers that may end by themselves, with chance, kept under a salt; each is asked twice, and has
 * then found its own prompt. */
static void an_end_token_may_come_inside_a_run(void **state)
{
    static struct rig_answer want, got;
    unsigned n_ended = 0, n_found = 0;
    struct rig rig;
    (void)state;

    open_guessing(&rig, RIG_SHIPPED, 8, 0);
    for (uint64_t i = 0; i < 40; i++) {
        struct rig_request r = request_of(300 + i, i % 3 ? 1.5f : 0, 60);
        r.seed = 1000 + i / 2;
        r.generate.ignore_eos = false;
        r.salt = 5;
        rig_direct(packed, KV_F16, &r, &want);
        rig_ask(&rig, &r, &got);
        rig_assert_same(&got, &want);
        n_ended += strcmp(got.reason, "stop") == 0;
        n_found += got.cached_tokens > 0;
    }
    assert_true(n_ended > 0 && n_found > 0);
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: at the end of the context guesses make room. Method: a prompt and an answer that fill it to
 * the last position. */
static void an_answer_may_fill_the_context(void **state)
{
    static struct rig_answer want, got;
    struct rig rig;
    (void)state;

    open_guessing(&rig, RIG_SHIPPED, 16, 0);
    const struct rig_request probe = request_of(1, 0, 1);
    rig_ask(&rig, &probe, &got);
    const uint32_t left = RUNNER_MODEL_CTX - got.prompt_tokens;
    const struct rig_request r = request_of(2, 0, left);
    rig_direct(packed, KV_F16, &r, &want);
    rig_ask(&rig, &r, &got);
    rig_assert_same(&got, &want);
    assert_int_equal(got.n, left);
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: what is cancelled amid guesses is gone, and nobody else notices. Method: one of two is
 * cancelled after some tokens, again and again; its last reports may come late. */
static void a_cancel_amid_guesses_forgets_one_alone(void **state)
{
    enum { ROUNDS = 10 };
    static struct rig_answer want, got[2 * ROUNDS];
    struct rig rig;
    (void)state;

    open_guessing(&rig, RIG_SHIPPED, 6, 0);
    for (size_t round = 0; round < ROUNDS; round++) {
        const struct rig_request stays = request_of(400 + 10 * round, 0, 80);
        const struct rig_request goes = request_of(401 + 10 * round, 0, 100);
        const uint64_t run[] = {goes.seq, stays.seq};
        struct rig_answer *a = &got[2 * round], *b = a + 1;
        *a = (struct rig_answer){.seq = stays.seq};
        *b = (struct rig_answer){.seq = goes.seq};
        rig_start(&rig, &stays);
        rig_start(&rig, &goes);
        rig_plan(&rig, run, 2);
        while (b->n < 3 * round + 1 && !b->over) {
            (void)rig_take(&rig, got, 2 * round + 2);
        }
        rig_cancel(&rig, goes.seq);
        while (!a->over) {
            (void)rig_take(&rig, got, 2 * round + 2);
        }
        rig_direct(packed, KV_F16, &stays, &want);
        rig_assert_same(a, &want);
    }
    assert_int_equal(stats_of(&rig).n_sequences, 0);
    assert_int_equal(rig_close(&rig), 0);
}

/* Goal: an answer that was cut by a restart goes on as before, with guesses or without. */
static void a_continued_answer_is_the_same(void **state)
{
    static struct rig_answer want, got;
    struct rig rig;
    (void)state;

    open_guessing(&rig, RIG_SHIPPED, 8, 0);
    struct rig_request r = request_of(500, 0.2f, 60);
    rig_direct(packed, KV_F16, &r, &want);
    for (size_t n = 0; n < 60; n += 7) {
        r.seq = 501 + n;
        r.resume = want.ids;
        r.n_resume = n;
        rig_ask(&rig, &r, &got);
        rig_assert_same(&got, &want);
    }
    assert_int_equal(rig_close(&rig), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_the_same_with_guesses),
        cmocka_unit_test(eight_with_guesses_each_equal_their_solo_answer),
        cmocka_unit_test(max_tokens_may_fall_inside_a_run),
        cmocka_unit_test(a_stop_string_may_end_inside_a_run),
        cmocka_unit_test(an_end_token_may_come_inside_a_run),
        cmocka_unit_test(an_answer_may_fill_the_context),
        cmocka_unit_test(a_cancel_amid_guesses_forgets_one_alone),
        cmocka_unit_test(a_continued_answer_is_the_same),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
