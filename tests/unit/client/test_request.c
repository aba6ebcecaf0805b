/* Requests: what is sent, and the answers that come back. */
#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "client/onebit.h"
#include "tests/unit/client/fake.h"
#include "tests/unit/client/watch.h"

/* ---- answers ---- */

static void serve_one_answer(struct fake_conn *c, void *arg)
{
    const struct msg_accepted accepted = {.global = 99, .model = strview_of("home")};
    const struct msg_progress progress = {.phase = PHASE_PREFILL, .done = 3, .total = 7};

    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_GENERATE);
    assert(message_put_accepted(&c->out, id, &accepted) == 0);
    assert(message_put_progress(&c->out, id, &progress) == 0);
    fake_text(c, id, 0, "one ");
    fake_text(c, id + 1000, 0, "of nobody"); /* an id that is not in flight is passed over */
    fake_text(c, id, 1, "");
    fake_text(c, id, 2, "t\xc3\xa9st");
    fake_done(c, id, 3);
    fake_until_hang_up(c);
}

static void an_answer_arrives_whole_and_in_order(void **state)
{
    struct fake *f = fake_start(serve_one_answer, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0};

    assert_int_equal(onebit_run(conn, &r, &h, &s), 0);
    assert_string_equal(s.order, "aptttd");
    assert_string_equal(s.text, "one t\xc3\xa9st");
    assert_int_equal(s.n_ids, 3);
    assert_int_equal(s.ids[2], 102);
    assert_int_equal(s.request, 99);
    assert_string_equal(s.model, "home");
    assert_string_equal(s.cpu, "scalar");
    assert_int_equal(s.answer_tokens, 3);
    onebit_disconnect(conn);
    fake_stop(f);
}

/* Goal: the stream may be cut anywhere. Method: the same answer, a byte at a time. */
static void serve_byte_by_byte(struct fake_conn *c, void *arg)
{
    const struct msg_delta delta = {.text = strview_of("slow")};
    const struct msg_done done = {.finish_reason = strview_of("stop")};
    const int32_t ids[] = {5};

    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_GENERATE);
    assert(message_put_delta(&c->out, id, &delta, ids, 1, NULL, 0) == 0);
    assert(message_put_done(&c->out, id, &done) == 0);
    for (size_t i = 0; i < c->out.n; i++) {
        fake_bytes(c, c->out.data + i, 1);
    }
    fake_until_hang_up(c);
}

static void an_answer_may_come_byte_by_byte(void **state)
{
    struct fake *f = fake_start(serve_byte_by_byte, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0};

    assert_int_equal(onebit_run(conn, &r, &h, &s), 0);
    assert_string_equal(s.text, "slow");
    assert_string_equal(s.order, "td");
    onebit_disconnect(conn);
    fake_stop(f);
}

static void serve_two_mixed(struct fake_conn *c, void *arg)
{
    fake_greet(c);
    const uint32_t a = fake_expect(c, MSG_GENERATE), b = fake_expect(c, MSG_GENERATE);
    fake_text(c, b, 0, "b0");
    fake_text(c, a, 0, "a0");
    fake_text(c, b, 1, "b1");
    fake_done(c, b, 2);
    fake_text(c, a, 1, "a1");
    fake_done(c, a, 2);
    fake_until_hang_up(c);
}

static void two_requests_share_a_connection(void **state)
{
    struct fake *f = fake_start(serve_two_mixed, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    struct onebit_handler h = watch();
    struct seen a = {0}, b = {0};
    uint32_t id_a = 0, id_b = 0;

    assert_int_equal(onebit_generate(conn, &r, &h, &a, &id_a), 0);
    assert_int_equal(onebit_generate(conn, &r, &h, &b, &id_b), 0);
    assert_int_not_equal(id_a, id_b);
    while (!a.ended) {
        assert_int_equal(onebit_dispatch(conn, -1), 0);
    }
    assert_true(b.ended);
    assert_string_equal(a.text, "a0a1");
    assert_string_equal(b.text, "b0b1");
    onebit_disconnect(conn);
    fake_stop(f);
}

static void serve_failure(struct fake_conn *c, void *arg)
{
    const struct msg_error error = {.code = ERR_CONTEXT_TOO_LONG,
                                    .message = strview_of("9000 tokens"),
                                    .retry_after_ms = 1500,
                                    .have = 9000,
                                    .limit = 4096};

    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_GENERATE);
    assert(message_put_error(&c->out, id, &error) == 0);
    fake_flush(c);
    fake_done(c, fake_expect(c, MSG_GENERATE), 0); /* the connection lives on */
    fake_until_hang_up(c);
}

