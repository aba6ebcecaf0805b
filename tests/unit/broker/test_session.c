#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/broker/session.h"

#define NOW UINT64_C(1800000000)

static const struct session_limits roomy = {
    .count = 8, .bytes = 1 << 20, .total_bytes = 4 << 20, .age_s = 86400};

static struct msg_chat_message message(const char *role, const char *content)
{
    return (struct msg_chat_message){.role = strview_of(role), .content = strview_of(content)};
}

/* A request with one new message. Static: it is some 9 KiB. */
static struct msg_generate *ask(const char *content)
{
    static struct msg_generate g;

    g = (struct msg_generate){.kind = PROMPT_CHAT, .has_session = true, .n_messages = 1};
    g.session = strview_of("chat");
    g.messages[0] = message("user", content);
    return &g;
}

static const int32_t prompt_ids[] = {1, 2, 3}, answer_ids[] = {4, 5};

static struct session_outcome outcome(const struct msg_generate *composed, const char *answer)
{
    return (struct session_outcome){
        .messages = composed->messages,
        .n_messages = composed->n_messages,
        .answer = strview_of(answer),
        .prompt_ids = prompt_ids,
        .n_prompt_ids = ARRAY_SIZE(prompt_ids),
        .answer_ids = answer_ids,
        .n_answer_ids = ARRAY_SIZE(answer_ids),
        .whole = true,
        .model = "m",
        .quantization = "binary",
        .formats = "Q1_0+Q8_0",
        .mark = 7,
    };
}

/* One turn that goes well. */
static void turn(struct session *s, const struct msg_generate *asked, const char *answer)
{
    static struct msg_generate composed;
    struct session_counts counts;
    size_t dropped = 99;

    assert_int_equal(session_compose(s, asked, &composed, &dropped, &counts), SESSION_FITS);
    struct session_outcome o = outcome(&composed, answer);
    o.n_dropped = dropped;
    assert_int_equal(session_commit(s, &o, NOW), 0);
}

static void expect(const struct session *s, size_t i, const char *role, const char *content)
{
    assert_true(i < s->n_messages);
    assert_true(strview_is(s->messages[i].role, role));
    assert_true(strview_is(s->messages[i].content, content));
}

/* Goal: the history is what was said, in order, and the ids are those of the last turn. */
static void a_turn_joins_the_history_with_its_ids(void **state)
{
    struct session *s = session_new(1000, strview_of("chat"), NOW);
    (void)state;

    session_pin(s, ask("one"));
    turn(s, ask("one"), "first");
    turn(s, ask("two"), "second");
    assert_int_equal(s->n_messages, 4);
    expect(s, 0, "user", "one");
    expect(s, 1, "assistant", "first");
    expect(s, 2, "user", "two");
    expect(s, 3, "assistant", "second");
    assert_int_equal(s->n_ids, 5);
    assert_int_equal(s->n_covered, 4);
    assert_int_equal(s->ids[3], 4);
    assert_int_equal(s->mark, 7);
    assert_string_equal(s->pins.model, "m");
    session_free(s);
}

/* Goal: ids that say more than the text are not taken, and older ones stay good as far as they go,
 * unless something was left out or the model is another one. */
static void ids_of_an_answer_that_was_cut_are_not_kept(void **state)
{
    static struct msg_generate composed;
    struct session *s = session_new(1000, strview_of("chat"), NOW);
    struct session_counts counts;
    size_t dropped;
    (void)state;

    session_pin(s, ask("one"));
    turn(s, ask("one"), "first");
    assert_int_equal(session_compose(s, ask("two"), &composed, &dropped, &counts), SESSION_FITS);
    struct session_outcome o = outcome(&composed, "sec");
    o.whole = false;
    assert_int_equal(session_commit(s, &o, NOW), 0);
    assert_int_equal(s->n_covered, 2);
    assert_int_equal(s->n_ids, 5);
    assert_int_equal(s->n_messages, 4);

    assert_int_equal(session_compose(s, ask("three"), &composed, &dropped, &counts), SESSION_FITS);
    o = outcome(&composed, "third");
    o.whole = false;
    o.mark = 8;
    assert_int_equal(session_commit(s, &o, NOW), 0);
    assert_int_equal(s->n_ids, 0);
    assert_int_equal(s->n_covered, 0);
    session_free(s);
}

/* Goal: what the engine left out is left out for good, and a system message stays. */
static void what_the_engine_trims_leaves_the_history(void **state)
{
    static struct msg_generate composed, first;
    struct session *s = session_new(1000, strview_of("chat"), NOW);
    struct session_counts counts;
    size_t dropped;
    (void)state;

    first = *ask("one");
    first.n_messages = 2;
    first.messages[1] = first.messages[0];
    first.messages[0] = message("system", "be brief");
    session_pin(s, &first);
    turn(s, &first, "1st");
    turn(s, ask("two"), "2nd");
    assert_int_equal(session_compose(s, ask("three"), &composed, &dropped, &counts), SESSION_FITS);
    struct session_outcome o = outcome(&composed, "3rd");
    o.n_trimmed = 2;
    assert_int_equal(session_commit(s, &o, NOW), 0);
    assert_int_equal(s->n_messages, 5);
    expect(s, 0, "system", "be brief");
    expect(s, 1, "user", "two");
    expect(s, 4, "assistant", "3rd");
    assert_int_equal(s->n_covered, 5);
    session_free(s);
}

