/* Cancelling, the rules of callbacks, and answers that are no text. */
#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "client/onebit.h"
#include "ipc/pack.h"
#include "tests/unit/client/fake.h"
#include "tests/unit/client/watch.h"

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

/* ---- sessions and metrics ---- */

static void put_result(struct fake_conn *c, uint32_t id, const char *text)
{
    struct buf value;
    struct packer p = packer_of(&value);

    buf_init(&value, 256);
    pack_str(&p, strview_of(text));
    assert(message_put_result(&c->out, id, (struct strview){(char *)value.data, value.n}) == 0);
    fake_flush(c);
    buf_deinit(&value);
}

static void serve_session_verbs(struct fake_conn *c, void *arg)
{
    struct message m;

    fake_greet(c);
    put_result(c, fake_expect(c, MSG_SESSIONS), "all");
    assert(fake_read(c, &m) && m.type == MSG_SESSION && strview_is(m.session.session, "kitchen"));
    put_result(c, m.id, "one");
    assert(fake_read(c, &m) && m.type == MSG_SESSION_DROP);
    assert(strview_is(m.session_drop.session, "kitchen"));
    assert(message_put_done(&c->out, m.id, NULL) == 0);
    fake_flush(c);
    fake_error(c, fake_expect(c, MSG_SESSION_DROP), ERR_NO_SESSION, "kitchen");
    put_result(c, fake_expect(c, MSG_METRICS), "# TYPE onebit_up gauge\nonebit_up 1\n");
    fake_until_hang_up(c);
}

static void sessions_are_listed_shown_and_dropped_and_metrics_are_plain_text(void **state)
{
    struct fake *f = fake_start(serve_session_verbs, NULL);
    struct onebit_conn *conn = connected(f);
    char *text = NULL;

    assert_int_equal(onebit_sessions(conn, &text), 0);
    assert_string_equal(text, "\"all\""); /* JSON */
    free(text);
    assert_int_equal(onebit_session(conn, "kitchen", &text), 0);
    assert_string_equal(text, "\"one\"");
    free(text);
    assert_int_equal(onebit_session_drop(conn, "kitchen"), 0);
    assert_int_equal(onebit_session_drop(conn, "kitchen"), ONEBIT_ERR_NO_SESSION);
    assert_int_equal(onebit_metrics(conn, &text), 0);
    assert_string_equal(text, "# TYPE onebit_up gauge\nonebit_up 1\n");
    free(text);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void serve_metrics_that_are_no_text(struct fake_conn *c, void *arg)
{
    static const char number[] = {0x07};

    fake_greet(c);
    assert(message_put_result(&c->out, fake_expect(c, MSG_METRICS), (struct strview){number, 1}) ==
           0);
    fake_flush(c);
    fake_until_hang_up(c);
}

static void metrics_that_are_no_text_are_a_protocol_error(void **state)
{
    struct fake *f = fake_start(serve_metrics_that_are_no_text, NULL);
    struct onebit_conn *conn = connected(f);
    char *text = NULL;

    assert_int_equal(onebit_metrics(conn, &text), -EPROTO);
    assert_null(text);
    onebit_disconnect(conn);
    fake_stop(f);
}

static void serve_a_session(struct fake_conn *c, void *arg)
{
    const struct msg_accepted accepted = {
        .global = 1, .model = strview_of("home"), .session = strview_of("s-17")};
    const struct msg_progress paused = {.phase = PHASE_PAUSED};
    const struct msg_done done = {
        .finish_reason = strview_of("stop"), .trimmed = 6, .cached_answer = true};

    fake_greet(c);
    const uint32_t id = fake_expect(c, MSG_GENERATE);
    assert(message_put_accepted(&c->out, id, &accepted) == 0);
    assert(message_put_progress(&c->out, id, &paused) == 0);
    assert(message_put_done(&c->out, id, &done) == 0);
    fake_flush(c);
    fake_until_hang_up(c);
}

struct session_seen {
    char session[80], phase[16];
    uint32_t trimmed;
    bool cached_answer;
};

static void note_session(struct onebit_conn *conn, uint32_t id, const struct onebit_accepted *a,
                         void *user)
{
    struct session_seen *s = user;

    snprintf(s->session, sizeof(s->session), "%s", a->session);
}

static void note_phase(struct onebit_conn *conn, uint32_t id, const struct onebit_progress *p,
                       void *user)
{
    struct session_seen *s = user;

    snprintf(s->phase, sizeof(s->phase), "%s", p->phase);
}

static void note_end(struct onebit_conn *conn, uint32_t id, const struct onebit_done *d, void *user)
{
    struct session_seen *s = user;

    s->trimmed = d->trimmed;
    s->cached_answer = d->cached_answer;
}

static void a_new_sessions_name_and_what_was_left_out_are_told(void **state)
{
    static const struct onebit_message message = {"user", "and the lamp?"};
    struct fake *f = fake_start(serve_a_session, NULL);
    struct onebit_conn *conn = connected(f);
    struct session_seen s = {0};
    struct onebit_request r;
    struct onebit_handler h;

    onebit_request_init(&r);
    r.messages = &message;
    r.n_messages = 1;
    r.session = "";
    onebit_handler_init(&h);
    h.accepted = note_session;
    h.progress = note_phase;
    h.done = note_end;
    assert_int_equal(onebit_run(conn, &r, &h, &s), 0);
    assert_string_equal(s.session, "s-17");
    assert_string_equal(s.phase, "paused");
    assert_int_equal(s.trimmed, 6);
    assert_true(s.cached_answer);
    onebit_disconnect(conn);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_callback_may_cancel_and_the_request_ends_once),
        cmocka_unit_test(a_callback_may_queue_but_neither_wait_nor_disconnect),
        cmocka_unit_test(log_probabilities_stand_beside_their_tokens),
        cmocka_unit_test(verbs_wait_for_their_answers),
        cmocka_unit_test(sessions_are_listed_shown_and_dropped_and_metrics_are_plain_text),
        cmocka_unit_test(metrics_that_are_no_text_are_a_protocol_error),
        cmocka_unit_test(a_new_sessions_name_and_what_was_left_out_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