static void a_failed_request_says_everything_and_costs_nobody_else(void **state)
{
    struct fake *f = fake_start(serve_failure, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {0};

    assert_int_equal(onebit_run(conn, &r, &h, &s), ONEBIT_ERR_CONTEXT_TOO_LONG);
    assert_string_equal(s.order, "e");
    assert_int_equal(s.code, ONEBIT_ERR_CONTEXT_TOO_LONG);
    assert_string_equal(s.name, "context_too_long");
    assert_string_equal(s.message, "9000 tokens");
    assert_string_equal(s.hint, onebit_error_info(s.code)->hint);
    assert_int_equal(s.have, 9000);
    assert_int_equal(s.limit, 4096);
    assert_int_equal(s.retry_after_ms, 1500);
    assert_int_equal(onebit_run(conn, &r, NULL, NULL), 0);
    onebit_disconnect(conn);
    fake_stop(f);
}

/* ---- what is sent ---- */

static void serve_and_check_fields(struct fake_conn *c, void *arg)
{
    struct message m;

    fake_greet(c);
    assert(fake_read(c, &m) && m.type == MSG_GENERATE);
    const struct msg_generate *g = &m.generate;
    assert(g->kind == PROMPT_CHAT && g->n_messages == 2);
    assert(strview_is(g->messages[0].role, "system"));
    assert(strview_is(g->messages[1].content, "turn on the light"));
    assert(strview_is(g->model, "home") && strview_is(g->chat_template, "chatml"));
    assert(strview_is(g->quantization, "binary") && g->class_ == CLASS_HIGH);
    assert(g->max_tokens == 12 && g->ignore_eos && g->no_thinking);
    assert(g->has_temperature && g->temperature == 0.0F);
    assert(g->has_top_k && g->top_k == 40 && !g->has_top_p && !g->has_min_p);
    assert(g->has_repeat_penalty && g->repeat_penalty == 1.5F);
    assert(g->has_seed && g->seed == UINT64_MAX);
    assert(g->has_deadline && g->deadline_ms == 0);
    assert(g->n_stops == 2 && strview_is(g->stops[1], "stop") && g->n_logprobs == 3);
    assert(g->has_session && strview_is(g->session, "kitchen") && g->trim && g->no_cache);
    fake_done(c, m.id, 0);

    assert(fake_read(c, &m) && m.type == MSG_GENERATE && m.generate.kind == PROMPT_IDS);
    assert(m.generate.ids.n == 3 && m.generate.class_ == CLASS_NORMAL);
    assert(!m.generate.has_session && !m.generate.trim && !m.generate.no_cache);
    int32_t ids[3];
    msg_ids_copy(&m.generate.ids, ids);
    assert(ids[0] == 1 && ids[2] == 300000);
    fake_done(c, m.id, 0);

    assert(fake_read(c, &m) && m.type == MSG_GENERATE && m.generate.kind == PROMPT_TEXT);
    assert(m.generate.prompt.n == 2 && m.generate.class_ == CLASS_LOW);
    fake_done(c, m.id, 0);
    fake_until_hang_up(c);
}

static void every_field_is_sent_as_it_was_set(void **state)
{
    static const struct onebit_message messages[] = {{"system", "be brief"},
                                                     {"user", "turn on the light"}};
    static const char *const stops[] = {"end", "stop"};
    static const int32_t ids[] = {1, 2, 300000};
    struct fake *f = fake_start(serve_and_check_fields, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r;

    onebit_request_init(&r);
    r.messages = messages;
    r.n_messages = 2;
    r.model = "home";
    r.chat_template = "chatml";
    r.quantization = "binary";
    r.request_class = ONEBIT_CLASS_HIGH;
    r.max_tokens = 12;
    r.ignore_eos = r.no_thinking = true;
    r.has = ONEBIT_HAS_TEMPERATURE | ONEBIT_HAS_TOP_K | ONEBIT_HAS_REPEAT_PENALTY |
            ONEBIT_HAS_SEED | ONEBIT_HAS_DEADLINE;
    r.top_k = 40;
    r.repeat_penalty = 1.5F;
    r.seed = UINT64_MAX;
    r.stops = stops;
    r.n_stops = 2;
    r.n_logprobs = 3;
    r.session = "kitchen";
    r.trim = r.no_cache = true;
    assert_int_equal(onebit_run(conn, &r, NULL, NULL), 0);

    onebit_request_init(&r);
    r.ids = ids;
    r.n_ids = 3;
    assert_int_equal(onebit_run(conn, &r, NULL, NULL), 0);

    r = ask("hi, and what lies past the end");
    r.prompt_bytes = 2;
    r.request_class = ONEBIT_CLASS_LOW;
    assert_int_equal(onebit_run(conn, &r, NULL, NULL), 0);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void serve_nothing(struct fake_conn *c, void *arg)
{
    fake_greet(c);
    fake_until_hang_up(c);
}

static void a_request_that_makes_no_sense_is_not_sent(void **state)
{
    static struct onebit_message many[257];
    struct fake *f = fake_start(serve_nothing, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r;
    struct onebit_handler h = {0};

    onebit_request_init(&r);
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), ONEBIT_ERR_BAD_REQUEST);
    r.prompt = "and";
    r.messages = many;
    r.n_messages = 1;
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), ONEBIT_ERR_BAD_REQUEST);
    r.prompt = NULL;
    r.n_messages = 257;
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), ONEBIT_ERR_BAD_REQUEST);
    r = ask("hi");
    r.n_stops = 17;
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), ONEBIT_ERR_BAD_REQUEST);
    r = ask("hi");
    r.session = ""; /* a session takes messages alone */
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), ONEBIT_ERR_BAD_REQUEST);
    r = ask("hi");
    r.n_logprobs = 21;
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), ONEBIT_ERR_BAD_REQUEST);
    r = ask("hi");
    r.request_class = (enum onebit_class)7;
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), ONEBIT_ERR_BAD_REQUEST);
    r = ask("hi");
    r.size = 0;
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), -EINVAL);
    r = ask("hi");
    assert_int_equal(onebit_generate(conn, &r, &h, NULL, NULL), -EINVAL);
    assert_int_equal(onebit_ask(conn, ONEBIT_LOAD, NULL, NULL, NULL, NULL), ONEBIT_ERR_BAD_REQUEST);
    assert_int_equal(onebit_ask(conn, ONEBIT_PS, "x", NULL, NULL, NULL), ONEBIT_ERR_BAD_REQUEST);
    assert_int_equal(onebit_ask(conn, ONEBIT_SESSION, NULL, NULL, NULL, NULL),
                     ONEBIT_ERR_BAD_REQUEST);
    assert_int_equal(onebit_ask(conn, ONEBIT_METRICS, "x", NULL, NULL, NULL),
                     ONEBIT_ERR_BAD_REQUEST);
    assert_int_equal(onebit_ask(conn, (enum onebit_verb)9, NULL, NULL, NULL, NULL),
                     ONEBIT_ERR_BAD_REQUEST);
    assert_int_equal(onebit_cancel(conn, 12345), ONEBIT_ERR_NO_REQUEST);
    assert_int_equal(onebit_cancel_request(conn, 0, NULL, NULL, NULL), ONEBIT_ERR_BAD_REQUEST);
    onebit_disconnect(conn);
    fake_stop(f);
}

