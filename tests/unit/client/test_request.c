/* Requests: what is sent, what comes back, and the rules of callbacks. */
#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "client/onebit.h"
#include "ipc/pack.h"
#include "tests/unit/client/fake.h"

struct seen {
    char text[256];
    char order[64]; /* a letter for each callback */
    int32_t ids[16];
    size_t n_ids;
    int code;
    char name[64], message[128], hint[256];
    uint64_t have, limit;
    uint32_t retry_after_ms, answer_tokens;
    char cpu[16], model[64];
    uint64_t request;
    bool ended;
    int (*in_delta)(struct onebit_conn *conn, uint32_t id); /* called once, in the first delta */
    int in_delta_gave;
};

static void mark(struct seen *s, char letter)
{
    const size_t n = strlen(s->order);

    assert_true(n + 1 < sizeof(s->order));
    s->order[n] = letter;
}

static void on_accepted(struct onebit_conn *conn, uint32_t id,
                        const struct onebit_accepted *accepted, void *user)
{
    struct seen *s = user;

    mark(s, 'a');
    s->request = accepted->request;
    snprintf(s->model, sizeof(s->model), "%s", accepted->model);
}

static void on_progress(struct onebit_conn *conn, uint32_t id,
                        const struct onebit_progress *progress, void *user)
{
    mark(user, 'p');
    assert_string_equal(progress->phase, "prefill");
    assert_int_equal(progress->done, 3);
    assert_int_equal(progress->total, 7);
}

static void on_delta(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                     void *user)
{
    struct seen *s = user;

    mark(s, 't');
    strncat(s->text, delta->text, sizeof(s->text) - strlen(s->text) - 1);
    assert_int_equal(delta->first, s->n_ids);
    for (size_t i = 0; i < delta->n_ids; i++) {
        s->ids[s->n_ids++] = delta->ids[i];
    }
    if (s->in_delta) {
        s->in_delta_gave = s->in_delta(conn, id);
        s->in_delta = NULL;
    }
}

static void on_done(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done,
                    void *user)
{
    struct seen *s = user;

    mark(s, 'd');
    s->ended = true;
    s->answer_tokens = done->answer_tokens;
    snprintf(s->cpu, sizeof(s->cpu), "%s", done->cpu);
}

static void on_error(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                     void *user)
{
    struct seen *s = user;

    mark(s, 'e');
    s->ended = true;
    s->code = failure->code;
    s->have = failure->have;
    s->limit = failure->limit;
    s->retry_after_ms = failure->retry_after_ms;
    snprintf(s->name, sizeof(s->name), "%s", failure->name);
    snprintf(s->message, sizeof(s->message), "%s", failure->message);
    snprintf(s->hint, sizeof(s->hint), "%s", failure->hint);
}

static struct onebit_handler watch(void)
{
    struct onebit_handler h;

    onebit_handler_init(&h);
    h.accepted = on_accepted;
    h.progress = on_progress;
    h.delta = on_delta;
    h.done = on_done;
    h.error = on_error;
    return h;
}

static struct onebit_request ask(const char *prompt)
{
    struct onebit_request r;

    onebit_request_init(&r);
    r.prompt = prompt;
    return r;
}

static struct onebit_conn *connected(const struct fake *f)
{
    struct onebit_conn *conn = NULL;

    assert_int_equal(onebit_connect(&conn, fake_path(f)), 0);
    return conn;
}

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
    fake_done(c, m.id, 0);

    assert(fake_read(c, &m) && m.type == MSG_GENERATE && m.generate.kind == PROMPT_IDS);
    assert(m.generate.ids.n == 3 && m.generate.class_ == CLASS_NORMAL);
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
    assert_int_equal(onebit_cancel(conn, 12345), ONEBIT_ERR_NO_REQUEST);
    assert_int_equal(onebit_cancel_request(conn, 0, NULL, NULL, NULL), ONEBIT_ERR_BAD_REQUEST);
    onebit_disconnect(conn);
    fake_stop(f);
}

/* Goal: programs and libraries of different ages work together. Method: a request struct that is longer
 * than ours, as a newer header would make it, and one that is shorter. */
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

/* ---- cancelling, and callbacks ---- */

static void serve_until_cancelled(struct fake_conn *c, void *arg)
{
    struct message m;

    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_GENERATE);
    fake_text(c, id, 0, "some");
    assert(fake_read(c, &m) && m.type == MSG_CANCEL);
    assert(m.cancel.target == id && m.cancel.global == 0);
    fake_error(c, id, ERR_CANCELLED, "by its client");
    assert(message_put_done(&c->out, m.id, NULL) == 0);
    fake_flush(c);
    assert(fake_read(c, &m) && m.type == MSG_CANCEL && m.cancel.global == 4711);
    fake_error(c, m.id, ERR_NO_REQUEST, "it has ended");
    fake_until_hang_up(c);
}

static int cancel_it(struct onebit_conn *conn, uint32_t id)
{
    const int r = onebit_cancel(conn, id);

    assert_int_equal(onebit_cancel(conn, id), 0); /* a second time is no second frame */
    return r;
}