/* Goal: a history that a request cannot hold is refused with both counts, and trimmed by whole
 * turns only where that is asked for. */
static void too_many_messages_are_refused_or_trimmed(void **state)
{
    static struct msg_generate composed;
    struct session *s = session_new(1000, strview_of("chat"), NOW);
    struct session_counts counts = {0};
    size_t dropped = 0;
    (void)state;

    session_pin(s, ask("q"));
    for (unsigned i = 0; i < MSG_MESSAGES_MAX / 2; i++) {
        turn(s, ask("q"), "a");
    }
    assert_int_equal(s->n_messages, MSG_MESSAGES_MAX);
    assert_int_equal(session_compose(s, ask("q"), &composed, &dropped, &counts),
                     SESSION_MANY_MESSAGES);
    assert_int_equal(counts.have, MSG_MESSAGES_MAX + 1);
    assert_int_equal(counts.limit, MSG_MESSAGES_MAX);
    struct msg_generate *again = ask("last");
    again->trim = true;
    assert_int_equal(session_compose(s, again, &composed, &dropped, &counts), SESSION_FITS);
    assert_int_equal(dropped, 2);
    assert_int_equal(composed.n_messages, MSG_MESSAGES_MAX - 1);
    assert_true(strview_is(composed.messages[composed.n_messages - 1].content, "last"));
    turn(s, again, "a");
    assert_int_equal(s->n_messages, MSG_MESSAGES_MAX);
    session_free(s);
}

static void too_many_bytes_are_refused_or_trimmed(void **state)
{
    static struct msg_generate composed;
    struct session *s = session_new(1000, strview_of("chat"), NOW);
    struct session_counts counts = {0};
    char *big = malloc(400001);
    size_t dropped = 0;
    (void)state;

    assert_non_null(big);
    memset(big, 'x', 400000);
    big[400000] = '\0';
    session_pin(s, ask("q"));
    turn(s, ask(big), "1");
    turn(s, ask(big), "2");
    assert_int_equal(session_compose(s, ask(big), &composed, &dropped, &counts),
                     SESSION_MANY_BYTES);
    assert_true(counts.have > counts.limit);
    struct msg_generate *again = ask(big);
    again->trim = true;
    assert_int_equal(session_compose(s, again, &composed, &dropped, &counts), SESSION_FITS);
    assert_int_equal(dropped, 2);
    assert_int_equal(composed.n_messages, 3);
    /* Nothing helps where the new message alone is too long. */
    again->messages[0].content.n = 400000;
    again->n_messages = 3;
    again->messages[1] = again->messages[2] = again->messages[0];
    assert_int_equal(session_compose(s, again, &composed, &dropped, &counts), SESSION_MANY_BYTES);
    free(big);
    session_free(s);
}

/* Goal: later turns go on with the pinned values, a value given counts for that request alone. */
static void pins_fill_in_what_a_request_leaves_out(void **state)
{
    static struct msg_generate composed;
    struct session *s = session_new(1000, strview_of("chat"), NOW);
    struct session_counts counts;
    size_t dropped;
    (void)state;

    struct msg_generate *g = ask("one");
    g->has_temperature = g->has_seed = g->has_top_k = true;
    g->temperature = 0.5f;
    g->seed = 42;
    g->top_k = 7;
    g->no_thinking = true;
    session_pin(s, g);
    turn(s, g, "1");
    g = ask("two");
    g->has_temperature = true;
    g->temperature = 0;
    assert_int_equal(session_compose(s, g, &composed, &dropped, &counts), SESSION_FITS);
    assert_true(composed.has_temperature && composed.temperature == 0);
    assert_true(composed.has_seed && composed.seed == 42);
    assert_true(composed.has_top_k && composed.top_k == 7);
    assert_false(composed.has_top_p);
    assert_true(composed.no_thinking);
    assert_false(composed.has_session);
    assert_true(strview_is(composed.model, "m"));
    assert_int_equal(session_compose(s, ask("3"), &composed, &dropped, &counts), SESSION_FITS);
    assert_true(composed.temperature == 0.5f);
    session_free(s);
}