/* Goal: programs and libraries of different ages work together. Method: a request struct that is
 * longer than ours, as a newer header would make it, and one that is shorter. */
static void structs_of_other_sizes_are_understood(void **state)
{
    struct {
        struct onebit_request request;
        uint64_t newer;
    } longer = {ask("hi"), 0};
    struct fake *f = fake_start(serve_nothing, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request shorter = ask("hi");

    longer.request.size = sizeof(longer);
    assert_int_equal(onebit_generate(conn, &longer.request, NULL, NULL, NULL), 0);
    longer.newer = 1; /* a wish that we cannot know */
    assert_int_equal(onebit_generate(conn, &longer.request, NULL, NULL, NULL),
                     ONEBIT_ERR_UNSUPPORTED);
    shorter.size = offsetof(struct onebit_request, stops);
    shorter.n_stops = 99; /* past the end: not looked at */
    assert_int_equal(onebit_generate(conn, &shorter, NULL, NULL, NULL), 0);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void what_does_not_fit_is_refused_and_the_rest_still_goes(void **state)
{
    struct fake *f = fake_start(serve_nothing, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r;
    const size_t n = FRAME_BODY_MAX + 1;
    char *big = malloc(n);

    assert_non_null(big);
    memset(big, 'x', n);
    r = ask(big);
    r.prompt_bytes = n;
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), -E2BIG);
    r.prompt_bytes = FRAME_BODY_MAX - 1024;
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), 0);
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), 0);
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), -EAGAIN); /* two wait unsent */
    r = ask("small");
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), 0);
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), 0);
    assert_int_equal(onebit_generate(conn, &r, NULL, NULL, NULL), -EAGAIN); /* requests_max is 4 */
    free(big);
    onebit_disconnect(conn);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_arrives_whole_and_in_order),
        cmocka_unit_test(an_answer_may_come_byte_by_byte),
        cmocka_unit_test(two_requests_share_a_connection),
        cmocka_unit_test(a_failed_request_says_everything_and_costs_nobody_else),
        cmocka_unit_test(every_field_is_sent_as_it_was_set),
        cmocka_unit_test(a_request_that_makes_no_sense_is_not_sent),
        cmocka_unit_test(structs_of_other_sizes_are_understood),
        cmocka_unit_test(what_does_not_fit_is_refused_and_the_rest_still_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