static void a_callback_may_cancel_and_the_request_ends_once(void **state)
{
    struct fake *f = fake_start(serve_until_cancelled, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {.in_delta = cancel_it, .in_delta_gave = 77}, other = {0};

    assert_int_equal(onebit_run(conn, &r, &h, &s), ONEBIT_ERR_CANCELLED);
    assert_int_equal(s.in_delta_gave, 0);
    assert_string_equal(s.order, "te");
    assert_string_equal(s.text, "some");
    assert_int_equal(onebit_cancel_request(conn, 4711, &h, &other, NULL), 0);
    while (!other.ended) {
        assert_int_equal(onebit_dispatch(conn, -1), 0);
    }
    assert_int_equal(other.code, ONEBIT_ERR_NO_REQUEST);
    onebit_disconnect(conn);
    fake_stop(f);
}

static struct seen second; /* of the request that a callback queues */

static int misuse(struct onebit_conn *conn, uint32_t id)
{
    struct onebit_request r = ask("again");
    struct onebit_handler h = watch();
    char *json = NULL;

    assert_int_equal(onebit_dispatch(conn, 0), -EBUSY);
    assert_int_equal(onebit_run(conn, &r, NULL, NULL), -EBUSY);
    assert_int_equal(onebit_list(conn, &json), -EBUSY);
    assert_int_equal(onebit_load(conn, "home"), -EBUSY);
    onebit_disconnect(conn); /* does nothing */
    return onebit_generate(conn, &r, &h, &second, NULL);
}

static void serve_two_in_turn(struct fake_conn *c, void *arg)
{
    fake_greet(c);
    const uint32_t a = fake_expect(c, MSG_GENERATE);
    fake_text(c, a, 0, "first");
    const uint32_t b = fake_expect(c, MSG_GENERATE);
    fake_text(c, b, 0, "second");
    fake_done(c, b, 1);
    fake_done(c, a, 1);
    fake_until_hang_up(c);
}

static void a_callback_may_queue_but_neither_wait_nor_disconnect(void **state)
{
    struct fake *f = fake_start(serve_two_in_turn, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    struct onebit_handler h = watch();
    struct seen s = {.in_delta = misuse, .in_delta_gave = 77};

    memset(&second, 0, sizeof(second));
    assert_int_equal(onebit_run(conn, &r, &h, &s), 0);
    assert_int_equal(s.in_delta_gave, 0);
    assert_string_equal(s.order, "td");
    assert_string_equal(second.order, "td");
    assert_string_equal(second.text, "second");
    onebit_disconnect(conn);
    fake_stop(f);
}

/* ---- logprobs and results ---- */

static void serve_logprobs(struct fake_conn *c, void *arg)
{
    const struct msg_delta delta = {.text = strview_of("ab")};
    const int32_t ids[] = {5, 9};
    const struct msg_logprob rows[] = {{5, -0.25F}, {7, -2.0F}, {9, -0.5F}, {5, -1.0F}};

    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_GENERATE);
    assert(message_put_delta(&c->out, id, &delta, ids, 2, rows, 2) == 0);
    fake_done(c, id, 2);
    fake_until_hang_up(c);
}

static void check_logprobs(struct onebit_conn *conn, uint32_t id, const struct onebit_delta *delta,
                           void *user)
{
    assert_int_equal(delta->n_ids, 2);
    assert_non_null(delta->logprobs);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(delta->logprobs[i].n, 2);
        assert_int_equal(delta->logprobs[i].alternatives[0].id, delta->ids[i]);
    }
    assert_true(delta->logprobs[0].alternatives[1].logprob == -2.0F);
    assert_true(delta->logprobs[1].alternatives[0].logprob == -0.5F);
    *(bool *)user = true;
}

static void log_probabilities_stand_beside_their_tokens(void **state)
{
    struct fake *f = fake_start(serve_logprobs, NULL);
    struct onebit_conn *conn = connected(f);
    struct onebit_request r = ask("hi");
    struct onebit_handler h;
    bool called = false;

    onebit_handler_init(&h);
    h.delta = check_logprobs;
    r.n_logprobs = 1;
    assert_int_equal(onebit_run(conn, &r, &h, &called), 0);
    assert_true(called);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void serve_verbs(struct fake_conn *c, void *arg)
{
    struct buf value;
    struct packer p = packer_of(&value);
    struct message m;

    fake_greet(c);
    buf_init(&value, 256);
    pack_map(&p, 1);
    pack_z(&p, "uptime_ms");
    pack_uint(&p, 12);
    const uint32_t id = fake_expect(c, MSG_STATUS);
    assert(message_put_result(&c->out, id, (struct strview){(char *)value.data, value.n}) == 0);
    fake_flush(c);
    buf_deinit(&value);
    assert(fake_read(c, &m) && m.type == MSG_LOAD && strview_is(m.load.model, "home"));
    assert(message_put_done(&c->out, m.id, NULL) == 0);
    fake_flush(c);
    fake_error(c, fake_expect(c, MSG_UNLOAD), ERR_MODEL_BUSY, "2 requests use it");
    const uint32_t list = fake_expect(c, MSG_LIST); /* an answer without its result */
    assert(message_put_done(&c->out, list, NULL) == 0);
    fake_flush(c);
    fake_until_hang_up(c);
}

static void verbs_wait_for_their_answers(void **state)
{
    struct fake *f = fake_start(serve_verbs, NULL);
    struct onebit_conn *conn = connected(f);
    char *json = NULL;

    assert_int_equal(onebit_status(conn, &json), 0);
    assert_string_equal(json, "{\"uptime_ms\":12}");
    free(json);
    json = NULL;
    assert_int_equal(onebit_load(conn, "home"), 0);
    assert_int_equal(onebit_unload(conn, "home"), ONEBIT_ERR_MODEL_BUSY);
    assert_int_equal(onebit_list(conn, &json), -EPROTO);
    assert_null(json);
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
        cmocka_unit_test(a_callback_may_cancel_and_the_request_ends_once),
        cmocka_unit_test(a_callback_may_queue_but_neither_wait_nor_disconnect),
        cmocka_unit_test(log_probabilities_stand_beside_their_tokens),
        cmocka_unit_test(verbs_wait_for_their_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