static void what_differs_from_the_pins_is_named(void **state)
{
    struct session *s = session_new(1000, strview_of("chat"), NOW);
    (void)state;

    session_pin(s, ask("one"));
    turn(s, ask("one"), "1");
    struct msg_generate *g = ask("two");
    assert_null(session_mismatch(s, g));
    g->model = strview_of("m");
    g->quantization = strview_of("takane-1bit"); /* an alias of what it is */
    assert_null(session_mismatch(s, g));
    g->quantization = strview_of("Q1_0");
    assert_null(session_mismatch(s, g));
    g->quantization = strview_of("ternary");
    assert_string_equal(session_mismatch(s, g), "quantization");
    g = ask("two");
    g->model = strview_of("other");
    assert_string_equal(session_mismatch(s, g), "model");
    g = ask("two");
    g->chat_template = strview_of("chatml");
    assert_string_equal(session_mismatch(s, g), "chat_template");
    g = ask("two");
    g->no_thinking = true;
    assert_string_equal(session_mismatch(s, g), "no_thinking");
    assert_true(session_same_weights(s, "binary", "Q1_0+F16"));
    assert_false(session_same_weights(s, "ternary", "TQ2_0"));
    session_free(s);
}

/* Goal: one uid's sessions are another's neither by name nor by bound. */
static void sessions_are_found_by_uid_and_name(void **state)
{
    struct session_table t;
    (void)state;

    session_table_init(&t);
    struct session *a = session_new(1, strview_of("x"), NOW);
    struct session *b = session_new(2, strview_of("x"), NOW);
    session_add(&t, a);
    session_add(&t, b);
    assert_ptr_equal(session_find(&t, 1, strview_of("x")), a);
    assert_ptr_equal(session_find(&t, 2, strview_of("x")), b);
    assert_null(session_find(&t, 3, strview_of("x")));
    assert_null(session_find(&t, 1, strview_of("y")));
    session_remove(&t, a);
    assert_null(session_find(&t, 1, strview_of("x")));
    assert_int_equal(t.n, 1);
    session_table_deinit(&t);
}

static void bounds_hold_per_uid_and_in_all(void **state)
{
    const struct session_limits two = {
        .count = 2, .bytes = 100000, .total_bytes = 150000, .age_s = 1};
    struct session_counts counts = {0};
    struct session_table t;
    (void)state;

    session_table_init(&t);
    struct session *a = session_new(1, strview_of("a"), NOW);
    session_add(&t, a);
    assert_int_equal(session_admit(&t, &two, 1, NULL, 0, &counts), SESSION_OK);
    session_add(&t, session_new(1, strview_of("b"), NOW));
    assert_int_equal(session_admit(&t, &two, 1, NULL, 0, &counts), SESSION_COUNT);
    assert_int_equal(counts.have, 2);
    assert_int_equal(counts.limit, 2);
    assert_int_equal(session_admit(&t, &two, 1, a, 0, &counts), SESSION_OK);
    assert_int_equal(session_admit(&t, &two, 2, NULL, 0, &counts), SESSION_OK);
    a->reserved = 90000;
    assert_int_equal(session_admit(&t, &two, 1, a, 20000, &counts), SESSION_BYTES);
    assert_int_equal(counts.limit, 100000);
    assert_int_equal(session_admit(&t, &two, 2, NULL, 20000, &counts), SESSION_OK);
    assert_int_equal(session_admit(&t, &two, 2, NULL, 70000, &counts), SESSION_TOTAL_BYTES);
    assert_int_equal(counts.limit, 150000);
    assert_int_equal(session_admit(&t, &roomy, 1, a, UINT32_MAX, &counts), SESSION_BYTES);
    session_table_deinit(&t);
}

/* Goal: an unused session goes, one with a turn does not, and a clock that was never set, or set
 * back, forgets nothing. */
static void old_sessions_expire_by_a_clock_that_is_right(void **state)
{
    struct session_table t;
    (void)state;

    session_table_init(&t);
    struct session *s = session_new(1, strview_of("a"), NOW);
    session_add(&t, s);
    assert_null(session_expired(&t, 100, NOW + 100));
    s->busy = true;
    assert_null(session_expired(&t, 100, NOW + 101));
    s->busy = false;
    assert_ptr_equal(session_expired(&t, 100, NOW + 101), s);

    assert_null(session_expired(&t, 100, 5000)); /* 1970 */
    s->used_s = 5000;
    assert_null(session_expired(&t, 100, NOW));
    assert_int_equal(s->used_s, NOW);
    assert_null(session_expired(&t, 100, NOW - 50)); /* set back */
    assert_ptr_equal(session_expired(&t, 100, NOW + 51), s);
    session_table_deinit(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_joins_the_history_with_its_ids),
        cmocka_unit_test(ids_of_an_answer_that_was_cut_are_not_kept),
        cmocka_unit_test(what_the_engine_trims_leaves_the_history),
        cmocka_unit_test(too_many_messages_are_refused_or_trimmed),
        cmocka_unit_test(too_many_bytes_are_refused_or_trimmed),
        cmocka_unit_test(pins_fill_in_what_a_request_leaves_out),
        cmocka_unit_test(what_differs_from_the_pins_is_named),
        cmocka_unit_test(sessions_are_found_by_uid_and_name),
        cmocka_unit_test(bounds_hold_per_uid_and_in_all),
        cmocka_unit_test(old_sessions_expire_by_a_clock_that_is_right),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
